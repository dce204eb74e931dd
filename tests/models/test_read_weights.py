"""Files of weights: what is read, and what is said of those that cannot be."""

import json
import os
import pickle
import shlex
import subprocess
import sys
import warnings
import zipfile
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.weight_files import files_of
from tests.models.checkpoints import STATE, damage, load, prefixed
from tests.toy import toy_teacher


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


ARRAYS = {key: value.numpy() for key, value in STATE.items()}


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    torch.save({"weight": Bomb()}, tmp_path / "weights.pt")
    with pytest.raises(DfkdError, match=r"holds objects of posix.mkdir, whose code would run when it is read"):
        load(tmp_path / "weights.pt")
    assert not (tmp_path / "exploded").exists()


def scripted(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is not what is recommended
        torch.jit.script(toy_teacher()).save(path)


BESIDE = {"config": Fraction(1, 3), "classes": np.array(["a", "b"]), "epoch": 3}
UNREAD = {
    "a network": ("holds objects of", lambda path: torch.save(toy_teacher(), path)),
    "a network beside other things": (
        "holds objects of",
        lambda path: torch.save({"model": toy_teacher(), **BESIDE}, path),
    ),
    "a state_dict beside them": ("holds objects of", lambda path: torch.save({"state_dict": STATE, **BESIDE}, path)),
    "arrays": ("holds objects of", lambda path: torch.save(ARRAYS, path)),
    "TorchScript": ("is TorchScript", scripted),
    "a pickle": ("is a Python pickle", lambda path: path.write_bytes(pickle.dumps({"params": ARRAYS, **BESIDE}))),
}


@pytest.mark.parametrize("form", UNREAD)
def test_what_would_run_code_is_refused_with_the_command_that_takes_its_weights_out(form, tmp_path):
    said, save = UNREAD[form]
    save(tmp_path / "a b.pt")
    with pytest.raises(DfkdError, match=said) as refused:
        load(tmp_path / "a b.pt")
    _, python, command = str(refused.value).rpartition("python -c ")
    subprocess.run([sys.executable, *shlex.split(python + command)[1:]], cwd=tmp_path, check=True)
    state = load(tmp_path / "weights.pt")[1].state_dict()
    assert all(torch.equal(state[key], value) for key, value in STATE.items())


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


ZIPS = {
    "a.pt": lambda path: torch.save(STATE, path),
    "a.npz": lambda path: np.savez(path, **ARRAYS),
    "packed.npz": lambda path: np.savez_compressed(path, **ARRAYS),
}


@pytest.mark.parametrize("name", ZIPS)
def test_a_part_that_is_not_as_it_was_written_is_named(name, tmp_path):
    ZIPS[name](tmp_path / name)
    load(tmp_path / name)
    part = damage(tmp_path / name)
    said = rf"teacher.checkpoint=\S*{name} is damaged \({part} is not as it was written\); fetch or save it again"
    with pytest.raises(DfkdError, match=said):
        load(tmp_path / name)


def test_wherever_a_file_of_torch_is_damaged_it_is_refused_or_read_as_it_was(tmp_path):
    torch.save(STATE, tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    read = refused = 0
    for start in range(0, len(content), 97):
        (tmp_path / "b.pt").write_bytes(content[:start] + bytes(16) + content[start + 16 :])
        try:
            network = load(tmp_path / "b.pt")[1]
        except DfkdError:
            refused += 1
            continue
        read += 1
        assert all(torch.equal(value, STATE[key]) for key, value in network.state_dict().items())
    assert read
    assert refused


def test_what_torch_wrote_without_sums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(load(tmp_path / "a.pt")[1].state_dict()["0.bias"], STATE["0.bias"])


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
