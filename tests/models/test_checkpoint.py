"""Weights from files, and what is said of those that do not fit."""

import argparse
import collections
import json
import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.checkpoint import load_checkpoint, load_weights
from dfkd_exp.models.weight_files import files_of
from tests.toy import CLASSES, toy_teacher


def load(path, choice=None):
    """What was said, and the network."""
    network = toy_teacher()
    with torch.no_grad():
        for value in network.state_dict().values():
            value.zero_()
    return load_checkpoint(network, path, "teacher.checkpoint", "Net", choice), network


STATE = toy_teacher().state_dict()


def prefixed(prefix):
    return {f"{prefix}{key}": value for key, value in STATE.items()}


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
        ["taken from state_dict", "state_dict_ema is there too, and teacher.weights=ema takes it"],
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


def test_missing_counts_of_batches_are_forgiven_as_torch_does(tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    torch.save({k: v for k, v in network.state_dict().items() if "num_batches" not in k}, tmp_path / "a.pt")
    loaded = load_checkpoint(network, tmp_path / "a.pt", "teacher.checkpoint", "Net")
    assert loaded.notes == ["num_batches_tracked of 1 layers is missing, which changes no answer"]


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


def test_safetensors_are_known_by_their_content(tmp_path):
    save_file(STATE, tmp_path / "weights")
    assert torch.equal(load(tmp_path / "weights")[1].state_dict()["0.bias"], STATE["0.bias"])


def test_weights_in_several_files_are_read_by_their_index(tmp_path):
    names = sorted(STATE)
    parts = {"model-1.safetensors": names[:2], "model-2.safetensors": names[2:]}
    for file, keys in parts.items():
        save_file({key: STATE[key] for key in keys}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {key: file for file, keys in parts.items() for key in keys}}))
    assert torch.equal(load(index)[1].state_dict()["5.bias"], STATE["5.bias"])
    assert files_of(index) == [index, *(tmp_path / file for file in parts)]
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(DfkdError, match=r"names model-2.safetensors, which must lie beside it"):
        load(index)
    for content in ("{}", "[]", "{", '{"weight_map": 3}', '{"weight_map": {"a": "../x"}}', '{"weight_map": {"a": 3}}'):
        index.write_text(content)
        with pytest.raises(DfkdError, match=r"no index of a network's files|must lie beside it"):
            load(index)


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    torch.save({"weight": Bomb()}, tmp_path / "weights.pt")
    with pytest.raises(DfkdError, match=r"holds objects of posix.mkdir, whose code would run when it is read"):
        load(tmp_path / "weights.pt")
    assert not (tmp_path / "exploded").exists()


def test_whole_networks_are_refused_with_the_command_that_takes_their_weights_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(toy_teacher(), "whole.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is not what is recommended
        torch.jit.script(toy_teacher()).save("scripted.pt")
    for name, said in (("whole.pt", "holds objects of"), ("scripted.pt", "is TorchScript")):
        with pytest.raises(DfkdError, match=said) as error:
            load(Path(name))
        [code] = re.findall(r'python -c "(.*)"$', str(error.value))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(code, {})
        assert torch.equal(load(Path("weights.pt"))[1].state_dict()["0.bias"], STATE["0.bias"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"garbage", "neither safetensors nor a plain torch state_dict"),
        (b"", "is empty"),
        (b"\x10\0\0\0\0\0\0\0{garbage", "neither safetensors nor a plain torch state_dict"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\x89HDF\r\n", "as Keras writes it"),
        (b"GGUF\x03", "of a language model"),
        (b"\x93NUMPY\x01", "is one array of numpy's"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, content, said):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(DfkdError, match=rf"teacher.checkpoint=.*{said}"):
        load(tmp_path / "a.pt")


def test_a_file_of_another_library_or_an_archive_is_called_what_it_is(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    with pytest.raises(DfkdError, match=r"is a file of ONNX, by its ending"):
        load(tmp_path / "a.onnx")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("best/model.pt", b"weights")
    with pytest.raises(DfkdError, match=r"is an archive of best/model.pt; unpack it"):
        load(tmp_path / "a.zip")


def test_numpys_archive_of_weights_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", **{key: value.numpy() for key, value in prefixed("module.").items()})
    loaded, network = load(tmp_path / "a.npz")
    assert loaded.notes == ["without the prefix module."]
    assert all(torch.equal(value, STATE[key]) for key, value in network.state_dict().items())


def test_a_pickle_of_arrays_is_refused_with_the_command_that_takes_its_weights_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.pkl").write_bytes(pickle.dumps({key: value.numpy() for key, value in STATE.items()}))
    with pytest.raises(DfkdError, match="whose code would run when it is read") as refused:
        load(Path("a.pkl"))
    exec(re.search(r'python -c "(.*)"', str(refused.value))[1], {})
    assert torch.equal(load(Path("weights.pt"))[1].state_dict()["0.bias"], STATE["0.bias"])


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
