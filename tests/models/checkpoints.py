"""A network's weights, and what is said when they are loaded from a file."""

from __future__ import annotations

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
