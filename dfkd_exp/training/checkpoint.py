"""Checkpoints that a full disk or a kill cannot destroy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from dfkd_exp.files import write_atomically


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's, but written in the target's folder, flushed and renamed; its own copies over the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), content.getvalue())
