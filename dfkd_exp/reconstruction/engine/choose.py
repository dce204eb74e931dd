"""Choosing the engine: what was measured before, once per machine and kind of work, or what is measured now."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from dfkd_exp import console
from dfkd_exp.models.channels_last import takes_channels_last
from dfkd_exp.models.layers import Layer
from dfkd_exp.reconstruction.engine.known import CHOICES, Known, key_of, locked
from dfkd_exp.reconstruction.engine.measure import Budget, Timed, fastest, images_that_fit, measured, precisions
from dfkd_exp.reconstruction.engine.settings import PLAIN, Engine, ResolvedEngine
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from dfkd_exp.reconstruction.problem import Problem

SHARE = 0.1
"""Of the time that a reconstruction would take plainly, so much may be spent on measuring."""
WORTH_MEASURING = 30.0
"""Seconds of a reconstruction below which it is not done."""
FEWEST_STEPS = 40
"""Of all batches together; below them two steps are a twentieth of the work, and nothing could be compared."""


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
    known = Known(cache)
    kept = known.precision(problem.teacher)
    num_steps = len(problem.batches(plain.images_per_batch)) * problem.settings.steps
    if num_steps < FEWEST_STEPS:
        return replace(plain, precision=_precisions(engine, problem, plain, kept, measuring=False)[0])
    offered = _precisions(engine, problem, plain, kept, measuring=True)
    plain = replace(plain, precision=kept if kept in offered else offered[0])
    key = key_of(engine, offered, problem)
    if found := known.engine(key):
        return found
    timed = measured(problem, problem.fitted(replace(plain, compile=False, cuda_graphs=False)), steps=1)
    if timed.engine.images_per_batch < problem.fitted(plain).images_per_batch:  # the memory did not suffice
        plain = replace(plain, images_per_batch=timed.engine.images_per_batch)
    seconds = _image_steps(problem) / timed.rate
    budget = Budget(SHARE * seconds, began)
    if found := known.engine(key, budget.seconds):
        return found
    # Without the time to compare precisions, none is to be kept for other work.
    if seconds < WORTH_MEASURING or not budget.allows(len(offered) * timed.seconds):
        return plain
    spent = time.perf_counter() - began
    with locked(cache) as known:
        budget = Budget(SHARE * seconds, time.perf_counter() - spent)  # waiting for one's turn is not measuring
        return _chosen(engine, timed, offered, problem, budget, known)


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
    with locked(cache) as known:
        kept = known.precision(problem.teacher)
        offered = _precisions(engine, alone, plain, kept, measuring=multiplies_bf16(problem.device))
        if kept is None:
            known.keep_precision(problem.teacher, offered[-1])
    return replace(plain, precision=offered[-1])


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for it, so that nothing need be measured."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    found = torch.cpu.get_capabilities() if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities") else {}
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16"))


def _chosen(
    engine: Engine, plain: Timed, offered: list[str], problem: Problem, budget: Budget, known: Known
) -> ResolvedEngine:
    """What is ``known`` of such work, or what is measured, and is then known."""
    kept = known.precision(problem.teacher) if engine.precision == "auto" else None
    if kept in offered:  # while this process waited for its turn, another chose
        offered = [kept]
    key = key_of(engine, offered, problem)
    if found := known.engine(key, budget.seconds):
        return found
    if known.puzzles(key):
        console.warn(f"an entry of {known.path} is not understood; the engine is measured again")
    console.heading("engine: measuring what is fastest, once for this machine and kind of teacher")
    best, plain_rate = fastest(engine, plain, offered, problem, budget)
    chosen = best.engine
    console.note(
        f"{describe(chosen)}: {best.rate:,.0f} image-steps/s, {best.rate / plain_rate:.1f} times plain PyTorch"
    )
    if engine.precision == "auto":
        known.keep_precision(problem.teacher, chosen.precision)
        key = key_of(engine, [chosen.precision], problem)  # what will be offered the next time
    known.keep_engine(key, chosen, best.rate, None if budget.sufficed else budget.seconds)
    return chosen


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


def _image_steps(problem: Problem) -> int:
    return problem.num_groups * problem.settings.group_size * problem.settings.steps
