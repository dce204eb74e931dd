"""Networks of torchvision, of which no CPU build can be imported beside every torch: a stand-in has what is used of its interface."""

import enum
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from dfkd_exp.app import _in_one_line
from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.from_torchvision import Torchvision
from dfkd_exp.settings import under_flag

INPUTS = InputSpec.normalised((3, 8, 8), [], [])
LABELS = ["tench", "goldfish", "hen"]


class TinyWeights(enum.Enum):
    """As torchvision's enumerations of weights are, DEFAULT being another name for one of them."""

    IMAGENET1K_V1 = 1
    DEFAULT = 1

    meta = property(lambda self: {"categories": LABELS})

    def transforms(self):
        return SimpleNamespace(crop_size=[224], mean=[0.4, 0.4, 0.4], std=[0.2, 0.2, 0.2])


class Tiny(nn.Sequential):
    def __init__(self, num_classes: int = 1000, width: int = 2):
        super().__init__(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))


def get_model(name, *, weights=None, progress=True, **kwargs):
    network = Tiny(**{"num_classes": len(LABELS), **kwargs} if weights else kwargs)
    if weights:
        for parameter in network.parameters():
            nn.init.constant_(parameter, 0.5)
    return network


@pytest.fixture
def torchvision(monkeypatch):
    library, models = ModuleType("torchvision"), ModuleType("torchvision.models")
    models.list_models = lambda module: ["tiny", "vit_tiny"] if module is models else pytest.fail("of other tasks too")
    models.get_model, models.get_model_weights = get_model, lambda name: TinyWeights
    library.models = models
    for module in (library, models):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def network(model="tiny", **settings) -> Torchvision:
    with under_flag("teacher"):
        return Torchvision(model=model, **settings)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, r"teacher=torchvision needs torchvision .*: pip install 'dfkd_exp\[torchvision\]'"),
        (
            "raise RuntimeError('operator torchvision::nms does not exist')",
            r"teacher=torchvision: torchvision is installed but cannot be imported \(RuntimeError: operator torchvision::nms does not "
            r"exist\); install the build for this torch",
        ),
    ],
)
def test_without_a_torchvision_that_works_one_line_says_so(monkeypatch, tmp_path, source, message):
    if source is None:
        monkeypatch.setitem(sys.modules, "torchvision", None)
    else:
        monkeypatch.delitem(sys.modules, "torchvision", raising=False)
        (tmp_path / "torchvision.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DfkdError, match=message):
        network(pretrained=True).wanted_inputs(INPUTS)
    with pytest.raises(DfkdError, match=message):
        network().build(INPUTS, 3, seed=0)


def test_a_run_that_lightning_cannot_begin_for_it_says_the_same(tmp_path):
    error = RuntimeError("operator torchvision::nms does not exist")
    assert "torchvision was built for another torch (operator" in _in_one_line(error, tmp_path)
    assert "the traceback is in" in _in_one_line(RuntimeError("else"), tmp_path)


def test_what_is_not_there_is_refused(torchvision):
    with pytest.raises(
        DfkdError, match=r"teacher.model=tinny is not a classifier of torchvision \(did you mean tiny\?\)"
    ):
        network("tinny").build(INPUTS, 3, seed=0)
    with pytest.raises(
        DfkdError, match=r"teacher.version must be one of IMAGENET1K_V1, DEFAULT.*, got 'IMAGENET1K_V2'"
    ):
        network(pretrained=True, version="IMAGENET1K_V2").wanted_inputs(INPUTS)
    with pytest.raises(DfkdError, match=r"teacher: the arguments .*'wide': 3.* do not fit tiny"):
        network(kwargs={"wide": 3}).build(INPUTS, 3, seed=0)
    with pytest.raises(DfkdError, match=r"teacher.kwargs must be arguments of an architecture"):
        network(kwargs={"weights": "DEFAULT"})


def test_pretrained_weights_say_what_they_want(torchvision):
    settings = network(pretrained=True)
    assert settings.wanted_inputs(INPUTS) == InputSpec.normalised((3, 8, 8), [0.4] * 3, [0.2] * 3)
    assert settings.class_names(INPUTS) == LABELS
    assert network("vit_tiny", pretrained=True).wanted_inputs(INPUTS).shape == (3, 224, 224)
    assert network().wanted_inputs(INPUTS) == INPUTS


def test_weights_are_fresh_or_published_or_published_with_a_fresh_head(torchvision):
    assert not torch.equal(network().build(INPUTS, 3, 0)[0].weight, network().build(INPUTS, 3, 1)[0].weight)
    assert all((value == 0.5).all() for value in network(pretrained=True).build(INPUTS, 3, 0).parameters())
    with pytest.raises(DfkdError, match=r"weights of tiny are for 3 classes, the data has 4: teacher.finetune=true"):
        network(pretrained=True).build(INPUTS, 4, 0)
    tuned = network(pretrained=True, finetune=True).build(INPUTS, 4, 0)
    assert (tuned[0].weight == 0.5).all()
    assert torch.equal(tuned[3].weight, network().build(INPUTS, 4, 0)[3].weight)


def test_a_release_names_it_without_its_weights(torchvision):
    owner = network(pretrained=True, version="IMAGENET1K_V1", kwargs={"width": 5})
    said = owner.architecture()
    assert said == {"kind": "torchvision", "name": "tiny", "kwargs": {"model": "tiny", "kwargs": {"width": 5}}}
    receiver = Torchvision(pretrained=True).completed(said)
    assert (receiver.model, receiver.kwargs, receiver.pretrained) == ("tiny", {"width": 5}, False)
    assert owner.identity()["version"] == "IMAGENET1K_V1"
    assert "version" not in owner.function()


def test_what_normalises_within_itself_says_so_in_a_release(torchvision):
    assert network("googlenet", pretrained=True).architecture()["kwargs"]["kwargs"] == {"transform_input": True}
    assert network("googlenet").kwargs == {}
