"""Reconstructions on the disk: a safetensors file for each batch of groups, of pixels in few bits, labels, losses and counts."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from dfkd_exp.data.rows import FileTensor, Rows
from dfkd_exp.files import WORK, safetensors_header, write_atomically
from dfkd_exp.reconstruction.loop import STORED, Images

TENSORS = {"pixels", "labels", "losses", "steps", "evaluations"}


def shard_name(groups: list[int]) -> str:
    """The file of a batch of groups, first to last."""
    return f"groups-{groups[0]:06d}-{groups[-1]:06d}.safetensors"


def write_shard(path: Path, images: Images) -> None:
    """A batch of groups as a file, whole or not at all; and before it its sum, until the artifact's manifest has that."""
    pixels = images.pixels.to(STORED)
    tensors = {name: pixels if name == "pixels" else getattr(images, name) for name in TENSORS}
    content = save({name: tensor.contiguous() for name, tensor in sorted(tensors.items())})
    _sum_of(path).parent.mkdir(exist_ok=True)
    write_atomically(_sum_of(path), hashlib.sha256(content).hexdigest().encode())
    write_atomically(path, content)


def is_sound(path: Path) -> bool:
    """Whether a file of an unfinished reconstruction is there, whole and as it was written."""
    try:
        whole = safetensors_header(path)[0].keys() >= TENSORS
        with path.open("rb") as file:
            return whole and hashlib.file_digest(file, "sha256").hexdigest().encode() == _sum_of(path).read_bytes()
    except (OSError, ValueError, struct.error):
        return False


def _sum_of(path: Path) -> Path:
    return path.parent / WORK / f"{path.name}.sha256"


def open_shards(folder: Path) -> tuple[Rows, Tensor]:
    """The pixels of a reconstruction artifact, which are read when they are taken, and their labels ``[N]``, in the order of the groups."""
    return Rows.of_files(_shards(folder), "pixels"), _read(folder, "labels")


def read_losses(folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """The losses ``[S, G]``, steps ``[G]`` and evaluations ``[G]`` of all groups, without reading the images, which may be many."""
    return _read(folder, "losses", dim=1), _read(folder, "steps"), _read(folder, "evaluations")


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("groups-*.safetensors"))


def _read(folder: Path, name: str, dim: int = 0) -> Tensor:
    """A tensor of all shards, put together. Read, not mapped as `safe_open` does: a tensor that is kept would keep its whole file in
    the process's memory, images and all."""
    found = [FileTensor.find(path, name) for path in _shards(folder)]
    return torch.cat([tensor.take(torch.arange(len(tensor))) for tensor in found], dim)
