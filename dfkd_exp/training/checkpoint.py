"""Checkpoints that a full disk or a kill cannot destroy, and that are known from what something has damaged."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from dfkd_exp.damage import move_aside
from dfkd_exp.files import regular_size, write_atomically


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's, but written in the target's folder, flushed and renamed, and with its sha256 as its last bytes."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), content.getvalue() + hashlib.sha256(content.getvalue()).digest())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        return torch.load(io.BytesIO(_content(Path(path))), map_location or "cpu", weights_only=weights_only)


def is_sound(path: Path) -> bool:
    """Whether a checkpoint is there, as it was written; one that is not is moved aside."""
    if not os.path.lexists(path):
        return False
    try:
        _content(path)
    except (OSError, ValueError) as error:
        move_aside(path, f"{path} cannot be continued from: {error}")
        return False
    return True


def _content(path: Path) -> bytes:
    regular_size(path)
    content, digest = (whole := path.read_bytes())[:-32], whole[-32:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("it is not as it was written")
    return content
