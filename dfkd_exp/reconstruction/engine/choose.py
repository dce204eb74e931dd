"""Choosing the engine: what was measured before, once per machine and kind of work, or what is measured now."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dfkd_exp import console
from dfkd_exp.damage import move_aside
from dfkd_exp.errors import ConfigError
from dfkd_exp.files import canonical_json, read_json, write_atomically
from dfkd_exp.locks import lock
from dfkd_exp.models.channels_last import takes_channels_last
from dfkd_exp.models.layers import Layer
from dfkd_exp.reconstruction.engine.measure import Budget, Timed, fastest, images_that_fit, measured, precisions
from dfkd_exp.reconstruction.engine.settings import CONVOLUTIONS, PLAIN, Engine, ResolvedEngine
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from dfkd_exp.reconstruction.problem import Problem

SHARE = 0.1
"""Of the time that a reconstruction would take plainly, so much may be spent on measuring."""
WORTH_MEASURING = 30.0
"""Seconds of a reconstruction below which it is not done."""
FEWEST_STEPS = 40
"""Of all batches together; below them two steps are a twentieth of the work, and nothing could be compared."""
CHOICES = tuple(field.name for field in fields(Engine))
PRECISION = "precision"
"""Where the cache says which precision work with a kind of teacher uses."""


def resolve_engine(engine: Engine, problem: Problem, cache: Path | None = None) -> ResolvedEngine:
    """``engine`` with everything that it leaves open chosen: as ``cache`` says, or by measuring, for at most a tenth of the time that the
    work would take plainly; candidates that there is no time for are left out. One process at a time measures for a cache.

    A precision that was chosen once is kept for all work with that kind of teacher, so that two rows of one table do not differ in it.
    """
    if problem.device.type != "cuda" and engine.cuda_graphs is None:
        engine = replace(engine, cuda_graphs=False)
    left_open = [name for name in CHOICES if getattr(engine, name) in ("auto", None)]
    if not left_open:
        return ResolvedEngine(**{name: getattr(engine, name) for name in CHOICES})
    _ = problem.space  # built first: that is work that is done anyway
    began = time.perf_counter()
    plain = ResolvedEngine(**{name: getattr(PLAIN if name in left_open else engine, name) for name in CHOICES})
    if engine.images_per_batch is None:
        plain = replace(plain, images_per_batch=_images_per_batch(problem, plain))
    known = _read(cache) if cache else {}
    kept = known.get(PRECISION, {}).get(_kind_of_teacher(problem.teacher))
    num_steps = len(problem.batches(plain.images_per_batch)) * problem.settings.steps
    if num_steps < FEWEST_STEPS:
        return replace(plain, precision=_precisions(engine, problem, plain, kept, measuring=False)[0])
    offered = _precisions(engine, problem, plain, kept, measuring=True)
    plain = replace(plain, precision=kept if kept in offered else offered[0])
    if found := _known(known, _key(engine, offered, problem)):
        return found
    timed = measured(problem, problem.fitted(replace(plain, compile=False, cuda_graphs=False)), steps=1)
    if timed.engine.images_per_batch < problem.fitted(plain).images_per_batch:  # the memory did not suffice
        plain = replace(plain, images_per_batch=timed.engine.images_per_batch)
    seconds = _image_steps(problem) / timed.rate
    budget = Budget(SHARE * seconds, began)
    if found := _known(known, _key(engine, offered, problem), budget.seconds):
        return found
    # Without the time to compare precisions, none is to be kept for other work.
    if seconds < WORTH_MEASURING or not budget.allows(len(offered) * timed.seconds):
        return plain
    spent = time.perf_counter() - began
    with _locked(cache):
        budget = Budget(SHARE * seconds, time.perf_counter() - spent)  # waiting for one's turn is not measuring
        return _chosen(engine, timed, offered, problem, budget, cache)


def engine_in_the_loop(engine: Engine, problem: Problem, cache: Path | None = None) -> ResolvedEngine:
    """``engine`` for images that are made while a student learns; what it leaves open is what suits the device, without measuring.

    bf16, or else a GPU's TF32, where the device multiplies so by itself and the teacher's gradient is near enough: of what of the objective
    does not look at a student and does not learn, for images of pixels. It is kept, as in `resolve_engine`.
    """
    example = problem.metadata.inputs.example().to(problem.device)
    usual = {
        "precision": "fp32",
        "convolutions": "channels_last" if takes_channels_last(problem.teacher, example) else "direct",
        "compile": False,
        "cuda_graphs": False,
    }
    said = {name: getattr(engine, name) for name in CHOICES if getattr(engine, name) not in ("auto", None)}
    plain = ResolvedEngine(**{**usual, **said})
    if engine.precision != "auto":
        return plain
    terms = [term for term in problem.terms if not (term.of_student or term.learns)]
    alone = replace(problem, parametrisation=Pixels(), terms=terms)
    with _locked(cache):
        known, teacher = _read(cache) if cache else {}, _kind_of_teacher(problem.teacher)
        kept = known.get(PRECISION, {}).get(teacher)
        offered = _precisions(engine, alone, plain, kept, measuring=multiplies_bf16(problem.device))
        if kept is None:
            known.setdefault(PRECISION, {})[teacher] = offered[-1]
            if cache:
                write_atomically(cache, (json.dumps(known, indent=2) + "\n").encode())
    return replace(plain, precision=offered[-1])


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for it, so that nothing need be measured."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    found = torch.cpu.get_capabilities() if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities") else {}
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16"))


def _chosen(
    engine: Engine, plain: Timed, offered: list[str], problem: Problem, budget: Budget, cache: Path | None
) -> ResolvedEngine:
    """What the cache says for such work, or what is measured, and is then in the cache."""
    known, teacher = _read(cache) if cache else {}, _kind_of_teacher(problem.teacher)
    kept = known.get(PRECISION, {}).get(teacher) if engine.precision == "auto" else None
    if kept in offered:  # while this process waited for its turn, another chose
        offered = [kept]

    key = _key(engine, offered, problem)
    if found := _known(known, key, budget.seconds):
        return found
    if key in known and _understood(known[key]) is None:
        console.warn(f"an entry of {cache} is not understood; the engine is measured again")
    console.heading("engine: measuring what is fastest, once for this machine and kind of teacher")
    best, plain_rate = fastest(engine, plain, offered, problem, budget)
    chosen = best.engine
    console.note(
        f"{describe(chosen)}: {best.rate:,.0f} image-steps/s, {best.rate / plain_rate:.1f} times plain PyTorch"
    )
    if engine.precision == "auto":
        known.setdefault(PRECISION, {}).setdefault(teacher, chosen.precision)
        key = _key(engine, [chosen.precision], problem)  # what will be offered the next time
    known[key] = {
        **{name: getattr(chosen, name) for name in CHOICES}, "image_steps_per_second": best.rate,
        "seconds_allowed": None if budget.sufficed else budget.seconds,
    }  # fmt: skip
    if cache:
        write_atomically(cache, (json.dumps(known, indent=2) + "\n").encode())
    return chosen


@contextmanager
def _locked(cache: Path | None) -> Iterator[None]:
    """One process at a time: two that measure at once disturb each other, and one would overwrite what the other found."""
    if cache is None:
        yield
        return
    cache.parent.mkdir(parents=True, exist_ok=True)
    with lock(cache.with_suffix(".lock")):
        yield


def _precisions(
    engine: Engine, problem: Problem, plain: ResolvedEngine, kept: str | None, measuring: bool
) -> list[str]:
    """Those to choose from; ``kept``: what was chosen before for this kind of teacher. The first is to be used if nothing is measured."""
    if engine.precision != "auto":
        return [engine.precision]
    if kept == "fp32" or not (kept or measuring):
        return ["fp32"]
    near_enough = precisions(problem, problem.fitted(plain))
    if kept and kept not in near_enough:
        console.warn(
            f"{kept}, which other work with this kind of teacher used, is too rough for this metadata; fp32 is used"
        )
        return ["fp32"]
    return [kept] if kept else near_enough


def describe(engine: ResolvedEngine) -> str:
    """In a few words."""
    return f"{describe_computation(engine)}, {engine.images_per_batch:,} images at a time"


def describe_computation(engine: ResolvedEngine) -> str:
    """The same, where others say how many images are made at a time."""
    forms = {"direct": [], "blocks": ["convolutions on blocks"], "channels_last": ["channels last"]}
    parts = [engine.precision, *forms[engine.convolutions]]
    parts += (["compiled"] if engine.compile else []) + (["replayed"] if engine.cuda_graphs else [])
    return ", ".join(parts)


def _images_per_batch(problem: Problem, plain: ResolvedEngine) -> int:
    """Of a GPU, as many as take half of its free memory. Of a processor as many as keep it busy, as long as the recorded activations stay
    below a quarter of a gigabyte."""
    if problem.device.type == "cuda":
        return images_that_fit(problem, plain)
    return images_on_cpu(problem.metadata.layers)


def images_on_cpu(layers: Sequence[Layer]) -> int:
    """How many images a processor makes at once of a teacher of which these ``layers`` are recorded, unless something else is measured."""
    return max(1, min(1_000, 2**28 // (4 * max(1, sum(layer.num_units for layer in layers)))))


def known_rate(cache: Path, teacher: nn.Module, layers: Sequence[Layer], device: torch.device) -> float | None:
    """Image-steps a second of such a teacher with these ``layers`` recorded, as an engine was once found to make them on this machine; None
    where none was."""
    alike = [_kind_of_teacher(teacher), {**_machine(device), "layers": _of_layers(layers)}]
    for key, entry in _read(cache).items():
        if key == PRECISION or _understood(entry) is None:
            continue
        kind, circumstances = json.loads(key)
        if [kind, {name: circumstances.get(name) for name in alike[1]}] == alike:
            return entry.get("image_steps_per_second")
    return None


def _image_steps(problem: Problem) -> int:
    return problem.num_groups * problem.settings.group_size * problem.settings.steps


def _kind_of_teacher(teacher: nn.Module) -> str:
    """Its architecture and what it costs, whatever its weights."""
    weights = [[name, *value.shape] for name, value in teacher.state_dict().items()]
    return hashlib.sha256(canonical_json([str(teacher), weights]).encode()).hexdigest()


def _key(engine: Engine, offered: list[str], problem: Problem) -> str:
    return canonical_json([_kind_of_teacher(problem.teacher), _circumstances(engine, offered, problem)])


def _circumstances(engine: Engine, offered: list[str], problem: Problem) -> dict[str, Any]:
    """What the choice depends on, beside the teacher."""
    settings, metadata = problem.settings, problem.metadata
    return {
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


def _machine(device: torch.device) -> dict[str, Any]:
    on_gpu = device.type == "cuda"
    return {
        "machine": torch.cuda.get_device_name(device) if on_gpu else f"{platform.node()} {platform.machine()}",
        "threads": torch.get_num_threads(),
    }


def _of_layers(layers: Sequence[Layer]) -> list[list[Any]]:
    return [[layer.name, layer.side, *layer.shape] for layer in layers]


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


def _known(known: dict[str, Any], key: str, seconds: float | None = None) -> ResolvedEngine | None:
    """What the cache says, if it does and is understood; unless there was too little time for some candidates, and twice as much now.
    ``seconds``: that there are, if that is known."""
    found = _understood(known.get(key))
    if found is None:
        return None
    engine, allowed = found
    return engine if allowed is None or (seconds is not None and seconds < 2 * allowed) else None


def _understood(entry: Any) -> tuple[ResolvedEngine, float | None] | None:
    """The engine of an entry, and how many seconds there were, if they did not suffice for all candidates."""
    try:
        switches = [entry["compile"], entry["cuda_graphs"]]
        if type(entry["images_per_batch"]) is not int or {type(value) for value in switches} != {bool}:
            return None
        allowed = entry.get("seconds_allowed")
        return ResolvedEngine(**{name: entry[name] for name in CHOICES}), None if allowed is None else float(allowed)
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError):
        return None
