"""Which weights of a file a network gets, and what is said of those that do not fit."""

import argparse
import collections

import numpy as np
import pytest
import torch
from torch import nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.checkpoint import load_checkpoint, load_weights
from tests.models.checkpoints import STATE, load, prefixed
from tests.toy import CLASSES, toy_teacher

FORMS = {
    "as it is": (STATE, []),
    "of a script": ({"epoch": 3, "state_dict": STATE, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}, ["taken from state_dict"]),
    "within": ({"model": {"state_dict": STATE}, "epoch": 3}, ["taken from model.state_dict"]),
    "parallel": ({"net": prefixed("module.")}, ["taken from net", "without the prefix module."]),
    "compiled": (prefixed("_orig_mod."), ["without _orig_mod in names"]),
    "compiled in parts": (
        {key.replace("3.", "3._orig_mod."): value for key, value in prefixed("module.").items()},
        ["without _orig_mod in names", "without the prefix module."],
    ),
    "of Lightning": (
        {"state_dict": {**prefixed("model."), "criterion.weight": torch.ones(3)}, "hyper_parameters": {"lr": 0.1}},
        ["taken from state_dict", "without the prefix model.", "left out criterion.weight"],
    ),
    "profiled": ({**STATE, "total_ops": torch.zeros(1), "0.total_params": torch.zeros(1)}, ["left out 0.total_params, total_ops"]),
    "double": ({key: value.double() for key, value in STATE.items()}, ["float64 converted"]),
    "beside numbers of numpy": ({"model": STATE, "best": np.float64(0.9), "n": np.int64(3)}, ["taken from model"]),
    "beside arguments": ({"model": STATE, "args": argparse.Namespace(lr=0.1)}, ["taken from model"]),
    "beside an average": (
        {"state_dict": STATE, "state_dict_ema": prefixed("module.")},
        ["taken from state_dict", "state_dict_ema.module is there too, and teacher.weights=ema takes it"],
    ),
    "an average alone": ({"model_ema": STATE}, ["taken from model_ema"]),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("old", [False, True])
def test_a_checkpoint_is_read_in_the_forms_in_which_people_keep_it(form, old, tmp_path):
    content, said = FORMS[form]
    torch.save(content, tmp_path / "a.pth.tar", _use_new_zipfile_serialization=not old)
    loaded, network = load(tmp_path / "a.pth.tar")
    assert loaded.notes == said
    assert all(torch.equal(value, STATE[key]) for key, value in network.state_dict().items())


def test_half_precision_is_as_exact_as_it_can_be(tmp_path):
    torch.save({key: value.half() for key, value in STATE.items()}, tmp_path / "a.pt")
    loaded, network = load(tmp_path / "a.pt")
    assert loaded.notes == ["float16 converted"]
    assert all(torch.equal(value, STATE[key].half().float()) for key, value in network.state_dict().items())


def test_which_of_several_is_said_by_its_name_or_a_word_of_it(tmp_path):
    double = {key: value * 2 for key, value in STATE.items()}
    torch.save({"state_dict": STATE, "state_dict_ema": double}, tmp_path / "a.pt")
    for choice in ("ema", "state_dict_ema"):
        assert torch.equal(load(tmp_path / "a.pt", choice)[1].state_dict()["0.bias"], double["0.bias"])
    with pytest.raises(DfkdError, match=r"teacher.weights=swa: teacher.checkpoint=.* has state_dict, state_dict_ema"):
        load(tmp_path / "a.pt", "swa")
    torch.save({"big": STATE, "small": double}, tmp_path / "a.pt")
    with pytest.raises(DfkdError, match=r"several state_dicts that fit Net: say teacher.weights=big or small"):
        load(tmp_path / "a.pt")


def test_of_several_the_one_that_fits_is_taken(tmp_path):
    torch.save({"discriminator": {"0.weight": torch.ones(2)}, "generator": STATE}, tmp_path / "a.pt")
    assert load(tmp_path / "a.pt")[0].notes == ["taken from generator"]


DOUBLE = {key: value * 2 for key, value in STATE.items()}
SMALL = {**STATE, "3.weight": torch.ones(2, 64), "3.bias": torch.ones(2), "5.weight": torch.ones(CLASSES, 2)}


def under(**networks):
    """A state_dict of several networks: each by its prefix, in which __ is a dot; what is called ``own`` has none."""
    return {
        key if name == "own" else f"{name.replace('__', '.')}.{key}": value
        for name, state in networks.items()
        for key, value in state.items()
    }


IN_ONE = {
    "an average, before": (under(ema=DOUBLE, net=STATE), "net", {"ema": "ema"}),
    "an average within a wrapper": (under(ema_net__module=DOUBLE, net=STATE), "net", {"ema": "ema_net.module"}),
    "an average below it": (under(own=STATE, ema=DOUBLE), "", {"ema": "ema"}),
    "of other shapes, before": (under(student=SMALL, teacher=STATE), "teacher", {}),
    "the same twice": (under(net=STATE, compiled__module=STATE), "net", {}),
}


@pytest.mark.parametrize("form", IN_ONE)
@pytest.mark.parametrize("place", ["", "state_dict"])
def test_of_several_networks_in_one_state_dict_the_one_that_fits_and_is_no_average_is_taken(form, place, tmp_path):
    tensors, taken, averages = IN_ONE[form]
    torch.save({place: tensors} if place else tensors, tmp_path / "a.pt")
    loaded, network = load(tmp_path / "a.pt")
    assert all(torch.equal(value, STATE[key]) for key, value in network.state_dict().items())
    said = [f"without the prefix {taken}."] if taken else []
    for word, name in averages.items():
        said.append(f"{f'{place}.{name}'.strip('.')} is there too, and teacher.weights={word} takes it")
        assert torch.equal(load(tmp_path / "a.pt", word)[1].state_dict()["0.bias"], DOUBLE["0.bias"])
    assert [note for note in loaded.notes if not note.startswith(("taken from", "left out"))] == said


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("student", "teacher", ("student", "teacher")),
        ("encoder", "target_encoder", ("encoder", "target")),
        ("members__0", "members__1", ("members.0", "1")),
        ("own", "teacher", ("", "teacher")),
        ("ema__online", "ema__ema_model", ("online", "ema_model")),
    ],
)
def test_where_several_in_one_state_dict_fit_it_is_asked_which(one, other, words, tmp_path):
    torch.save(under(**{one: STATE, other: DOUBLE}), tmp_path / "a.pt")
    names = [name.replace("__", ".").replace("own", "''") for name in (one, other)]
    with pytest.raises(DfkdError, match=f"several state_dicts that fit Net: say teacher.weights={' or '.join(names)}$"):
        load(tmp_path / "a.pt")
    for word, state in zip(words, (STATE, DOUBLE), strict=True):
        assert torch.equal(load(tmp_path / "a.pt", word)[1].state_dict()["0.bias"], state["0.bias"])
    with pytest.raises(DfkdError, match=r"teacher.weights=nobody: teacher.checkpoint=.* has .*"):
        load(tmp_path / "a.pt", "nobody")


def test_networks_of_which_none_fits_are_refused_by_what_the_nearest_lacks(tmp_path):
    torch.save(under(critic={"0.weight": torch.ones(2)}, student=SMALL), tmp_path / "a.pt")
    with pytest.raises(DfkdError, match=r"does not fit Net: student has other shapes for 3.bias \("):
        load(tmp_path / "a.pt")


def test_missing_counts_of_batches_are_forgiven_as_torch_does(tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    torch.save({k: v for k, v in network.state_dict().items() if "num_batches" not in k}, tmp_path / "a.pt")
    loaded = load_checkpoint(network, tmp_path / "a.pt", "teacher.checkpoint", "Net")
    assert loaded.notes == ["num_batches_tracked of 1 layers is missing, which changes no answer"]


def test_an_average_is_not_taken_because_what_it_is_of_does_not_fit(tmp_path):
    torch.save(under(own={**STATE, "head.weight": torch.ones(2)}, ema=DOUBLE), tmp_path / "a.pt")
    with pytest.raises(
        DfkdError, match=r"it has unknown head.weight; ema is there too, and teacher.weights=ema takes it"
    ):
        load(tmp_path / "a.pt")
    assert torch.equal(load(tmp_path / "a.pt", "ema")[1].state_dict()["0.bias"], DOUBLE["0.bias"])


def test_a_network_without_counts_of_batches_is_one_of_several_too(tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    without = {key: value + 1 for key, value in network.state_dict().items() if "num_batches" not in key}
    torch.save(under(student=network.state_dict(), teacher=without), tmp_path / "a.pt")
    with pytest.raises(DfkdError, match=r"say teacher.weights=student or teacher$"):
        load_checkpoint(network, tmp_path / "a.pt", "teacher.checkpoint", "Net")


@pytest.mark.parametrize(
    ("beside", "claimed"),
    [
        ({"best_acc1": 99.0}, 0.99), ({"acc": 0.989}, 0.989), ({"best_prec1": np.float32(91.5)}, 0.915), ({"epoch": 3}, None),
        ({"test_acc": torch.tensor(88.0)}, 0.88), ({"best_acc": "high"}, None), ({"accuracy": float("nan")}, None), ({"top1": 71}, 0.71),
    ],
)  # fmt: skip
def test_what_a_checkpoint_says_of_its_accuracy_is_heard(beside, claimed, tmp_path):
    torch.save({"state_dict": STATE, **beside}, tmp_path / "a.pt")
    assert load(tmp_path / "a.pt")[0].claimed_accuracy == (claimed and pytest.approx(claimed))


def test_weights_that_are_mostly_zeros_and_stored_so_are_read(tmp_path):
    torch.save({key: value.to_sparse() for key, value in STATE.items()}, tmp_path / "a.pt")
    assert torch.equal(load(tmp_path / "a.pt")[1].state_dict()["0.weight"], STATE["0.weight"])


QUANTISED = {
    "per tensor": lambda value: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8),
    "whole numbers whose scale is not said": lambda value: (100 * value).to(torch.int8),
}


@pytest.mark.parametrize("form", QUANTISED)
@pytest.mark.filterwarnings("ignore")
def test_quantised_weights_are_refused_as_such(form, tmp_path):
    torch.save({key: QUANTISED[form](value) for key, value in STATE.items()}, tmp_path / "a.pt")
    with pytest.raises(
        DfkdError, match=r"the weights of a quantised network, .*; save those from before it was quantised"
    ):
        load(tmp_path / "a.pt")


def test_packed_weights_are_refused_as_quantised(tmp_path):
    torch.save({"0._packed_params.dtype": "qint8", "0.scale": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(DfkdError, match="holds the weights of a quantised network"):
        load(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value * float("nan"), "holds NaN or infinite values"),
        (lambda value: value.to(torch.complex64), "has complex numbers for 0.bias, 0.weight"),
    ],
)
def test_weights_that_no_network_works_with_are_refused(change, said, tmp_path):
    torch.save({key: change(value) for key, value in STATE.items()}, tmp_path / "a.pt")
    with pytest.raises(DfkdError, match=said):
        load(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(2)], torch.zeros(2)])
def test_a_checkpoint_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(DfkdError, match="holds no state_dict"):
        load(tmp_path / "a.pt")


def test_what_does_not_fit_is_named():
    state = collections.OrderedDict(toy_teacher().state_dict())
    state["extra"] = state.pop("0.bias")
    state["5.bias"] = torch.zeros(CLASSES + 1)
    with pytest.raises(
        DfkdError, match=r"FILE does not fit Net: it lacks 0.bias; has unknown extra; has other shapes for 5.bias"
    ):
        load_weights(toy_teacher(), state, "FILE", "Net")


def test_a_long_list_of_misfits_is_cut():
    with pytest.raises(DfkdError, match=r"it lacks 0.bias, 0.weight, 3.bias…$"):
        load_weights(toy_teacher(), {}, "FILE", "Net")
