"""Choosing the engine: what was measured before, once per machine and kind of work, or what is measured now."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from dfkd_exp import console
from dfkd_exp.damage import move_aside
from dfkd_exp.errors import ConfigError
from dfkd_exp.files import canonical_json, read_json, write_atomically
from dfkd_exp.metadata.metadata import ResolvedMetadata
from dfkd_exp.reconstruction.engine.measure import fastest, first_groups, operations, precisions
from dfkd_exp.reconstruction.engine.settings import CONVOLUTIONS, PLAIN, Engine, ResolvedEngine
from dfkd_exp.reconstruction.problem import Problem

WORTH_MEASURING = 1e12
"""Floating-point operations of a reconstruction below which measuring takes longer than it saves."""
CHOICES = tuple(field.name for field in fields(Engine))
PRECISION = "precision"
"""Where the cache says which precision work with a kind of teacher uses."""


def resolve_engine(engine: Engine, problem: Problem, cache: Path | None = None) -> ResolvedEngine:
    """``engine`` with everything that it leaves open chosen: as ``cache`` says, or by measuring.

    That takes a few seconds, and for each of the two candidates that are compiled the compiler's ten to forty. A precision that was chosen
    once is kept for all work with that kind of teacher, so that two rows of one table do not differ in it.
    """
    left_open = [name for name in CHOICES if getattr(engine, name) in ("auto", None)]
    default = replace(PLAIN, images_per_batch=_images_per_batch(problem.metadata))
    plain = ResolvedEngine(**{name: getattr(default if name in left_open else engine, name) for name in CHOICES})
    if not left_open:
        return plain
    known, teacher = _read(cache) if cache else {}, _kind_of_teacher(problem)
    per_image_step = operations(problem)
    worth_it = per_image_step * _image_steps(problem) >= WORTH_MEASURING
    offered = _precisions(engine, problem, known.get(PRECISION, {}).get(teacher), worth_it)
    plain = replace(plain, precision=offered[0])
    if not worth_it:
        return plain

    def key_for(offered: list[str]) -> str:
        return canonical_json([per_image_step, teacher, _circumstances(engine, plain, offered, problem)])

    key = key_for(offered)
    chosen = _understood(known[key], cache) if key in known else None
    if chosen is None:
        console.heading("engine: measuring what is fastest, once for this machine and kind of teacher")
        (rate, chosen), plain_rate = fastest(engine, plain, offered, problem)
        console.note(f"{describe(chosen)}: {rate:,.0f} image-steps/s, {rate / plain_rate:.1f} times plain PyTorch")
        if engine.precision == "auto":
            known.setdefault(PRECISION, {}).setdefault(teacher, chosen.precision)
            key = key_for([chosen.precision])  # what will be offered the next time
        known[key] = {**{name: getattr(chosen, name) for name in CHOICES}, "image_steps_per_second": rate}
        if cache:
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(cache, (json.dumps(known, indent=2) + "\n").encode())
    return chosen


def _precisions(engine: Engine, problem: Problem, kept: str | None, worth_it: bool) -> list[str]:
    """Those to choose from, if it is ``worth_it``; ``kept``: what was chosen before for this kind of teacher."""
    if engine.precision != "auto":
        return [engine.precision]
    if kept == "fp32":
        return ["fp32"]
    near_enough = precisions(problem) if kept or worth_it else ["fp32"]
    if kept and kept not in near_enough:
        console.warn(
            f"{kept}, which other work with this kind of teacher used, is too rough for this metadata; fp32 is used"
        )
        return ["fp32"]
    return [kept] if kept else near_enough


def describe(engine: ResolvedEngine) -> str:
    """In a few words."""
    parts = [engine.precision, *(["convolutions on blocks"] if engine.convolutions == "blocks" else [])]
    parts += ["compiled"] if engine.compile else []
    return ", ".join([*parts, f"{engine.images_per_batch:,} images at a time"])


def _images_per_batch(metadata: ResolvedMetadata) -> int:
    """As many as keep a processor busy, as long as the recorded activations stay below a quarter of a gigabyte."""
    enough = 8_000 if metadata.device.type == "cuda" else 1_000
    return max(1, min(enough, 2**28 // (4 * sum(layer.num_units for layer in metadata.layers))))


def _image_steps(problem: Problem) -> int:
    return problem.num_groups * problem.settings.group_size * problem.settings.steps


def _kind_of_teacher(problem: Problem) -> str:
    """Its architecture and what it costs, whatever its weights."""
    weights = [[name, *value.shape] for name, value in problem.teacher.state_dict().items()]
    return hashlib.sha256(canonical_json([str(problem.teacher), weights]).encode()).hexdigest()


def _circumstances(engine: Engine, plain: ResolvedEngine, offered: list[str], problem: Problem) -> dict[str, Any]:
    """What the choice depends on, beside the teacher."""
    on_gpu, settings, metadata = problem.device.type == "cuda", problem.settings, problem.metadata
    return {
        "machine": torch.cuda.get_device_name(problem.device) if on_gpu else f"{platform.node()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "layers": [[layer.name, layer.side, *layer.shape] for layer in metadata.layers],
        "inputs": list(metadata.inputs.shape),
        "match": settings.match,
        "terms": sorted(type(term).__name__ for term in problem.all_terms),
        "parametrisation": type(problem.space).__name__,
        "group_size": settings.group_size,
        "groups": len(first_groups(problem, plain)),
        "asked": [engine.precision, engine.convolutions, engine.compile, engine.images_per_batch],
        "offered": [offered, list(CONVOLUTIONS)],
    }


def _read(cache: Path) -> dict[str, Any]:
    """What was measured before, by circumstances; nothing, after a warning, if the file cannot be read."""
    if not os.path.lexists(cache):
        return {}
    try:
        known = read_json(cache)
        if isinstance(known, dict) and isinstance(known.get(PRECISION, {}), dict):
            return known
        reason = "not what this program writes"
    except (OSError, ValueError) as error:
        reason = str(error)
    move_aside(cache, f"{cache} cannot be read ({reason})")
    return {}


def _understood(entry: Any, cache: Path | None) -> ResolvedEngine | None:
    try:
        if type(entry["images_per_batch"]) is not int or type(entry["compile"]) is not bool:
            raise TypeError
        return ResolvedEngine(**{name: entry[name] for name in CHOICES})
    except (KeyError, TypeError, ConfigError) as error:
        console.warn(f"an entry of {cache} is not understood ({type(error).__name__}); the engine is measured again")
        return None
