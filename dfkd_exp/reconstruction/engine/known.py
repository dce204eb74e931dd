"""What was found before on this machine: the engine of each kind of work, and the precision of each kind of teacher, in a file."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dfkd_exp.damage import move_aside
from dfkd_exp.errors import ConfigError
from dfkd_exp.files import canonical_json, read_json, write_atomically
from dfkd_exp.locks import lock
from dfkd_exp.models.layers import Layer
from dfkd_exp.reconstruction.engine.settings import CONVOLUTIONS, Engine, ResolvedEngine
from dfkd_exp.reconstruction.problem import Problem

CHOICES = tuple(field.name for field in fields(Engine))
PRECISION = "precision"
"""Where the file says which precision work with a kind of teacher uses."""
RATE, ALLOWED = "image_steps_per_second", "seconds_allowed"


class Known:
    """What the file ``path`` says, as it was read; nothing without one."""

    def __init__(self, path: Path | None):
        self.path = path
        self._said = _read(path) if path else {}

    def precision(self, teacher: nn.Module) -> str | None:
        """What was chosen for work with such a teacher."""
        return self._said.get(PRECISION, {}).get(kind_of_teacher(teacher))

    def engine(self, key: str, seconds: float | None = None) -> ResolvedEngine | None:
        """What was found for the work of `key_of`; None where nothing was, or there was too little time for some candidates and is twice as
        much now. ``seconds``: that there are, if that is known."""
        found = _understood(self._said.get(key))
        if found is None:
            return None
        engine, allowed = found
        return engine if allowed is None or (seconds is not None and seconds < 2 * allowed) else None

    def puzzles(self, key: str) -> bool:
        """Whether it says something of such work that is not understood."""
        return key in self._said and _understood(self._said[key]) is None

    def rate(self, teacher: nn.Module, layers: Sequence[Layer], device: torch.device) -> float | None:
        """Image-steps a second of such a teacher with these ``layers`` recorded, of whatever engine was found."""
        alike = {**_machine(device), "layers": _of_layers(layers)}
        for key, entry in self._said.items():
            if key == PRECISION or _understood(entry) is None:
                continue
            kind, circumstances = json.loads(key)
            if kind == kind_of_teacher(teacher) and alike.items() <= circumstances.items():
                return entry.get(RATE)
        return None

    def keep_precision(self, teacher: nn.Module, precision: str) -> None:
        """Say it of such a teacher from now on, unless another is said."""
        self._said.setdefault(PRECISION, {}).setdefault(kind_of_teacher(teacher), precision)
        self._write()

    def keep_engine(self, key: str, engine: ResolvedEngine, rate: float, seconds_allowed: float | None) -> None:
        """``seconds_allowed``: that there were, if they did not suffice for all candidates."""
        chosen = {name: getattr(engine, name) for name in CHOICES}
        self._said[key] = {**chosen, RATE: rate, ALLOWED: seconds_allowed}
        self._write()

    def _write(self) -> None:
        if self.path:
            write_atomically(self.path, (json.dumps(self._said, indent=2) + "\n").encode())


@contextmanager
def locked(path: Path | None) -> Iterator[Known]:
    """What the file says, while no other process measures or writes: two that measure at once disturb each other."""
    if path is None:
        yield Known(None)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path.with_suffix(".lock")):
        yield Known(path)


def key_of(engine: Engine, offered: Sequence[str], problem: Problem) -> str:
    """What the choice of an ``engine``, of the ``offered`` precisions, depends on."""
    settings, metadata = problem.settings, problem.metadata
    circumstances = {
        **_machine(problem.device),
        "torch": torch.__version__,
        "layers": _of_layers(metadata.layers),
        "inputs": list(metadata.inputs.shape),
        "match": settings.match,
        "terms": sorted(type(term).__name__ for term in problem.all_terms),
        "parametrisation": type(problem.space).__name__,
        **({"moves": True} if settings.moves else {}),
        "group_size": settings.group_size,
        "groups": [problem.num_groups, problem.most_at_once],
        "asked": [getattr(engine, name) for name in CHOICES],
        "offered": [offered, list(CONVOLUTIONS)],
    }
    return canonical_json([kind_of_teacher(problem.teacher), circumstances])


def kind_of_teacher(teacher: nn.Module) -> str:
    """Its architecture and what it costs, whatever its weights."""
    weights = [[name, *value.shape] for name, value in teacher.state_dict().items()]
    return hashlib.sha256(canonical_json([str(teacher), weights]).encode()).hexdigest()


def _machine(device: torch.device) -> dict[str, Any]:
    on_gpu = device.type == "cuda"
    return {
        "machine": torch.cuda.get_device_name(device) if on_gpu else f"{platform.node()} {platform.machine()}",
        "threads": torch.get_num_threads(),
    }


def _of_layers(layers: Sequence[Layer]) -> list[list[Any]]:
    return [[layer.name, layer.side, *layer.shape] for layer in layers]


def _read(path: Path) -> dict[str, Any]:
    """The file's content; nothing, after a warning, if it cannot be read."""
    if not os.path.lexists(path):
        return {}
    try:
        said = read_json(path)
        if isinstance(said, dict) and isinstance(said.get(PRECISION, {}), dict):
            return said
        reason = "not what this program writes"
    except (OSError, ValueError) as error:
        reason = str(error)
    move_aside(path, f"{path} cannot be read ({reason})")
    return {}


def _understood(entry: Any) -> tuple[ResolvedEngine, float | None] | None:
    """The engine of an entry, and how many seconds there were, if they did not suffice for all candidates."""
    try:
        switches = [entry["compile"], entry["cuda_graphs"]]
        if type(entry["images_per_batch"]) is not int or {type(value) for value in switches} != {bool}:
            return None
        allowed = entry.get(ALLOWED)
        return ResolvedEngine(**{name: entry[name] for name in CHOICES}), None if allowed is None else float(allowed)
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError):
        return None
