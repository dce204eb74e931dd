"""What terms see within the teacher: the features before its last layer and the weights that it multiplies them with."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata.nothing import Nothing
from dfkd_exp.models.recording import frozen, recording
from dfkd_exp.reconstruction.engine.settings import PLAIN
from dfkd_exp.reconstruction.inside import Inside, last_layer
from dfkd_exp.reconstruction.loop import reconstruct
from dfkd_exp.reconstruction.terms.batch_norm import BatchNorm
from dfkd_exp.reconstruction.terms.feature_distance import FeatureDistance
from tests.toy import CLASSES, INPUTS, normalised_teacher, toy_images, toy_teacher


class Scaled(nn.Module):
    """A linear layer, and what comes after it is no layer's."""

    def __init__(self, outputs=CLASSES):
        super().__init__()
        self.linear = nn.Linear(36, outputs)

    def forward(self, images):
        return 2 * self.linear(images.flatten(1))[:, :CLASSES]


def convolution(side):
    return nn.Sequential(nn.Conv2d(1, 5, 6 - side + 1), nn.ReLU(), nn.Conv2d(5, CLASSES, side), nn.Flatten())


SOUND = {
    "dense": toy_teacher(),
    "scaled": Scaled(),
    "convolution": convolution(1),
    "convolution of all": convolution(3),
}


@pytest.mark.parametrize("teacher", SOUND.values(), ids=SOUND)
def test_features_times_weights_are_the_logits_but_for_a_factor_and_the_bias(teacher):
    images, factor = toy_images()[0][:8], 2 if isinstance(teacher, Scaled) else 1
    inside = Inside.of(frozen(teacher), images[:2], [FeatureDistance()], CLASSES)
    with recording(teacher, inside.layers) as recorder:
        seen = inside.seen(teacher, recorder(images))
    bias = teacher.get_submodule(inside.layers[0].name).bias
    logits = factor * (seen["features"] @ seen["class_weights"].T + bias)
    torch.testing.assert_close(logits, recorder.output, atol=1e-5, rtol=1e-5)


class Named(nn.Module):
    """Calls its layers by keyword."""

    def __init__(self):
        super().__init__()
        self.own, self.head = Keyword(36, 5), Keyword(5, CLASSES)

    def forward(self, images):
        return self.head(values=self.own(values=images.flatten(1)))


class Keyword(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(outputs, inputs))

    def forward(self, values):
        return values @ self.weight.T


def test_layers_may_be_called_by_keyword():
    teacher = frozen(Named())
    assert last_layer(teacher, toy_images()[0][:2], FeatureDistance()).shape == (5,)


@dataclass
class Seen(BatchNorm):
    """Keeps what it is shown."""

    def __call__(self, candidates):
        SEEN.extend(layer.mean for layer in candidates.batch_norms)
        return super().__call__(candidates)


SEEN = []


def test_the_statistics_of_batch_norm_are_the_teachers_whatever_the_engine_computes_in():
    teacher = normalised_teacher()
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(1.2345)
    metadata = Nothing().collect(teacher, [toy_images()], INPUTS)
    reconstruct(teacher, metadata, 4, terms=[Seen()], group_size=4, steps=1, engine=replace(PLAIN, precision="bf16"))
    assert SEEN
    assert all(mean.eq(torch.tensor(1.2345)).all() for mean in SEEN)


class Normed(nn.Sequential):
    """The last with weights is a norm of the logits."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(36, CLASSES), nn.LayerNorm(CLASSES))


UNSOUND = {"norm": Normed(), "more outputs": Scaled(2 * CLASSES)}


@pytest.mark.parametrize("teacher", UNSOUND.values(), ids=UNSOUND)
def test_a_last_layer_without_weights_of_classes_is_refused(teacher):
    with pytest.raises(
        DfkdError, match=r"terms: the teacher's last layer, \w+, has no weights of shape \[3, \d+\], .*; leave"
    ) as error:
        Inside.of(frozen(teacher), toy_images()[0][:2], [FeatureDistance()], CLASSES)
    assert "\n" not in str(error.value)
