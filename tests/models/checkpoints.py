"""A network's weights, and what is said when they are loaded from a file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from dfkd_exp.models.checkpoint import load_checkpoint
from dfkd_exp.models.weight_files import Loaded
from tests.toy import toy_teacher

STATE = toy_teacher().state_dict()


def load(path: Path, choice: str | None = None) -> tuple[Loaded, nn.Module]:
    """What was said, and the network."""
    network = toy_teacher()
    with torch.no_grad():
        for value in network.state_dict().values():
            value.zero_()
    return load_checkpoint(network, path, "teacher.checkpoint", "Net", choice), network


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in STATE.items()}


def damage(path: Path) -> str:
    """Write zeros into the middle of the largest part of a zip, and say which it is."""
    with zipfile.ZipFile(path) as archive:
        part = max(archive.infolist(), key=lambda part: part.compress_size)
    content = bytearray(path.read_bytes())
    name_length, extra_length = (int.from_bytes(content[part.header_offset + at :][:2], "little") for at in (26, 28))
    middle = part.header_offset + 30 + name_length + extra_length + part.compress_size // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    return part.filename
