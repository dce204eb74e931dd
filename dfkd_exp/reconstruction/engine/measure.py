"""Which engine is fastest at a piece of work, found by a few steps of each candidate."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dfkd_exp import console
from dfkd_exp.reconstruction.engine.rewrite import runs
from dfkd_exp.reconstruction.engine.settings import PLAIN, Engine, ResolvedEngine
from dfkd_exp.reconstruction.objective import Objective, draw_groups
from dfkd_exp.reconstruction.problem import Problem

LARGEST_GRADIENT_ERROR, LARGEST_LOSS_ERROR = 0.2, 0.01
"""Relative to plain fp32 at the start of the optimisation; bf16 is not used where it is further off."""
STEPS = 3
COMPILED = 2
"""Compiling pays for some forms far more than for others, but takes long: it is tried on the best so many."""

Outcome = tuple[Tensor, Tensor]
Timed = tuple[float, ResolvedEngine]
"""Image-steps per second, and with what."""


def first_groups(problem: Problem, engine: ResolvedEngine) -> range:
    """The first batch of groups."""
    return range(min(max(1, engine.images_per_batch // problem.settings.group_size), problem.num_groups))


def operations(problem: Problem) -> float:
    """Floating-point operations of the matrix products and convolutions in one image-step."""
    objective = Objective(problem, PLAIN)
    values, target = draw_groups(objective, [0], seed=0, group_size=2)
    with FlopCounterMode(display=False) as counter:
        objective(values, target)
    return counter.get_total_flops() / 2


def precisions(problem: Problem) -> list[str]:
    """fp32, and bf16 if for this teacher it is near enough."""
    exact, rounded = (_first_step(problem, replace(PLAIN, precision=p, images_per_batch=1)) for p in ("fp32", "bf16"))
    return ["fp32", "bf16"] if _close(rounded, exact) else ["fp32"]


def fastest(engine: Engine, plain: ResolvedEngine, offered: list[str], problem: Problem) -> tuple[Timed, float]:
    """The fastest way of what ``engine`` leaves open, and the image-steps per second of ``plain``."""
    candidates = list(_candidates(engine, plain, offered, problem))
    parts = (2, 5) if engine.images_per_batch is None else ()
    compiled = COMPILED if engine.compile is not False else 0
    reference = _first_step(problem, replace(plain, compile=False, images_per_batch=1))
    with console.Progress("candidates", len(candidates) + max(1, compiled) * len(parts) + compiled) as progress:

        def timed(candidate: ResolvedEngine) -> Timed:
            rate, outcome = _measure(problem, candidate)
            progress.advance()
            return (rate if _close(outcome, reference) else 0.0), candidate

        eager = [timed(candidate) for candidate in candidates]
        finalists = []
        for best in sorted(eager, key=_rate, reverse=True)[: max(1, compiled)]:
            # Fewer images at a time may fit into the processor's cache; a device that wants more is slower with them.
            fewer = [replace(best[1], images_per_batch=max(1, plain.images_per_batch // part)) for part in parts]
            finalists.append(max([best, *map(timed, fewer)], key=_rate))
        results = [] if engine.compile else list(finalists)
        for _, candidate in finalists[:compiled]:
            try:
                results.append(timed(replace(candidate, compile=True)))
            except Exception as error:  # no compiler, or a network that cannot be traced: many kinds, from many layers
                if engine.compile:
                    raise
                console.note(f"not compiled ({type(error).__name__})")
                break
    return max(results, key=_rate), eager[0][0]


def _rate(timed: Timed) -> float:
    return timed[0]


def _candidates(
    engine: Engine, plain: ResolvedEngine, offered: list[str], problem: Problem
) -> Iterator[ResolvedEngine]:
    """What may be fastest, uncompiled; the first is ``plain``."""
    forms = ["direct"]
    example = torch.zeros(2, *problem.metadata.inputs.shape, device=problem.device)
    if problem.device.type == "cpu" and runs(problem.teacher, example):
        forms.append("blocks")
    forms = forms if engine.convolutions == "auto" else [engine.convolutions]
    for precision, convolutions in itertools.product(offered, forms):
        yield replace(plain, precision=precision, convolutions=convolutions, compile=False)


def _first_step(problem: Problem, engine: ResolvedEngine) -> Outcome:
    objective = Objective(problem, engine)
    return objective(*draw_groups(objective, first_groups(problem, engine), seed=0))


def _measure(problem: Problem, engine: ResolvedEngine) -> tuple[float, Outcome]:
    """Image-steps per second, the median of a few, and losses and gradient at the start."""
    objective = Objective(problem, engine)
    values, target = draw_groups(objective, first_groups(problem, engine), seed=0)
    outcome = objective(values, target)
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        objective(values, target)[0].sum().item()  # waits for a device that runs ahead
        seconds.append(time.perf_counter() - started)
    return len(values) / sorted(seconds)[STEPS // 2], outcome


def _close(outcome: Outcome, reference: Outcome) -> bool:
    """Whether losses and gradient are the same within the limits, for the groups that both have: groups do not mix."""
    (losses, gradient), (true_losses, true_gradient) = (
        (part[: min(len(part), len(other))] for part, other in zip(one, two, strict=True))
        for one, two in ((outcome, reference), (reference, outcome))
    )
    loss_error = ((losses - true_losses).abs() / true_losses.abs().clamp_min(1e-12)).max()
    gradient_error = (gradient - true_gradient).norm() / true_gradient.norm().clamp_min(1e-12)
    return bool(loss_error <= LARGEST_LOSS_ERROR and gradient_error <= LARGEST_GRADIENT_ERROR)
