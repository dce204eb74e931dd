"""The soft cross-entropy against numpy, and what augmentation may do to an image."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from dfkd_exp.distillation.losses import random_affine, soft_cross_entropy
from dfkd_exp.inputs import InputSpec


def logits(seed, count=6, classes=5):
    return 10 * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 8.0])
def test_soft_cross_entropy_is_hintons(temperature):
    """-T^2 sum_k p_k log q_k, mean over images; p and q the softmax of teacher's and student's logits over T."""
    student, teacher = logits(0), logits(1)
    p = softmax(teacher.numpy() / temperature, axis=1)
    log_q = log_softmax(student.numpy() / temperature, axis=1)
    expected = -(temperature**2) * np.mean(np.sum(p * log_q, axis=1))
    np.testing.assert_allclose(soft_cross_entropy(student, teacher, temperature), expected)


def test_it_is_least_where_the_student_says_what_the_teacher_says_up_to_a_constant():
    teacher = logits(1)
    student = (teacher + 3).requires_grad_(True)
    soft_cross_entropy(student, teacher, 4.0).backward()
    assert student.grad.abs().max() < 1e-12
    assert soft_cross_entropy(teacher, teacher, 4.0) < soft_cross_entropy(teacher + logits(2) / 10, teacher, 4.0)


def test_with_a_sure_teacher_and_no_temperature_it_is_the_usual_cross_entropy():
    student, labels = logits(0), torch.tensor([0, 1, 2, 3, 4, 0])
    sure = 1e4 * torch.nn.functional.one_hot(labels, 5).double()
    torch.testing.assert_close(
        soft_cross_entropy(student, sure, 1.0), torch.nn.functional.cross_entropy(student, labels)
    )


def test_gradients_keep_their_size_at_any_temperature():
    """Hinton et al.: for high temperatures the gradient tends to (z_s - z_t) / K / N, with both of mean zero."""
    student, teacher = (z - z.mean(1, keepdim=True) for z in (logits(0), logits(1)))
    student.requires_grad_(True)
    soft_cross_entropy(student, teacher, 1e4).backward()
    torch.testing.assert_close(student.grad, ((student - teacher) / 5 / 6).detach(), atol=1e-3, rtol=0)


def test_soft_targets_are_told_apart_whatever_the_type_of_the_logits():
    """The loss of a student that equals its teacher cannot be lowered: its gradient is zero, which in bfloat16 it would not be."""
    teacher = (10 * torch.randn(64, 10, generator=torch.Generator().manual_seed(0))).bfloat16()
    student = teacher.clone().requires_grad_(True)
    loss = soft_cross_entropy(student, teacher, 8.0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert student.grad.abs().max() < 1e-6
    exact = soft_cross_entropy(teacher.double() + 1, teacher.double(), 8.0)  # a constant changes nothing
    torch.testing.assert_close(loss.double(), exact.double(), rtol=1e-5, atol=0)


SPEC = InputSpec((2, 9, 7), (-1.0, 0.0), (2.0, 5.0))


def shown():
    return SPEC.from_pixels(torch.rand(5, 2, 9, 7, generator=torch.Generator().manual_seed(0)))


def affine(images, seed=0, degrees=20.0, shift=0.2, scale=0.2):
    torch.manual_seed(seed)
    return random_affine(images, SPEC, degrees, shift, scale)


def test_augmentation_keeps_shape_and_range_and_depends_on_the_seed():
    first, again, other = affine(shown()), affine(shown()), affine(shown(), seed=1)
    assert first.shape == shown().shape
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    pixels = SPEC.to_pixels(first)
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6


def test_the_map_is_that_of_pytorchs_affine_grid():
    """The four amounts of an image: angle, size, and the shifts along the width and the height."""
    uniform = torch.rand(5, 4, generator=torch.Generator().manual_seed(3))
    amounts = 2 * uniform.double().numpy() - 1
    angle, size = np.radians(20.0) * amounts[:, 0], 1 + 0.2 * amounts[:, 1]
    cosine, sine, shift = size * np.cos(angle), size * np.sin(angle), 2 * 0.1 * amounts[:, 2:]
    theta = np.stack([cosine, -sine * 9 / 7, shift[:, 0], sine * 7 / 9, cosine, shift[:, 1]], 1).reshape(5, 2, 3)
    grid = torch.nn.functional.affine_grid(torch.from_numpy(theta), (5, 2, 9, 7), align_corners=False)
    low = torch.tensor([-1.0, 0.0])[:, None, None].double()
    expected = torch.nn.functional.grid_sample(shown().double() - low, grid, align_corners=False) + low
    moved = random_affine(shown(), SPEC, 20.0, 0.1, 0.2, uniform)
    torch.testing.assert_close(moved.double(), expected, atol=1e-4, rtol=0)


def test_images_are_moved_in_parts_as_all_at_once():
    uniform = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    whole = random_affine(shown(), SPEC, 20.0, 0.2, 0.2, uniform)
    parts = [
        random_affine(images, SPEC, 20.0, 0.2, 0.2, own)
        for images, own in zip(shown().split(2), uniform.split(2), strict=True)
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_every_image_is_moved_in_its_own_way():
    same = shown()[:1].repeat(5, 1, 1, 1)
    assert len(affine(same).flatten(1).unique(dim=0)) == 5


def test_nothing_is_changed_by_nothing():
    torch.testing.assert_close(affine(shown(), degrees=0, shift=0, scale=0), shown(), atol=1e-5, rtol=0)


def test_outside_the_image_is_black_not_zero():
    black = SPEC.from_pixels(torch.zeros(5, 2, 9, 7))
    torch.testing.assert_close(affine(black, shift=0.5), black)


def test_a_shift_is_a_share_of_the_images_size():
    """One bright pixel in the middle stays within the share; often it moves by most of it."""
    spec = InputSpec((1, 41, 41), (0.0,), (1.0,))
    images = torch.zeros(200, 1, 41, 41)
    images[:, :, 19:22, 19:22] = 1
    torch.manual_seed(0)
    moved = random_affine(images, spec, 0.0, 0.25, 0.0)[:, 0]
    for across in (1, 2):
        centre = (moved.sum(across) * torch.arange(41.0)).sum(1) / moved.sum((1, 2)) - 20
        assert 0.9 * 0.25 * 41 < centre.abs().max() <= 0.25 * 41 + 0.01
        assert centre.mean().abs() < 1.5


def test_an_image_that_is_not_square_is_turned_without_shear():
    """A bar across the middle of a wide image stays as long as it was, however it is turned."""
    images = torch.zeros(200, 1, 31, 93)
    images[:, :, 14:17, 31:62] = 1
    torch.manual_seed(0)
    moved = random_affine(images, InputSpec((1, 31, 93), (0.0,), (1.0,)), 20.0, 0.0, 0.0)[:, 0]
    weight = moved / moved.sum((1, 2), keepdim=True)
    down, across = torch.meshgrid(torch.arange(31.0) - 15, torch.arange(93.0) - 46, indexing="ij")
    spread = (weight * (down.square() + across.square())).sum((1, 2)).sqrt()
    assert (spread / spread[0]).sub(1).abs().max() < 0.03
    assert (weight * down.square()).sum((1, 2)).sqrt().max() > 2, "some are turned"


def test_no_image_is_mirrored():
    spec = InputSpec((1, 21, 21), (0.0,), (1.0,))
    images = torch.zeros(50, 1, 21, 21)
    images[..., :8] = 1
    torch.manual_seed(0)
    moved = random_affine(images, spec, 20.0, 0.1, 0.1)
    assert (moved[..., :10].sum((1, 2, 3)) > moved[..., 11:].sum((1, 2, 3))).all()
