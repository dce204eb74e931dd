"""Starting from what a first layer's statistics say of the images."""

import pytest
import torch
from torch import nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata import AllLayers, Channels, TopLayer
from dfkd_exp.metadata.metadata import ResolvedMetadata
from dfkd_exp.metadata.nothing import Nothing
from dfkd_exp.models.recording import frozen
from dfkd_exp.reconstruction.loop import reconstruct
from dfkd_exp.reconstruction.parametrisation.auto import Auto
from dfkd_exp.reconstruction.parametrisation.latents import LatentSpace
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from dfkd_exp.reconstruction.start import around, class_means
from tests.tf32 import on_a_gpu_with_tf32
from tests.toy import CLASSES, INPUTS, normalised_teacher, toy_images, toy_teacher


def true_means():
    images, labels = toy_images()
    return torch.stack([images[labels == label].mean(0) for label in range(CLASSES)])


def test_an_affine_first_layer_gives_the_class_means_away():
    torch.manual_seed(0)
    dense = frozen(nn.Sequential(nn.Flatten(), nn.Linear(36, 50), nn.ReLU(), nn.Linear(50, CLASSES)))
    found = class_means(dense, AllLayers().collect(dense, [toy_images()], INPUTS).resolved(dense), prior=[0.15])
    torch.testing.assert_close(found, true_means(), atol=0.02, rtol=0)
    convolution = frozen(toy_teacher())
    found = class_means(
        convolution, AllLayers().collect(convolution, [toy_images()], INPUTS).resolved(convolution), prior=0.15
    )
    assert (found - true_means()).abs().mean() < 0.1 * (0.15 - true_means()).abs().mean()


def test_of_a_teacher_of_one_layer_the_means_have_the_logits_of_their_classes():
    """Which the statistics say divided by their temperature."""
    torch.manual_seed(0)
    only = frozen(nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES)))
    found = class_means(only, AllLayers().collect(only, [toy_images()], INPUTS).resolved(only), prior=[0.15])
    torch.testing.assert_close(only(found), only(true_means()), atol=0.05, rtol=0)


def test_few_classes_at_a_time_go_through_the_teacher(monkeypatch):
    teacher = frozen(toy_teacher())
    metadata = AllLayers().collect(teacher, [toy_images()], INPUTS).resolved(teacher)
    together, seen = class_means(teacher, metadata, prior=[0.15]), []
    monkeypatch.setattr(type(INPUTS), "images_at_once", 2)
    with teacher.register_forward_hook(lambda _module, images, _output: seen.append(len(images[0]))):
        torch.testing.assert_close(class_means(teacher, metadata, prior=[0.15]), together)
    assert {*seen} == {2, 1}


@pytest.mark.parametrize("kind", [Channels(pixels="moments", grid=6), AllLayers(pixels="moments", signal="after_relu")])
def test_means_of_pixels_are_the_class_means(kind):
    found = class_means(
        frozen(toy_teacher()), kind.collect(toy_teacher(), [toy_images()], INPUTS).resolved(toy_teacher()), prior=0.15
    )
    torch.testing.assert_close(found, true_means(), atol=0.01, rtol=0)


def test_a_spectrum_of_pixels_says_nothing_of_their_means_and_leaves_the_first_layers_to_say_it():
    teacher = frozen(toy_teacher())
    plain, more = (
        AllLayers(pixels=pixels).collect(teacher, [toy_images()], INPUTS).resolved(teacher)
        for pixels in ("none", "spectrum")
    )
    assert torch.equal(class_means(teacher, more, prior=[0.15]), class_means(teacher, plain, prior=[0.15]))


def test_means_of_regions_give_the_class_means_blurred_away():
    """Closer than what is known without them, and farther than from every unit's mean; the whole map's brightness is right."""
    convolution = frozen(toy_teacher())
    distances = []
    for kind in (AllLayers(), Channels(grid=3), Channels(grid=2)):
        metadata = kind.collect(convolution, [toy_images()], INPUTS).resolved(convolution)
        found = class_means(convolution, metadata, prior=[0.15])
        distances.append(float((found - true_means()).abs().mean()))
    assert distances == sorted(distances)
    assert distances[-1] < 0.8 * (0.15 - true_means()).abs().mean()


def test_where_the_layer_does_not_see_there_is_the_prior():
    blind = nn.Sequential(nn.Flatten(), nn.Linear(36, 50), nn.ReLU(), nn.Linear(50, CLASSES))
    with torch.no_grad():
        blind[1].weight[:, :6] = 0
    found = class_means(frozen(blind), AllLayers().collect(blind, [toy_images()], INPUTS).resolved(blind), prior=[0.15])
    torch.testing.assert_close(found[:, 0, 0], torch.full((CLASSES, 6), 0.15))


def dense(first=nn.Linear):
    return nn.Sequential(nn.Flatten(), first(36, 8), nn.Linear(8, CLASSES))


class Bent(nn.Linear):
    """A layer that is not affine in its input."""

    def forward(self, values):
        return super().forward(values).relu()


GIVES_NOTHING = {
    "no statistics of values at their places": (toy_teacher, Nothing()),
    "is not affine in the pixels": (toy_teacher, TopLayer()),
    "'1' is not affine in the pixels": (lambda: dense(Bent), AllLayers()),
    "are of channels at any location": (toy_teacher, Channels()),
    "are of all classes together": (dense, Channels(scope="all")),
    "are of its values after a ReLU": (toy_teacher, AllLayers(signal="after_relu")),
}


@pytest.mark.parametrize("reason", GIVES_NOTHING)
def test_where_the_metadata_gives_no_class_means_images_start_from_noise_and_that_is_said(reason, capsys):
    build, kind = GIVES_NOTHING[reason]
    teacher = frozen(build())
    metadata = kind.collect(teacher, [toy_images()], INPUTS)
    with pytest.raises(DfkdError, match=reason):
        class_means(teacher, metadata.resolved(teacher), prior=[0.15])
    images = reconstruct(teacher, metadata, 8, steps=1, parametrisation=Pixels(start="metadata"))
    assert images.inputs.isfinite().all()
    [said] = [line for line in capsys.readouterr().out.splitlines() if "images start from noise" in line]
    assert reason in said


@pytest.mark.parametrize(("shape", "said"), [((3, 24, 32), True), ((3, 16, 16), False), ((1, 32, 32), False)], ids=str)
def test_of_photographs_it_is_said_that_pixels_from_noise_teach_little(shape, said, capsys):
    inputs = InputSpec(shape, (0.0,), (1.0,))
    metadata = ResolvedMetadata([], [], 8.0, CLASSES, inputs)
    Pixels().build(nn.Identity(), metadata)
    assert ("parametrisation=auto makes them of waves" in " ".join(capsys.readouterr().out.split())) == said


def test_latents_in_the_place_of_pixels_do_not_start_from_the_metadata_and_that_is_said(capsys):
    teacher = frozen(toy_teacher())
    metadata = TopLayer().collect(teacher, [toy_images()], INPUTS).resolved(teacher)
    assert type(Auto(start="metadata", directions=2).build(teacher, metadata)) is LatentSpace
    assert "images start from noise, not from the metadata" in capsys.readouterr().out


@pytest.mark.parametrize("network", [toy_teacher, normalised_teacher])
def test_a_gpu_that_rounds_finds_the_same_means(network):
    """With TF32 the test of whether the layer is affine fails."""
    teacher = frozen(network())
    metadata = AllLayers().collect(teacher, [toy_images()], INPUTS).resolved(teacher)
    expected = class_means(teacher, metadata, prior=[0.15])
    with on_a_gpu_with_tf32():
        assert torch.equal(class_means(teacher, metadata, prior=[0.15]), expected)
        with pytest.raises(DfkdError, match="is not affine"):
            class_means.__wrapped__(teacher, metadata, prior=[0.15])


def test_noise_around_a_mean_stays_in_range_and_leaves_certain_pixels_alone():
    mean = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 3)
    pixels = around(mean, torch.randn(5000, 1, 1, 3, generator=torch.Generator().manual_seed(0)))
    assert (pixels[..., 0] == 0).all()
    assert (pixels[..., 2] == 1).all()
    assert 0.25 < pixels[..., 1].std() < 0.35
    assert 0 <= pixels.min() <= pixels.max() <= 1


def test_it_starts_closer_and_ends_closer():
    teacher = frozen(toy_teacher())
    metadata = AllLayers().collect(teacher, [toy_images()], INPUTS)
    noise, means = (
        reconstruct(teacher, metadata, 40, steps=10, group_size=20, parametrisation=Pixels(start=start)).losses.mean(1)
        for start in ("noise", "metadata")
    )
    assert means[0] < 0.5 * noise[0]
    assert means[-1] < noise[-1]
