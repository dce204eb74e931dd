"""What augmentation may do to an image."""

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.inputs import InputSpec
from dfkd_exp.training.augmentation import (
    Affine,
    Auto,
    AutoMixed,
    FlipAndCrop,
    Mixed,
    MixedParts,
    NoAugmentation,
    ResizedCrop,
)
from dfkd_exp.training.settings import Training
from dfkd_exp.training.transforms import affine, flip_and_crop, mixed, resized_crop

SPEC = InputSpec((2, 9, 7), (-1.0, 0.0), (2.0, 5.0))
POLICIES = [
    NoAugmentation(),
    Affine(20.0, 0.2, 0.2),
    FlipAndCrop(),
    FlipAndCrop(padding=2, reflect=True),
    ResizedCrop(),
]
CHANGING = POLICIES[1:]
MIXING = [Mixed(mixture=mixture, padding=2) for mixture in ("mixup", "cutmix", "either")] + [MixedParts()]


def shown(count=5, spec=SPEC):
    return spec.from_pixels(torch.rand(count, *spec.shape, generator=torch.Generator().manual_seed(0)))


def uniform(count, numbers=4, seed=0):
    return torch.rand(count, numbers, generator=torch.Generator().manual_seed(seed))


def low(spec=SPEC):
    return spec.bounds(torch.zeros(()))[0]


def by(policy, images, seed=0, spec=SPEC):
    return policy(images, uniform(len(images), policy.num_random, seed), low(spec))


def moved(images, seed=0, degrees=20.0, shift=0.2, scale=0.2, spec=SPEC):
    return affine(images, uniform(len(images), seed=seed), low(spec), degrees, shift, scale)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("policy", [*POLICIES, *MIXING], ids=str)
def test_a_policy_keeps_shape_and_range_whatever_the_channels(policy, channels):
    spec = InputSpec((channels, 9, 7), (-1.0, 0.0, 2.0, -3.0)[:channels], (2.0, 5.0, 2.5, -1.0)[:channels])
    changed = by(policy, shown(spec=spec), spec=spec)
    assert changed.shape == (5, channels, 9, 7)
    pixels = spec.to_pixels(changed)
    assert pixels.min() >= -1e-5
    assert pixels.max() <= 1 + 1e-5


@pytest.mark.parametrize("policy", CHANGING, ids=str)
def test_a_policy_depends_on_the_image_and_its_numbers_alone(policy):
    images, numbers = shown(), uniform(5, policy.num_random)
    whole, kept = policy(images, numbers, low()), images.clone()
    parts = [policy(some, own, low()) for some, own in zip(images.split(2), numbers.split(2), strict=True)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(policy(images, numbers, low()), whole)
    assert not torch.allclose(by(policy, images, seed=1), whole)
    assert torch.equal(images, kept)


@pytest.mark.parametrize("policy", CHANGING, ids=str)
def test_every_image_is_changed_in_its_own_way(policy):
    same = shown()[:1].repeat(8, 1, 1, 1)
    assert len(by(policy, same).flatten(1).unique(dim=0)) > 5


@pytest.mark.parametrize("policy", [*POLICIES, *MIXING], ids=str)
def test_outside_the_image_is_black_not_zero(policy):
    black = SPEC.from_pixels(torch.zeros(5, 2, 9, 7))
    torch.testing.assert_close(by(policy, black), black)


def test_the_map_is_that_of_pytorchs_affine_grid():
    """The four amounts of an image: angle, size, and the shifts along the width and the height."""
    numbers = uniform(5, seed=3)
    amounts = 2 * numbers.double().numpy() - 1
    angle, size = np.radians(20.0) * amounts[:, 0], 1 + 0.2 * amounts[:, 1]
    cosine, sine, shift = size * np.cos(angle), size * np.sin(angle), 2 * 0.1 * amounts[:, 2:]
    theta = np.stack([cosine, -sine * 9 / 7, shift[:, 0], sine * 7 / 9, cosine, shift[:, 1]], 1).reshape(5, 2, 3)
    grid = torch.nn.functional.affine_grid(torch.from_numpy(theta), (5, 2, 9, 7), align_corners=False)
    outside = low().double()
    expected = torch.nn.functional.grid_sample(shown().double() - outside, grid, align_corners=False) + outside
    ours = affine(shown(), numbers, low(), 20.0, 0.1, 0.2)
    torch.testing.assert_close(ours.double(), expected, atol=1e-4, rtol=0)


def test_nothing_is_changed_by_nothing():
    torch.testing.assert_close(moved(shown(), degrees=0, shift=0, scale=0), shown(), atol=1e-5, rtol=0)
    assert torch.equal(flip_and_crop(shown(), uniform(5, 3), low(), padding=0, flip=False), shown())


def test_a_shift_is_a_share_of_the_images_size():
    """One bright pixel in the middle stays within the share; often it moves by most of it."""
    spec = InputSpec((1, 41, 41), (0.0,), (1.0,))
    images = torch.zeros(200, 1, 41, 41)
    images[:, :, 19:22, 19:22] = 1
    shifted = moved(images, degrees=0.0, shift=0.25, scale=0.0, spec=spec)[:, 0]
    for across in (1, 2):
        centre = (shifted.sum(across) * torch.arange(41.0)).sum(1) / shifted.sum((1, 2)) - 20
        assert 0.9 * 0.25 * 41 < centre.abs().max() <= 0.25 * 41 + 0.01
        assert centre.mean().abs() < 1.5


def test_an_image_that_is_not_square_is_turned_without_shear():
    """A bar across the middle of a wide image stays as long as it was, however it is turned."""
    images = torch.zeros(200, 1, 31, 93)
    images[:, :, 14:17, 31:62] = 1
    turned = moved(images, degrees=20.0, shift=0.0, scale=0.0, spec=InputSpec((1, 31, 93), (0.0,), (1.0,)))[:, 0]
    weight = turned / turned.sum((1, 2), keepdim=True)
    down, across = torch.meshgrid(torch.arange(31.0) - 15, torch.arange(93.0) - 46, indexing="ij")
    spread = (weight * (down.square() + across.square())).sum((1, 2)).sqrt()
    assert (spread / spread[0]).sub(1).abs().max() < 0.03
    assert (weight * down.square()).sum((1, 2)).sqrt().max() > 2, "some are turned"


def test_no_affine_map_mirrors_an_image():
    spec = InputSpec((1, 21, 21), (0.0,), (1.0,))
    images = torch.zeros(50, 1, 21, 21)
    images[..., :8] = 1
    turned = moved(images, degrees=20.0, shift=0.1, scale=0.1, spec=spec)
    assert (turned[..., :10].sum((1, 2, 3)) > turned[..., 11:].sum((1, 2, 3))).all()


def cropped_by_loop(image, numbers, outside, padding, reflect):
    """RandomCrop of the padded image and RandomHorizontalFlip, as the field writes them, for one image."""
    height, width = image.shape[-2:]
    if reflect:
        padded = pad(image[None], [padding] * 4, mode="reflect")[0]
    else:
        padded = outside.expand(-1, height + 2 * padding, width + 2 * padding).clone()
        padded[:, padding : padding + height, padding : padding + width] = image
    top, left = (int(number * (2 * padding + 1)) for number in numbers[:2])
    crop = padded[:, top : top + height, left : left + width]
    return crop.flip(-1) if numbers[2] < 0.5 else crop


@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize("padding", [1, 4])
def test_flip_and_crop_is_the_fields_to_the_last_bit(padding, reflect):
    images, numbers = shown(40), uniform(40, 3).tolist()
    ours = flip_and_crop(images, torch.tensor(numbers), low(), padding, reflect)
    for image, own, changed in zip(images, numbers, ours, strict=True):
        assert torch.equal(changed, cropped_by_loop(image, own, low(), padding, reflect))


def test_crops_reach_every_place_and_half_are_mirrored():
    spec = InputSpec((1, 15, 15), (0.0,), (1.0,))
    images = torch.zeros(2000, 1, 15, 15)
    images[:, :, 7, 7] = 1
    places = by(FlipAndCrop(padding=3), images, spec=spec).flatten(1).argmax(1)
    assert sorted({(int(p) // 15 - 7, int(p) % 15 - 7) for p in places}) == [
        (down, across) for down in range(-3, 4) for across in range(-3, 4)
    ]
    images[:, :, 7, 7], images[:, :, 7, 5] = 0, 1
    mirrored = flip_and_crop(images, uniform(2000, 3), low(spec), padding=0)[:, 0, 7, 9].mean()
    assert mirrored.item() == pytest.approx(0.5, abs=0.05)
    kept = flip_and_crop(images, uniform(2000, 3), low(spec), padding=0, flip=False)
    assert torch.equal(kept, images)


def test_a_part_is_enlarged_as_an_independent_crop_and_resize_do():
    """A part of half the side, of a ramp along each, is that ramp from where the part begins, in steps of half a pixel."""
    images = torch.arange(8.0)[:, None] * 10 + torch.arange(8.0)  # a ramp, which bilinear interpolation keeps
    images = images.expand(6, 1, 8, 8)
    numbers = uniform(6, 5, seed=2)
    numbers[:, 0], numbers[:, 1] = 0, 0.5  # a quarter of the area, of the image's proportions
    found = resized_crop(images, numbers, area=0.25, proportions=2.0)
    for part, (_, _, down, across, mirrored) in zip(found[:, 0], numbers.tolist(), strict=True):
        top, left = 4 * down, 4 * across  # of a part of 4 x 4 pixels, which is to have 8 x 8
        rows, columns = (first + (torch.arange(8.0) + 0.5) / 2 - 0.5 for first in (top, left))
        expected = rows.clamp(0, 7)[:, None] * 10 + columns.clamp(0, 7)
        torch.testing.assert_close(part, expected.flip(1) if mirrored < 0.5 else expected, atol=1e-3, rtol=0)


def test_parts_have_the_areas_and_proportions_that_were_asked_for_and_lie_within_the_image():
    """Read off where a ramp along each side begins and ends."""
    spec = InputSpec((2, 32, 32), (0.0, 0.0), (1.0, 1.0))
    ramp = (torch.arange(32.0) + 0.5) / 32
    images = torch.stack([ramp[:, None].expand(32, 32), ramp.expand(32, 32)]).expand(2000, 2, 32, 32)
    parts = by(ResizedCrop(area=0.25, proportions=1.5, flip=False), images, spec=spec)
    step = parts[:, :, 16, 16] - parts[:, :, 15, 15]  # of a side, in the middle, where nothing is cut off
    high, wide = (32 * step).unbind(1)
    assert (high * wide).min() > 0.2
    assert (high * wide).max() <= 1.001
    assert (high * wide).mean().item() == pytest.approx(0.625, abs=0.02)
    assert (high / wide).max() == pytest.approx(1.5, abs=0.05)
    assert (wide / high).max() == pytest.approx(1.5, abs=0.05)
    first, last = parts[:, :, 0, 0], parts[:, :, -1, -1]
    assert first.min() < 0.03
    assert last.max() > 0.97


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_images_are_changed_where_they_lie(policy):
    """On a device without values: a mixture of devices raises, and so does what would wait for a GPU."""
    images, numbers, outside = (
        torch.zeros(*shape, device="meta") for shape in ((5, 2, 9, 7), (5, policy.num_random), (2, 1, 1))
    )
    changed = policy(images, numbers, outside)
    assert changed.device.type == "meta"
    assert changed.shape == images.shape


def test_mixup_is_the_weighted_mean_of_an_image_and_the_one_before_it():
    images, numbers = shown(), uniform(5, 5)
    found = mixed(images, numbers, share=1.0, cut_share=0.0)
    for index in range(5):
        left = numbers[index, 2]
        torch.testing.assert_close(found[index], left * images[index] + (1 - left) * images[index - 1])


def test_cutmix_puts_a_rectangle_of_the_one_before_it_into_an_image():
    """Of the share 1 - left of its pixels where it is whole, and in its place."""
    images, numbers = shown(), torch.tensor([[0.0, 0.0, 0.75, 0.5, 0.5]] * 5)
    found = mixed(images, numbers, share=1.0, cut_share=1.0)
    own, other = (found == images).all(1), (found == images.roll(1, 0)).all(1)
    assert (own ^ other).all()
    expected = torch.zeros(9, 7, dtype=torch.bool)
    expected[2:7, 2:5] = True  # within a quarter of the side of the middle: 4.5 of 9 rows, 3.5 of 7 columns
    assert all(torch.equal(rectangle, expected) for rectangle in other)
    corner = mixed(images, numbers * torch.tensor([1, 1, 1, 0, 0]), share=1.0, cut_share=1.0)
    assert (corner != images).any(1).float().mean((1, 2)).max() < expected.float().mean()


def test_a_share_of_the_images_is_mixed_and_a_share_of_these_cut():
    spec = InputSpec((1, 8, 8), (0.0,), (1.0,))
    images = shown(4000, spec)
    changed = mixed(images, uniform(4000, 5), share=0.6, cut_share=0.25)
    same = (changed == images).flatten(1)
    cut = ((changed == images) | (changed == images.roll(1, 0))).flatten(1).all(1) & ~same.all(1)
    assert same.all(1).float().mean().item() == pytest.approx(0.4, abs=0.03)
    assert cut.float().mean().item() == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize(
    ("policy", "alone"), [(Mixed(padding=2), FlipAndCrop(padding=2)), (MixedParts(), ResizedCrop())]
)
def test_images_are_cropped_before_they_are_mixed(policy, alone):
    images, numbers = shown(), uniform(5, policy.num_random)
    assert policy.num_random == alone.num_random + 5
    cropped = alone(images, numbers[:, : alone.num_random], low())
    assert torch.equal(policy(images, numbers, low()), mixed(cropped, numbers[:, alone.num_random :], 0.5, 0.5))


@pytest.mark.parametrize(
    ("shape", "answered", "labelled"),
    [
        ((3, 32, 32), MixedParts(), FlipAndCrop()),
        ((3, 24, 40), MixedParts(), FlipAndCrop()),
        ((3, 16, 32), Affine(), Affine()),
        ((1, 32, 32), Affine(), Affine()),
        ((30,), NoAugmentation(), NoAugmentation()),
        ((3, 32), NoAugmentation(), NoAugmentation()),
    ],
    ids=str,
)
def test_what_is_right_for_the_inputs_is_chosen_by_their_shape(shape, answered, labelled):
    assert Distillation(augmentation=Auto()).suited_to(shape).augmentation == answered
    assert Distillation(augmentation=Auto(), targets="labels").suited_to(shape).augmentation == labelled
    assert Training(augmentation=Auto()).suited_to(shape).augmentation == labelled


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 40, 24), (1, 8, 8), (1, 28), (30,), (3, 32, 32)], ids=str)
def test_students_that_are_taught_for_long_see_mixtures_of_large_grey_images_too(shape):
    chosen = {(1, 28, 28): Mixed(padding=2, flip=False), (2, 40, 24): Mixed(padding=2, flip=False)}
    expected = chosen.get(shape, Auto().suited_to(shape))
    assert Distillation(augmentation=AutoMixed()).suited_to(shape).augmentation == expected
    for learner in (Distillation(augmentation=AutoMixed(), targets="labels"), Training(augmentation=AutoMixed())):
        assert learner.suited_to(shape).augmentation == Auto().suited_to(shape, answered=False)
