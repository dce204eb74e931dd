"""Networks by name and by import path, and the weights they start from."""

import collections
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dfkd_exp.distillation.settings import Student, Teacher
from dfkd_exp.errors import DfkdError
from dfkd_exp.models.recording import weights_digest
from dfkd_exp.models.settings import load_weights, read_state_dict
from tests.toy import CLASSES, INPUTS

TOY = "tests.toy.toy_teacher"


class Other(nn.Module):
    """Not what a classifier of the toy images is."""

    def __init__(self, gives="logits"):
        super().__init__()
        self.gives, self.layer = gives, nn.Linear(36, 5)

    def forward(self, x):
        return (x,) if self.gives == "tuple" else self.layer(x.flatten(1))


def not_a_network():
    return "a string"


def build(checkpoint=None, seed=0, cls=Teacher, **settings):
    settings = settings or {"name": "custom", "target": TOY, "kwargs": {"seed": 5}}
    return cls(checkpoint=checkpoint and str(checkpoint), **settings).build(INPUTS, CLASSES, seed)


def test_the_seed_decides_the_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    digests = [weights_digest(build(name="mlp", seed=seed)) for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_come_from_a_checkpoint(tmp_path, suffix):
    state = build().state_dict()
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    fresh = {"name": "custom", "target": TOY, "kwargs": {"seed": 6}}
    assert weights_digest(build(**fresh)) != weights_digest(build())
    assert weights_digest(build(path, **fresh)) == weights_digest(build())


def test_a_checkpoint_of_lightning_is_read_by_its_state_dict(tmp_path):
    torch.save({"epoch": 3, "state_dict": build().state_dict()}, tmp_path / "last.ckpt")
    assert read_state_dict(tmp_path / "last.ckpt", "teacher.checkpoint").keys() == build().state_dict().keys()


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    torch.save({"weight": Bomb()}, tmp_path / "weights.pt")
    with pytest.raises(DfkdError, match=r"neither safetensors nor a plain torch state_dict"):
        build(tmp_path / "weights.pt")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"garbage", "neither safetensors nor a plain torch state_dict"),
        ("a.pt", b"garbage", "neither safetensors nor a plain torch state_dict"),
        ("a.pt", b"", "neither safetensors nor a plain torch state_dict"),
        ("missing.pt", None, r"teacher.checkpoint=.*missing.pt does not exist"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DfkdError, match=message):
        build(tmp_path / name)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(2)], torch.zeros(2)])
def test_a_checkpoint_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(DfkdError, match="holds no state_dict"):
        build(tmp_path / "a.pt")


def test_what_does_not_fit_is_named():
    state = collections.OrderedDict(build().state_dict())
    state["extra"] = state.pop("0.bias")
    state["5.bias"] = torch.zeros(CLASSES + 1)
    with pytest.raises(
        DfkdError, match=r"FILE does not fit Net: it lacks 0.bias; has unknown extra; has other shapes for 5.bias"
    ):
        load_weights(build(), state, "FILE", "Net")


def test_a_long_list_of_misfits_is_cut():
    with pytest.raises(DfkdError, match=r"it lacks 0.bias, 0.weight, 3.bias…$"):
        load_weights(build(), {}, "FILE", "Net")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "tests.models.test_settings.Missing"}, r"teacher.target=.*has nothing called Missing"),
        ({"target": "no_such_module.Net"}, r"teacher.target=no_such_module.Net: No module named"),
        ({"target": "Net"}, r"teacher.target must be an import path like .*, got 'Net'"),
        ({"target": TOY, "kwargs": {"width": 3}}, r"teacher.kwargs=.*'width'.* do not fit tests.toy.toy_teacher"),
        ({"target": f"{__name__}.not_a_network"}, r"is not a torch.nn.Module but str"),
        ({"target": f"{__name__}.Other"}, r"must return logits of shape \[N, 3\].*returns \[5\]"),
        ({"target": f"{__name__}.Other", "kwargs": {"gives": "tuple"}}, r"must return logits .*returns tuple"),
        (
            {"target": "torch.nn.Linear", "kwargs": {"in_features": 7, "out_features": 3}},
            r"cannot take images of shape \[1, 6, 6\]",
        ),
    ],
)
def test_a_network_that_cannot_be_used_is_refused(settings, message):
    with pytest.raises(DfkdError, match=message):
        build(name="custom", **settings)


def test_the_flag_in_a_message_is_that_of_the_group():
    with pytest.raises(DfkdError, match=r"student.kwargs=.* do not fit mlp"):
        build(cls=Student, name="mlp", kwargs={"depth": 3})


def test_a_target_is_for_custom_networks_alone():
    for wrong in ({"name": "custom"}, {"name": "mlp", "target": TOY}):
        with pytest.raises(DfkdError, match=r"teacher.target must be given with name=custom, and only then"):
            Teacher(**wrong)


def test_a_checkpoint_counts_by_its_content_not_its_place(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    (tmp_path / "c").write_bytes(b"other")
    one, two, three = (Teacher(checkpoint=str(tmp_path / name)).identity() for name in "abc")
    assert one == two != three
