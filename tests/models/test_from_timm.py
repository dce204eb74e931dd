"""Networks of timm: what is asked of it, what it is told of the data, and what a release says of it."""

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.from_timm import Timm, _without_torchvision
from dfkd_exp.settings import under_flag
from tests.models.checkpoints import damage

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="needs timm")
SMALL = {"depth": 1, "embed_dim": 12, "num_heads": 2, "mlp_ratio": 1}


def spec(*shape: int) -> InputSpec:
    return InputSpec.normalised(shape, [], [])


def timm_net(model="test_vit", flag="teacher", **settings) -> Timm:
    with under_flag(flag):
        return Timm(model=model, kwargs=settings.pop("kwargs", SMALL if model == "test_vit" else {}), **settings)


def test_what_stands_for_torchvision_is_gone_afterwards(monkeypatch):
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    broken = ModuleType("torchvision.half_imported")
    monkeypatch.setitem(sys.modules, "torchvision", None)  # importing it raises
    monkeypatch.setitem(sys.modules, "torchvision.half_imported", broken)
    with _without_torchvision():
        from torchvision.ops.misc import FrozenBatchNorm2d
        from torchvision.transforms.functional import InterpolationMode

        assert not isinstance(torch.nn.BatchNorm2d(3), FrozenBatchNorm2d)
        assert InterpolationMode.NEAREST != InterpolationMode.BICUBIC
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("torchvision.models")
    left = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torchvision"}
    assert left == {"torchvision": None, "torchvision.half_imported": broken}


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DfkdError, match=r"^teacher=timm needs timm .*: pip install 'dfkd_exp\[timm\]'$"):
        timm_net().build(spec(3, 32, 32), 3, seed=0)


@needs_timm
@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("", "teacher.model must be a network of timm, for example teacher.model=resnet18"),
        ("resnet81", r"teacher.model=resnet81 is not a network of timm \(did you mean resnet18\?\)"),
        ("resnet18.a9_in1k", r"is not a network of timm \(did you mean resnet18.a"),
        ("hf-hub:timm/resnet18.a1_in1k", "is not a network of timm"),
        ("local-dir:/etc", "is not a network of timm"),
    ],
)
def test_a_name_that_is_not_in_its_registry_is_refused(model, message):
    with pytest.raises(DfkdError, match=message):
        timm_net(model).build(spec(3, 32, 32), 3, seed=0)


@needs_timm
@pytest.mark.parametrize("name", ["checkpoint_path", "pretrained", "pretrained_cfg_overlay", "features_only"])
def test_arguments_that_load_something_are_refused(name):
    with pytest.raises(DfkdError, match=rf"teacher.kwargs: {name} cannot be set"):
        timm_net(kwargs={name: "/tmp/file"}).build(spec(3, 32, 32), 3, seed=0)


@needs_timm
def test_fresh_weights_take_the_datas_images_and_classes():
    settings = timm_net()
    given = spec(1, 32, 48)
    assert settings.wanted_inputs(given) == given
    network = settings.build(given, 7, seed=0)
    assert network(torch.zeros(2, 1, 32, 48)).shape == (2, 7)
    again, other = (settings.build(given, 7, seed).state_dict()["head.weight"] for seed in (0, 1))
    assert torch.equal(network.state_dict()["head.weight"], again)
    assert not torch.equal(again, other)


@needs_timm
def test_pretrained_weights_say_what_images_they_want():
    vit, resnet = timm_net(pretrained=True), timm_net("resnet18.a1_in1k", pretrained=True)
    assert vit.wanted_inputs(spec(3, 32, 32)).shape == (3, 160, 160)
    assert timm_net(pretrained=True, kwargs={"img_size": 64}).wanted_inputs(spec(3, 32, 32)).shape == (3, 64, 64)
    wanted = resnet.wanted_inputs(spec(3, 32, 32))
    assert wanted == InputSpec.normalised((3, 32, 32), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert resnet.wanted_inputs(spec(1, 32, 32)).shape[0] == 3
    said = InputSpec.normalised((3, 32, 32), [0.5] * 3, [0.5] * 3)
    assert resnet.wanted_inputs(said) == said, "what the data says wins"
    grey = timm_net("resnet18.a1_in1k", pretrained=True, kwargs={"in_chans": 1}).wanted_inputs(spec(1, 32, 32))
    assert grey.shape == (1, 32, 32)
    assert grey.low[0] == pytest.approx(-0.449 / 0.226)


@needs_timm
def test_pretrained_weights_of_other_classes_need_training(monkeypatch):
    published = timm_net().build(spec(3, 160, 160), 1000, seed=5).state_dict()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(published))
    inputs = spec(3, 160, 160)
    with pytest.raises(
        DfkdError, match=r"the weights of test_vit are for 1,000 classes, the data has 4: teacher.finetune=true"
    ):
        timm_net(pretrained=True).build(inputs, 4, seed=0)
    told, before = [], torch.get_rng_state()
    settings = timm_net(pretrained=True, finetune=True)
    assert settings.pretrained
    assert not settings.trained
    tuned = settings.build(inputs, 4, seed=0, tell=told.append).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert told[0].notes == ["fresh, to be trained: head.weight, head.bias"]
    fresh = timm_net().build(inputs, 4, seed=0).state_dict()
    assert all(torch.equal(tuned[name], (fresh if "head" in name else published)[name]) for name in tuned)
    whole = timm_net(pretrained=True).build(inputs, 1000, seed=0).state_dict()
    assert all(torch.equal(whole[name], published[name]) for name in whole)


@needs_timm
def test_a_checkpoint_may_be_the_published_file(tmp_path):
    inputs, path = spec(3, 160, 160), tmp_path / "published.safetensors"
    published = timm_net().build(inputs, 1000, seed=5).state_dict()
    save_file(published, path)
    settings = timm_net(checkpoint=str(path), finetune=True)
    tuned = settings.build(inputs, 4, seed=0).state_dict()
    assert torch.equal(tuned["blocks.0.attn.qkv.weight"], published["blocks.0.attn.qkv.weight"])
    assert tuned["head.weight"].shape[0] == 4
    with pytest.raises(DfkdError, match=r"does not fit test_vit: it has other shapes for head.bias"):
        timm_net(checkpoint=str(path)).build(inputs, 4, seed=0)
    path = path.with_suffix(".pt")
    torch.save(published, path)
    damage(path)
    with pytest.raises(DfkdError, match=r"published.pt is damaged \(published/data/\d+ is not as it was written\)"):
        timm_net(checkpoint=str(path), finetune=True).build(inputs, 4, seed=0)


@needs_timm
def test_weights_that_cannot_be_had_are_said_in_a_line(monkeypatch):
    def fail(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fail)
    with pytest.raises(
        DfkdError, match=r"teacher.model=test_vit: its weights cannot be had \(OSError: no route\); check the network"
    ):
        timm_net(pretrained=True).build(spec(3, 160, 160), 1000, seed=0)
    with pytest.raises(
        DfkdError, match=r"teacher.model=mixer_s32_224: timm has no weights for it; teacher.pretrained=false"
    ):
        timm_net("mixer_s32_224", pretrained=True).wanted_inputs(spec(3, 224, 224))


@needs_timm
def test_what_a_release_says_is_enough_and_downloads_nothing():
    inputs = spec(3, 32, 32)
    owner = timm_net("test_vit.r160_in1k", pretrained=True, kwargs=SMALL)
    said = owner.architecture()
    assert said == {
        "kind": "timm", "name": "test_vit.r160_in1k", "kwargs": {"model": "test_vit.r160_in1k", "kwargs": SMALL},
    }  # fmt: skip
    network = timm_net("test_vit.r160_in1k", kwargs=SMALL).build(inputs, 3, seed=1)
    with under_flag("teacher"):
        receiver = Timm(pretrained=True).completed(said)
    assert not receiver.pretrained
    again = receiver.rebuilt(network.state_dict(), "a release", inputs, 3)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(again.eval()(images), network.eval()(images))
    large = {**said, "kwargs": {**said["kwargs"], "kwargs": {**SMALL, "embed_dim": 10**6}}}
    with pytest.raises(DfkdError, match="a release does not fit"):
        Timm().completed(large).rebuilt(network.state_dict(), "a release", inputs, 3)


@needs_timm
def test_it_is_teacher_and_student_of_a_whole_run(dfkd):
    def vit(group: str, width: int) -> list[str]:
        kwargs = {**SMALL, "embed_dim": width, "patch_size": 4}
        return [
            f"{group}=timm",
            f"{group}.model=test_vit",
            *(f"+{group}.kwargs.{name}={kwargs[name]}" for name in kwargs),
        ]

    ran = dfkd(*vit("teacher", 12), "teacher.pretrained=false", *vit("student", 4), "metadata=channels")
    assert ran.code == 0, ran.err
    assert (ran.result["teacher"], ran.result["student"]) == ("test_vit", "test_vit")
    assert ran.result["student_parameters"] < ran.result["teacher_parameters"]
