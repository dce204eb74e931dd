"""Weights from files, and what is said of those that do not fit."""

import collections
import os

import pytest
import torch

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.checkpoint import load_weights, read_state_dict
from tests.toy import CLASSES, toy_teacher


def read(path):
    return read_state_dict(path, "teacher.checkpoint")


def test_a_checkpoint_of_lightning_is_read_by_its_state_dict(tmp_path):
    torch.save({"epoch": 3, "state_dict": toy_teacher().state_dict()}, tmp_path / "last.ckpt")
    assert read(tmp_path / "last.ckpt").keys() == toy_teacher().state_dict().keys()


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    torch.save({"weight": Bomb()}, tmp_path / "weights.pt")
    with pytest.raises(DfkdError, match=r"neither safetensors nor a plain torch state_dict"):
        read(tmp_path / "weights.pt")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.safetensors", b"garbage"),
        ("a.pt", b"garbage"),
        ("a.pt", b""),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DfkdError, match=r"teacher.checkpoint=.* is neither safetensors nor a plain torch state_dict"):
        read(tmp_path / name)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(2)], torch.zeros(2)])
def test_a_checkpoint_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(DfkdError, match="holds no state_dict"):
        read(tmp_path / "a.pt")


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
