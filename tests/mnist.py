"""A data set in MNIST's files, small enough for any test."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dfkd_exp.data.digits import Digits
from dfkd_exp.data.idx import Mnist


def idx(values: Tensor) -> bytes:
    """A uint8 tensor as the content of an IDX file."""
    header = struct.pack(">HBB", 0, 8, values.dim()) + struct.pack(f">{values.dim()}I", *values.shape)
    return header + values.numpy().tobytes()


def take_for_published(contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `Mnist` take these files for the published ones."""
    monkeypatch.setattr(Mnist, "sha256", {name: hashlib.sha256(c).hexdigest() for name, c in contents.items()})


def make_mnist(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """scikit-learn's digits at 28x28, 300 to train on and 100 to test, which `Mnist` then finds in ``root`` and takes for its own."""
    data = Digits(pad=1).load()
    contents = {}
    for prefix, part, count in (("train", data.train, 300), ("t10k", data.test, 100)):
        pixels = part.images[:count, 0].repeat_interleave(3, 1).repeat_interleave(3, 2)[:, 1:-1, 1:-1]
        contents[f"{prefix}-images-idx3-ubyte"] = idx(pixels)
        contents[f"{prefix}-labels-idx1-ubyte"] = idx(part.labels[:count].to(torch.uint8))
    root.mkdir(parents=True)
    for name, content in contents.items():
        (root / name).write_bytes(content)
    take_for_published(contents, monkeypatch)
    monkeypatch.setenv("DFKD_DATA_DIR", str(root))
    return root
