"""Trained weights from a file into a network, with one line for what does not fit."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError


def read_state_dict(path: Path, flag: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a torch state_dict file (read with ``weights_only``)."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever the bytes lead it to
        raise DfkdError(
            f"{flag}={path} is neither safetensors nor a plain torch state_dict; save it with "
            "safetensors.torch.save_file(model.state_dict(), …) or torch.save(model.state_dict(), …)"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise DfkdError(f"{flag}={path} holds no state_dict; save it with torch.save(model.state_dict(), …)")
    return state


def load_weights(network: nn.Module, state: dict[str, Tensor], source: str, title: str) -> None:
    """``load_state_dict``, after `require_fit`."""
    require_fit(network, state, source, title)
    network.load_state_dict(state)


def require_fit(network: nn.Module, state: dict[str, Tensor], source: str, title: str) -> None:
    """DfkdError says which entries of ``source`` do not fit the network called ``title``, which may be on the device ``meta``."""
    own = network.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
    if missing or extra or wrong:
        problems = [("lacks", missing), ("has unknown", extra), ("has other shapes for", sorted(wrong))]
        what = "; ".join(
            f"{verb} {', '.join(keys[:3])}{'…' if len(keys) > 3 else ''}" for verb, keys in problems if keys
        )
        raise DfkdError(f"{source} does not fit {title}: it {what}")


def require_sound(network: nn.Module, source: str) -> None:
    """DfkdError names a weight of ``source`` that is NaN or infinite, or a variance that BatchNorm carries and that is negative."""
    carried = {name: value for name, value in network.named_buffers() if name.endswith(("running_mean", "running_var"))}
    for name, value in {**dict(network.named_parameters()), **carried}.items():
        if not value.isfinite().all():
            raise DfkdError(f"{source}: {name} holds NaN or infinite values; no network works with them")
        if name.endswith("running_var") and (value < 0).any():
            raise DfkdError(
                f"{source}: {name} is negative somewhere, and no variance is; train or fetch the network again"
            )
