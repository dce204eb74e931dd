"""Choosing the engine: what was measured before, once per machine and kind of work, or what is measured now."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dfkd_exp import console
from dfkd_exp.errors import ConfigError
from dfkd_exp.metadata.metadata import Metadata
from dfkd_exp.reconstruction.engine.measure import Work, fastest
from dfkd_exp.reconstruction.engine.settings import CONVOLUTIONS, PLAIN, Engine, ResolvedEngine
from dfkd_exp.reconstruction.settings import Reconstruction
from dfkd_exp.store import canonical_json, write_atomically

WORTH_MEASURING = 1e12
"""Floating-point operations of a reconstruction below which measuring takes longer than it saves."""
CHOICES = tuple(field.name for field in fields(Engine))


def resolve_engine(
    engine: Engine,
    teacher: nn.Module,
    metadata: Metadata,
    settings: Reconstruction,
    cache: Path | None = None,
) -> ResolvedEngine:
    """``engine`` with everything that it leaves open chosen: as ``cache`` says, or by measuring.

    That takes a few seconds, and for each of the two candidates that are compiled the compiler's ten to forty. The
    teacher must be frozen and lie, like the metadata, on the device to use.
    """
    left_open = [name for name in CHOICES if getattr(engine, name) in ("auto", None)]
    default = replace(PLAIN, images_per_batch=_images_per_batch(metadata))
    plain = ResolvedEngine(**{name: getattr(default if name in left_open else engine, name) for name in CHOICES})
    # Noise is as fast a start, without looking for the class means anew for each candidate.
    work = Work(teacher, metadata, replace(settings, start="noise"))
    if not left_open or work.operations() * _image_steps(work) < WORTH_MEASURING:
        return plain
    precisions = work.precisions() if engine.precision == "auto" else [engine.precision]
    key = canonical_json(_circumstances(engine, plain, precisions, work))
    known = _read(cache) if cache else {}
    chosen = _understood(known[key], cache) if key in known else None
    if chosen is None:
        console.heading("engine: measuring what is fastest, once for this machine and kind of teacher")
        (rate, chosen), plain_rate = fastest(engine, plain, precisions, work)
        console.note(f"{describe(chosen)}: {rate:,.0f} image-steps/s, {rate / plain_rate:.1f} times plain PyTorch")
        known[key] = {**{name: getattr(chosen, name) for name in CHOICES}, "image_steps_per_second": rate}
        if cache:
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(cache, (json.dumps(known, indent=2) + "\n").encode())
    return chosen


def describe(engine: ResolvedEngine) -> str:
    """In a few words."""
    parts = [engine.precision, *(["convolutions on blocks"] if engine.convolutions == "blocks" else [])]
    parts += ["compiled"] if engine.compile else []
    return ", ".join([*parts, f"{engine.images_per_batch:,} images at a time"])


def _images_per_batch(metadata: Metadata) -> int:
    """As many as keep a processor busy, as long as the recorded activations stay below a quarter of a gigabyte."""
    enough = 8_000 if metadata.device.type == "cuda" else 1_000
    return max(1, min(enough, 2**28 // (4 * sum(layer.num_units for layer in metadata.layers))))


def _image_steps(work: Work) -> int:
    return work.num_groups * work.settings.group_size * work.settings.steps


def _circumstances(engine: Engine, plain: ResolvedEngine, precisions: list[str], work: Work) -> dict[str, Any]:
    """What the choice depends on."""
    on_gpu, settings, metadata = work.device.type == "cuda", work.settings, work.metadata
    weights = [[name, *value.shape] for name, value in work.teacher.state_dict().items()]
    teacher = canonical_json([str(work.teacher), weights, work.operations()])
    return {
        "machine": torch.cuda.get_device_name(work.device) if on_gpu else f"{platform.node()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "teacher": hashlib.sha256(teacher.encode()).hexdigest(),
        "layers": [[layer.name, *layer.shape] for layer in metadata.layers],
        "inputs": list(metadata.inputs.shape),
        "match": type(settings).__name__,
        "priors": [settings.total_variation > 0, settings.l2 > 0],
        "optimise": settings.optimise,
        "group_size": settings.group_size,
        "groups": len(work.groups(plain)),
        "asked": [engine.precision, engine.convolutions, engine.compile, engine.images_per_batch],
        "offered": [precisions, list(CONVOLUTIONS)],
    }


def _read(cache: Path) -> dict[str, Any]:
    """What was measured before, by circumstances; nothing, after a warning, if the file cannot be read."""
    if not cache.is_file():
        return {}
    try:
        known = json.loads(cache.read_text())
        if isinstance(known, dict):
            return known
        reason = f"holds a {type(known).__name__}"
    except (OSError, ValueError) as error:
        reason = type(error).__name__
    console.warn(f"{cache} cannot be read ({reason}); the engine is measured, and the file written, again")
    return {}


def _understood(entry: Any, cache: Path | None) -> ResolvedEngine | None:
    try:
        return ResolvedEngine(**{name: entry[name] for name in CHOICES})
    except (KeyError, TypeError, ConfigError) as error:
        console.warn(f"an entry of {cache} is not understood ({type(error).__name__}); the engine is measured again")
        return None
