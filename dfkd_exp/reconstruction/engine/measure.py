"""Which engine is fastest at a piece of work, found by a few steps of each candidate."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dfkd_exp import console
from dfkd_exp.metadata.metadata import Metadata
from dfkd_exp.reconstruction.engine.rewrite import runs
from dfkd_exp.reconstruction.engine.settings import PLAIN, Engine, ResolvedEngine
from dfkd_exp.reconstruction.objective import Objective, draw_groups
from dfkd_exp.reconstruction.settings import Reconstruction

LARGEST_GRADIENT_ERROR, LARGEST_LOSS_ERROR = 0.2, 0.01
"""Relative to plain fp32 at the start of the optimisation; bf16 is not used where it is further off."""
STEPS = 3
COMPILED = 2
"""Compiling pays for some forms far more than for others, but takes long: it is tried on the best so many."""

Outcome = tuple[Tensor, Tensor]
Timed = tuple[float, ResolvedEngine]
"""Image-steps per second, and with what."""


@dataclass(frozen=True)
class Work:
    """What is to be done: the teacher is frozen and lies, like the metadata, on the device to use."""

    teacher: nn.Module
    metadata: Metadata
    settings: Reconstruction

    @property
    def device(self) -> torch.device:
        return self.metadata.device

    @property
    def num_groups(self) -> int:
        return self.settings.groups_per_class * self.metadata.num_classes

    def groups(self, engine: ResolvedEngine) -> range:
        """The first batch of groups."""
        return range(min(max(1, engine.images_per_batch // self.settings.group_size), self.num_groups))

    def operations(self) -> float:
        """Floating-point operations of the matrix products and convolutions in one image-step."""
        two = replace(self.settings, images_per_class=2, group_size=2)
        objective = Objective(self.teacher, self.metadata, two, PLAIN)
        pixels, targets = draw_groups(objective, [0], seed=0)
        with FlopCounterMode(display=False) as counter:
            objective(pixels, targets)
        return counter.get_total_flops() / 2

    def precisions(self) -> list[str]:
        """fp32, and bf16 if for this teacher it is near enough."""
        exact, rounded = (_first_step(self, replace(PLAIN, precision=p, images_per_batch=1)) for p in ("fp32", "bf16"))
        return ["fp32", "bf16"] if _close(rounded, exact) else ["fp32"]


def fastest(engine: Engine, plain: ResolvedEngine, precisions: list[str], work: Work) -> tuple[Timed, float]:
    """The fastest way of what ``engine`` leaves open, and the image-steps per second of ``plain``."""
    candidates = list(_candidates(engine, plain, precisions, work))
    parts = (2, 5) if engine.images_per_batch is None else ()
    compiled = COMPILED if engine.compile is not False else 0
    reference = _first_step(work, replace(plain, compile=False, images_per_batch=1))
    with console.Progress("candidates", len(candidates) + max(1, compiled) * len(parts) + compiled) as progress:

        def timed(candidate: ResolvedEngine) -> Timed:
            rate, outcome = _measure(work, candidate)
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


def _candidates(engine: Engine, plain: ResolvedEngine, precisions: list[str], work: Work) -> Iterator[ResolvedEngine]:
    """What may be fastest, uncompiled; the first is ``plain``."""
    forms = ["direct"]
    example = torch.zeros(2, *work.metadata.inputs.shape, device=work.device)
    if work.device.type == "cpu" and runs(work.teacher, example):
        forms.append("blocks")
    forms = forms if engine.convolutions == "auto" else [engine.convolutions]
    for precision, convolutions in itertools.product(precisions, forms):
        yield replace(plain, precision=precision, convolutions=convolutions, compile=False)


def _first_step(work: Work, engine: ResolvedEngine) -> Outcome:
    objective = Objective(work.teacher, work.metadata, work.settings, engine)
    return objective(*draw_groups(objective, work.groups(engine), seed=0))


def _measure(work: Work, engine: ResolvedEngine) -> tuple[float, Outcome]:
    """Image-steps per second, the median of a few, and losses and gradient at the start."""
    objective = Objective(work.teacher, work.metadata, work.settings, engine)
    pixels, targets = draw_groups(objective, work.groups(engine), seed=0)
    outcome = objective(pixels, targets)
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        objective(pixels, targets)[0].sum().item()  # waits for a device that runs ahead
        seconds.append(time.perf_counter() - started)
    return len(pixels) / sorted(seconds)[STEPS // 2], outcome


def _close(outcome: Outcome, reference: Outcome) -> bool:
    """Whether losses and gradient are the same within the limits, for the groups that both have: groups do not mix."""
    (losses, gradient), (true_losses, true_gradient) = (
        (part[: min(len(part), len(other))] for part, other in zip(one, two, strict=True))
        for one, two in ((outcome, reference), (reference, outcome))
    )
    loss_error = ((losses - true_losses).abs() / true_losses.abs().clamp_min(1e-12)).max()
    gradient_error = (gradient - true_gradient).norm() / true_gradient.norm().clamp_min(1e-12)
    return bool(loss_error <= LARGEST_LOSS_ERROR and gradient_error <= LARGEST_GRADIENT_ERROR)
