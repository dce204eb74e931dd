"""The kind that suits the images, by their shape, and the teacher, by whether it has maps."""

import pytest
from torch import nn

from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata import AllLayers, Auto, Channels
from dfkd_exp.metadata.metadata import Metadata
from tests.conftest import SMALL, run_main
from tests.toy import INPUTS, toy_images, toy_teacher


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((3, 32, 32), Channels(styles=1, storage="fp16")),
        ((3, 24, 300), Channels(styles=1, storage="fp16")),
        ((3, 23, 300), AllLayers(covariance="top_only", storage="fp16")),
        ((1, 28, 28), AllLayers(covariance="top_only", storage="fp16")),
        ((3, 32, 32, 32), AllLayers(covariance="top_only", storage="fp16")),
        ((12,), AllLayers(covariance="top_only", storage="fp16")),
    ],
)
def test_it_is_chosen_by_the_images_and_keeps_what_was_said(shape, kind):
    inputs = InputSpec(shape, (0.0,) * shape[0], (1.0,) * shape[0])
    sides = len(shape) - 1
    convolution = {0: nn.Identity, 1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[sides]
    maps = [convolution(shape[0], 2, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)] if sides else [nn.Linear(*shape, 3)]
    teacher = nn.Sequential(*maps)
    teacher(inputs.example())
    assert Auto(storage="fp16").suited_to(teacher, inputs) == kind
    assert kind.suited_to(teacher, inputs) is kind, "what is said is what it is"


def test_a_teacher_without_maps_has_no_styles_to_be_kept():
    inputs = InputSpec((3, 32, 32), (0.0,) * 3, (1.0,) * 3)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.ReLU(), nn.Linear(8, 3))
    assert Auto().suited_to(teacher, inputs) == AllLayers(covariance="top_only")


def test_from_python_it_collects_that_kind():
    found = Auto().collect(toy_teacher(), [toy_images()], INPUTS)
    assert found.kind["name"] == "AllLayers"
    assert len(found.layers) == len(AllLayers().recorded(toy_teacher(), toy_images()[0][:2]))


def test_a_release_says_which_kind_it_is_and_a_receiver_may_say_auto_too(tmp_path):
    out = f"outputs={tmp_path}"
    assert run_main([*SMALL, out, "metadata=auto", "pipeline=release", f"release={tmp_path / 'release'}"]) == 0
    assert Metadata.load(tmp_path / "release" / "metadata.safetensors").kind["name"] == "AllLayers"
    assert run_main([*SMALL, out, "metadata=auto", "pipeline=from_release", f"release={tmp_path / 'release'}"]) == 0


def test_what_was_chosen_is_said(dfkd):
    ran = dfkd("recipe=best", "metadata.storage=fp16")
    assert ran.code == 0, ran.err
    assert "metadata chosen for these images and this teacher: AllLayers storage=fp16 covariance=top_only" in ran.out
    assert "augmentation chosen for these images: Affine" in ran.out
    assert "optimiser chosen for this network: Adam, learning rate 0.002" in ran.out
