"""Which network: by name, or by import path for somebody's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.settings import Settings, import_by_path

if TYPE_CHECKING:
    from torch import Tensor, nn

NAMES = (
    "mlp", "cnn", "hinton_net", "hinton_net_800", "lenet5", "lenet5_half", "lenet5_half_dafl",
    "alexnet", "alexnet_half", "resnet18", "resnet18_half", "custom",
)  # fmt: skip


@dataclass
class Network(Settings):
    """A network's architecture, and where its weights start."""

    name: str = "mlp"
    """One of the project's networks, or custom."""
    target: str = ""
    """With name=custom: import path of a class or function that returns a torch.nn.Module."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments for it."""
    checkpoint: str | None = None
    """File with trained weights: safetensors, or a torch state_dict. A teacher that has one is not trained."""

    def __post_init__(self) -> None:
        self.require_choice("name", NAMES)
        self.require("target", bool(self.target) == (self.name == "custom"), "given with name=custom, and only then")

    def identity(self) -> dict[str, Any]:
        """The architecture and, for a checkpoint, the sha256 of the file: its place does not matter, its content does."""
        return {**super().identity(), "checkpoint": self.checkpoint and _file_sha256(self._checkpoint_path())}

    def architecture(self) -> dict[str, Any]:
        """What a release says of the network; enough to build it again if it is one of ours."""
        return {"name": self.name, "target": self.target, "kwargs": self.kwargs}

    def build(self, inputs: InputSpec, num_classes: int, seed: int) -> nn.Module:
        """The network with fresh weights from ``seed``, or those of the checkpoint; checked on one blank image."""
        import torch

        from dfkd_exp.models.networks import BUILDERS

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                if self.name == "custom":
                    network = import_by_path(self.target, f"{self.flag}.target")(**self.kwargs)
                else:
                    network = BUILDERS[self.name](inputs.shape, num_classes, **self.kwargs)
            except TypeError as error:
                raise DfkdError(
                    f"{self.flag}.kwargs={self.kwargs} do not fit {self.target or self.name}: {error}"
                ) from error
        if not isinstance(network, torch.nn.Module):
            raise DfkdError(f"{self.flag}.target={self.target} is not a torch.nn.Module but {type(network).__name__}")
        if self.checkpoint:
            self._load(network)
        self._check_output(network, inputs, num_classes)
        return network

    def _checkpoint_path(self) -> Path:
        path = Path(self.checkpoint or "")
        if not path.is_file():
            raise DfkdError(f"{self.flag}.checkpoint={self.checkpoint} does not exist")
        return path

    def _load(self, network: nn.Module) -> None:
        state = read_state_dict(self._checkpoint_path(), f"{self.flag}.checkpoint")
        load_weights(network, state, f"{self.flag}.checkpoint={self.checkpoint}", self.target or self.name)

    def _check_output(self, network: nn.Module, inputs: InputSpec, num_classes: int) -> None:
        import torch

        was_training = network.training
        network.eval()
        shape = list(inputs.shape)
        try:
            with torch.no_grad():
                logits = network(torch.zeros(2, *inputs.shape))
        except RuntimeError as error:
            raise DfkdError(
                f"{self.flag} {self.target or self.name} cannot take images of shape {shape}: {str(error).splitlines()[0]}; "
                f"change data.pad or data.size, or {self.flag}.kwargs"
            ) from error
        finally:
            network.train(was_training)
        if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (2, num_classes):
            got = list(logits.shape[1:]) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise DfkdError(
                f"{self.flag} {self.target or self.name} must return logits of shape [N, {num_classes}], one per class of the "
                f"data, but returns {got} for each image; change {self.flag}.kwargs"
            )


def read_state_dict(path: Path, flag: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a torch state_dict file (read with ``weights_only``)."""
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise DfkdError(
            f"{flag}={path} is neither safetensors nor a plain torch state_dict; save it with "
            "safetensors.torch.save_file(model.state_dict(), …) or torch.save(model.state_dict(), …)"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DfkdError(f"{flag}={path} holds no state_dict; save it with torch.save(model.state_dict(), …)")
    return state


def load_weights(network: nn.Module, state: dict[str, Tensor], source: str, network_name: str) -> None:
    """``load_state_dict``, with one line that says what does not fit."""
    own = network.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
    if missing or extra or wrong:
        problems = [("lacks", missing), ("has unknown", extra), ("has other shapes for", sorted(wrong))]
        what = "; ".join(
            f"{verb} {', '.join(keys[:3])}{'…' if len(keys) > 3 else ''}" for verb, keys in problems if keys
        )
        raise DfkdError(f"{source} does not fit {network_name}: it {what}")
    network.load_state_dict(state)


def _file_sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
