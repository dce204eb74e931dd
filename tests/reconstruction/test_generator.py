"""The generator: shapes, ranges, and what begins anew with each batch."""

import pytest
import torch

from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.recording import num_parameters
from dfkd_exp.reconstruction.generator import Generator, NoisyLayers
from dfkd_exp.reconstruction.parametrisation.generator import ENDS, FromGenerator, GeneratorSpace


def inputs(shape, mean=(), std=()):
    return InputSpec.normalised(shape, list(mean), list(std))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("shape", [(13,), (2, 40), (1, 28, 28), (3, 32, 32), (3, 9, 14), (1, 4, 6, 5)])
def test_inputs_of_any_shape_are_made_in_the_range_of_pixels(shape, end):
    pixels = Generator(inputs(shape), latents=5, width=4, end=end)(torch.randn(6, 5))
    assert pixels.shape == (6, *shape)
    assert 0 <= pixels.min() < pixels.max() <= 1
    assert (pixels.std(0) > 0).float().mean() > 0.5, "they depend on their latents"


def test_parameters_are_those_of_the_published_generator():
    # DAFL's for MNIST at 32 pixels: 100 -> 128 x 8 x 8, convolutions 128-128-64-1, BatchNorm behind the first three.
    expected = (
        (100 * 8192 + 8192) + 2 * 128 + (128 * 128 * 9 + 128) + 2 * 128 + (128 * 64 * 9 + 64) + 2 * 64 + (64 * 9 + 1)
    )
    assert num_parameters(Generator(inputs((1, 32, 32)))) == expected


@pytest.mark.parametrize("end", ["norm", "tanh_norm"])
def test_batch_norm_at_the_end_gives_pixels_the_usual_mean_and_deviation(end):
    made = inputs((3, 16, 16), mean=(0.5, 0.4, 0.6), std=(0.05, 0.1, 0.15))
    pixels = Generator(made, latents=5, width=4, end=end)(torch.randn(50, 5))
    torch.testing.assert_close(pixels.mean((0, 2, 3)), torch.tensor([0.5, 0.4, 0.6]), atol=0.01, rtol=0)
    torch.testing.assert_close(pixels.std((0, 2, 3)), torch.tensor([0.05, 0.1, 0.15]), atol=0.01, rtol=0)


def test_of_inputs_that_were_not_normalised_digits_mean_is_taken():
    assert inputs((1, 8, 8)).usual_pixels() == ([0.15], [0.3])
    assert inputs((2, 40)).usual_pixels() == ([0.5, 0.5], [0.25, 0.25])
    assert inputs((3, 8, 8)).usual_pixels() == ([0.5] * 3, [0.25] * 3)
    assert inputs((1, 8, 8), (0.3,), (0.2,)).usual_pixels() == (pytest.approx([0.3]), pytest.approx([0.2]))


def space(num_classes=0, **settings):
    made_of = FromGenerator(latents=5, width=4, **settings)
    return GeneratorSpace(made_of, inputs((1, 8, 8)), num_classes, torch.device("cpu"))


def test_the_class_of_an_image_is_among_its_latents_if_it_is_made_for_one():
    labels = torch.tensor([2, 0])
    values = space(num_classes=3).start(labels, torch.Generator().manual_seed(0))
    assert values[:, 5:].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert torch.equal(values[:, :5], space().start(labels, torch.Generator().manual_seed(0)))


def test_a_fresh_network_begins_each_batch_if_that_is_asked_for_and_the_seed_decides_it():
    made = space(kept="batch")
    weights = []
    for seed in (1, 2, 1):
        made.begin_batch(seed)
        weights.append(made.shared()[0].detach().clone())
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])


class TestNoisyLayers:
    def test_each_image_of_a_class_takes_the_next_layer(self):
        torch.manual_seed(0)
        layers = NoisyLayers(num_classes=3, latents=4, count=2)
        labels = torch.tensor([0, 1, 0, 2, 0, 1])
        made = layers(torch.nn.functional.one_hot(labels, 3).float())
        embedded = layers.embeddings[labels]
        normal = (embedded - embedded.mean(0)) / (embedded.var(0, correction=0) + 1e-5).sqrt()
        expected = [normal[i] @ layers.weight[layer] + layers.bias[layer] for i, layer in enumerate([0, 0, 1, 0, 0, 1])]
        torch.testing.assert_close(made, torch.stack(expected))
        assert torch.equal(made[0], made[4]), "there are fewer layers than images of the class"

    def test_they_are_renewed_as_often_as_is_asked_for_and_the_generator_is_kept(self):
        made = space(3, latents_from="classes", renew_every=2)
        before = [weights.detach().clone() for weights in made.shared()]
        renewed = [len(made.begin_batch(seed)) for seed in range(4)]
        assert renewed == [4, 0, 4, 0]
        changed = [not torch.equal(one, other) for one, other in zip(made.shared(), before, strict=True)]
        assert changed[:2] == [True, True], "weights and biases of the layers"
        assert not any(changed[2:]), "their norm, as it began, and the generator"

    def test_images_of_a_class_differ(self):
        made = space(3, latents_from="classes", noisy_layers=4)
        values = made.start(torch.tensor([1, 1, 1, 1, 0, 2]), torch.Generator())
        pixels, _ = made.pixels(values)
        assert pixels.detach()[:4].std(0).max() > 0.01


def test_one_network_is_kept_otherwise():
    made = space()
    before = made.shared()[0]
    made.begin_batch(1)
    assert made.shared()[0] is before
