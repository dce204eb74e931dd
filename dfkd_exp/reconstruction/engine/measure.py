"""Which engine is fastest at a piece of work, found by a few steps of each candidate, in a share of the time that the work takes."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dfkd_exp import console
from dfkd_exp.errors import DfkdError
from dfkd_exp.evaluation.cost import peak_memory
from dfkd_exp.models.channels_last import takes_channels_last
from dfkd_exp.reconstruction.engine.rewrite import runs
from dfkd_exp.reconstruction.engine.settings import Engine, ResolvedEngine
from dfkd_exp.reconstruction.objective import Objective, draw_groups
from dfkd_exp.reconstruction.problem import Problem

LARGEST_GRADIENT_ERROR, LARGEST_LOSS_ERROR = 0.2, 0.01
"""Relative to plain fp32 at the start of the optimisation; a precision is not used where it is further off."""
STEPS = 3
LONG_ENOUGH = 1.0
"""Seconds of steps that are enough to know how long one takes."""
COMPILED = 2
"""Compiling pays for some forms far more than for others, but takes long: it is tried on the best so many,"""
COMPILING = 15.0
"""and only where there is time: it takes about so many seconds."""
FAR_SLOWER = 3.0
"""A candidate that takes so many times as long as plain PyTorch is given up after one step; bf16 may be emulated."""

Outcome = tuple[Tensor, Tensor]
"""Losses of groups, and the gradient."""


@dataclass(frozen=True)
class Timed:
    """An engine, and at how many image-steps per second it works; 0 if it cannot be used."""

    rate: float
    engine: ResolvedEngine
    seconds: float = 0.0
    """What it took to find out."""


class Budget:
    """The ``seconds`` that measuring may take, since it ``began`` by `time.perf_counter`."""

    def __init__(self, seconds: float, began: float):
        self.seconds, self._began = seconds, began
        self.sufficed = True
        """Whether all was tried: nothing was left out for want of time."""

    def allows(self, seconds: float) -> bool:
        """Whether there is time for what takes so long."""
        allowed = time.perf_counter() - self._began + seconds <= self.seconds
        self.sufficed &= allowed
        return allowed


def first_groups(problem: Problem, engine: ResolvedEngine) -> range:
    """The first batch of groups, as it will be made."""
    return range(problem.groups_at_once(engine.images_per_batch))


def precisions(problem: Problem, plain: ResolvedEngine) -> list[str]:
    """fp32, and those that for this teacher are near enough and not emulated: bf16, and on a GPU TF32."""
    one_group = replace(plain, precision="fp32", images_per_batch=1)
    reference, seconds = _first_step(problem, one_group)
    found = ["fp32"]
    for precision in ("tf32", "bf16") if problem.device.type == "cuda" else ("bf16",):
        outcome, own_seconds = _first_step(problem, replace(one_group, precision=precision))
        if _close(outcome, reference) and own_seconds <= FAR_SLOWER * max(seconds, 0.01):
            found.append(precision)
    return found


def fastest(engine: Engine, plain: Timed, offered: list[str], problem: Problem, budget: Budget) -> tuple[Timed, float]:
    """The fastest way of what ``engine`` leaves open, as far as the ``budget`` allows to look, and the rate of ``plain``, of which one step
    has been timed."""
    candidates = list(_candidates(engine, plain.engine, offered, problem))
    parts = (2, 5) if engine.images_per_batch is None else ()
    compiled = 0 if engine.compile is False else COMPILED
    on_gpu = problem.device.type == "cuda" and engine.cuda_graphs is not False
    total = len(candidates) + max(1, compiled) * len(parts) + compiled + on_gpu
    with console.Progress("candidates", total) as progress:
        known = plain.engine == candidates[0] and plain.seconds > LONG_ENOUGH
        first = plain if known else measured(problem, candidates[0])
        reference, _ = _first_step(problem, replace(candidates[0], precision="fp32", images_per_batch=1))

        def timed(candidate: ResolvedEngine, seconds: float | None = None) -> Timed:
            progress.advance()
            if not budget.allows(first.seconds if seconds is None else seconds):
                return Timed(0.0, candidate)
            return measured(problem, candidate, reference, slowest=first)

        eager = [first, *map(timed, candidates[1:])]
        finalists = []
        for best in sorted(eager, key=_rate, reverse=True)[: max(1, compiled)]:
            # Fewer images at a time may fit into the processor's cache; a device that wants more is slower with them.
            fewer = [
                problem.fitted(replace(best.engine, images_per_batch=first.engine.images_per_batch // part))
                for part in parts
            ]
            finalists.append(max([best, *map(timed, fewer)], key=_rate))
        finalists = [found for found in finalists if found.rate] or [first]
        results = [] if engine.compile else list(finalists)
        for found in finalists[:compiled]:
            try:
                seconds = 0.0 if engine.compile else COMPILING
                results.append(timed(replace(found.engine, compile=True), seconds))
            except Exception as error:  # no compiler, or a network that cannot be traced: many kinds, from many layers
                if engine.compile:
                    raise
                console.note(f"not compiled ({type(error).__name__})")
                break
            if engine.compile:
                break
        best = max(results, key=_rate)
        if on_gpu:
            try:
                replayed = timed(replace(best.engine, cuda_graphs=True), 0.0 if engine.cuda_graphs else None)
                best = replayed if engine.cuda_graphs else max(best, replayed, key=_rate)
            except Exception as error:  # what waits for the device cannot be recorded: many kinds too
                if engine.cuda_graphs:
                    raise
                console.note(f"no CUDA graph ({type(error).__name__})")
    return best, first.rate


def measured(
    problem: Problem, engine: ResolvedEngine, reference: Outcome | None = None, slowest: Timed | None = None, steps: int | None = None
) -> Timed:  # fmt: skip
    """How fast an engine is: the median of a few ``steps`` after one that is not counted, or that one alone where it is far slower than
    ``slowest``; 0 where losses and gradient are not those of the ``reference``. Half as many images at a time, and so on, where memory does
    not suffice. Raises DfkdError where it does not for one group."""
    while True:
        try:
            return _measured(problem, engine, reference, slowest, steps or STEPS)
        except torch.OutOfMemoryError:
            if len(first_groups(problem, engine)) == 1:
                raise DfkdError(problem.too_large(1)) from None
        torch.cuda.empty_cache()
        engine = problem.fitted(replace(engine, images_per_batch=engine.images_per_batch // 2))


def _measured(
    problem: Problem, engine: ResolvedEngine, reference: Outcome | None, slowest: Timed | None, steps: int
) -> Timed:
    began = time.perf_counter()
    objective = Objective(problem, engine)
    groups = first_groups(problem, engine)
    if engine.cuda_graphs:  # what was recorded must fit other values too
        objective(*draw_groups(objective, groups, seed=1))
    values, target = draw_groups(objective, groups, seed=0)
    seconds = []
    for step in range(1 + steps):
        started = time.perf_counter()
        outcome = objective(values, target)
        outcome[0].sum().item()  # waits for a device that runs ahead
        seconds.append(time.perf_counter() - started)
        if not step and reference is not None and not _close(outcome, reference):
            return Timed(0.0, engine, time.perf_counter() - began)
        if not step and slowest and not engine.compile and len(values) / seconds[0] < slowest.rate / FAR_SLOWER:
            break
        if sum(seconds[1:]) > LONG_ENOUGH:
            break
    counted = sorted(seconds[1:] or seconds)
    rate = len(values) / counted[len(counted) // 2]
    return Timed(rate, engine, time.perf_counter() - began)


def images_that_fit(problem: Problem, plain: ResolvedEngine) -> int:
    """How many images at a time take half of the memory that is free on the GPU: by what one group takes."""
    device = problem.device
    before, (free, _) = torch.cuda.memory_allocated(device), torch.cuda.mem_get_info(device)
    groups = first_groups(problem, replace(plain, images_per_batch=1))
    try:
        with peak_memory(device) as peak:
            _first_step(problem, replace(plain, images_per_batch=1))
    except torch.OutOfMemoryError:
        raise DfkdError(problem.too_large(1)) from None
    taken = peak.num_bytes - before
    return max(1, math.floor(free / 2 / max(1, taken) * len(groups) * problem.settings.group_size))


def _rate(timed: Timed) -> float:
    return timed.rate


def _candidates(
    engine: Engine, plain: ResolvedEngine, offered: list[str], problem: Problem
) -> Iterator[ResolvedEngine]:
    """What may be fastest, uncompiled; the first is ``plain``."""
    forms = ["direct"]
    example = torch.zeros(2, *problem.metadata.inputs.shape, device=problem.device)
    if problem.device.type == "cpu" and runs(problem.teacher, example):
        forms.append("blocks")
    if takes_channels_last(problem.teacher, example):
        forms.append("channels_last")
    forms = forms if engine.convolutions == "auto" else [engine.convolutions]
    for convolutions, precision in itertools.product(
        forms, offered
    ):  # precisions first: one is kept for all other work
        yield replace(plain, precision=precision, convolutions=convolutions, compile=False)


def _first_step(problem: Problem, engine: ResolvedEngine) -> tuple[Outcome, float]:
    """Losses and gradient at the start, uncompiled, and how many seconds they took."""
    objective = Objective(problem, replace(engine, compile=False, cuda_graphs=False))
    drawn = draw_groups(objective, first_groups(problem, engine), seed=0)
    seconds: list[float] = []
    while len(seconds) < 2 and sum(seconds) < LONG_ENOUGH:  # libraries prepare themselves in the first
        started = time.perf_counter()
        outcome = objective(*drawn)
        outcome[0].sum().item()  # waits for a device that runs ahead
        seconds.append(time.perf_counter() - started)
    return outcome, min(seconds)


def _close(outcome: Outcome, reference: Outcome) -> bool:
    """Whether losses and gradient are the same within the limits, for the groups that both have: groups do not mix."""
    (losses, gradient), (true_losses, true_gradient) = (
        (part[: min(len(part), len(other))] for part, other in zip(one, two, strict=True))
        for one, two in ((outcome, reference), (reference, outcome))
    )
    loss_error = ((losses - true_losses).abs() / true_losses.abs().clamp_min(1e-12)).max()
    gradient_error = (gradient - true_gradient).norm() / true_gradient.norm().clamp_min(1e-12)
    return bool(loss_error <= LARGEST_LOSS_ERROR and gradient_error <= LARGEST_GRADIENT_ERROR)
