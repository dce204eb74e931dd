"""The inner loop: groups of images, optimised side by side until the teacher's activations fit the metadata."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from dfkd_exp.console import Progress
from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata.metadata import Metadata
from dfkd_exp.models.plain import as_classifier
from dfkd_exp.models.recording import borrowed
from dfkd_exp.reconstruction.engine.choose import resolve_engine
from dfkd_exp.reconstruction.engine.settings import Engine
from dfkd_exp.reconstruction.moments import Moments
from dfkd_exp.reconstruction.objective import Objective, draw_groups
from dfkd_exp.reconstruction.optimizers import Adam, Optimizer
from dfkd_exp.reconstruction.parametrisation.base import Parametrisation
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from dfkd_exp.reconstruction.problem import Problem
from dfkd_exp.reconstruction.sample import Sample
from dfkd_exp.reconstruction.settings import Reconstruction
from dfkd_exp.reconstruction.stopping import Stopping
from dfkd_exp.reconstruction.targets import GroupTarget
from dfkd_exp.reconstruction.terms.term import Term, check_independent
from dfkd_exp.settings import did_you_mean

STORED = torch.float16
"""The type of pixels that are kept."""
MATCHES: dict[str, type[Reconstruction]] = {"moments": Moments, "sample": Sample}


@dataclass(frozen=True)
class Images:
    """Reconstructions: ``pixels[N, *shape]`` in [0, 1], how they enter the teacher, the class ``labels[N]`` they were made for, the
    ``losses[S, G]`` of their groups at S moments on the way, and, if known, the ``steps[G]`` that each took and the ``evaluations[G]`` of
    the objective, of which a step of L-BFGS makes several."""

    pixels: Tensor
    spec: InputSpec
    labels: Tensor
    losses: Tensor
    steps: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    evaluations: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def inputs(self) -> Tensor:
        """The images as the teacher takes them, ``[N, *shape]``."""
        return self.spec.from_pixels(self.pixels)

    def __len__(self) -> int:
        return len(self.labels)


def reconstruct_groups(
    objective: Objective,
    groups: Sequence[int],
    optimizer: Optimizer,
    seed: int,
    on_step: Callable[[int], None] = lambda images: None,
) -> Images:
    """The images of ``groups``, made side by side. ``on_step(number of image-steps)`` is called after each
    step, and once for those that were not needed. DfkdError for pixels that are beyond all numbers, or what is kept of them.

    Every group's noise and targets come from a generator of its own, and its loss from its own images, so its images
    do not depend on the groups beside it.
    """
    values, target = draw_groups(objective, groups, seed)
    try:
        looked_at = objective.steps(target, groups, seed, objective.settings.steps)
        losses, steps, evaluations = _optimise(values, objective, target, looked_at, optimizer, on_step)
    except torch.OutOfMemoryError as error:
        raise DfkdError(objective.problem.too_large(len(groups))) from error
    pixels = objective.images(values).float().cpu().contiguous()
    if not pixels.to(STORED).isfinite().all():
        raise DfkdError(f"the reconstruction diverged; lower optimizer.lr (now {optimizer.lr:g})")
    return Images(pixels, objective.metadata.inputs, target.labels.flatten().cpu(), losses, steps, evaluations)


def _optimise(
    values: Tensor, objective: Objective, target: GroupTarget, looked_at: Iterable[GroupTarget], optimizer: Optimizer,
    on_step: Callable[[int], None],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Change ``values[G * N, …]`` in place; the groups' losses ``[S, G]`` every tenth of the way, steps ``[G]`` and evaluations ``[G]``.
    ``looked_at``: the target at each step."""
    settings = objective.settings
    stopping = Stopping(settings, len(target.labels))
    stepper = optimizer.build(values)
    base_lr = stepper.param_groups[0]["lr"]
    keep_every = max(1, settings.steps // 10)
    history: list[Tensor] = []
    seen: list[Tensor] = []
    num_steps = num_seen = 0

    def closure(wanted: GroupTarget) -> Tensor:
        losses, gradient = objective(values, wanted)
        # Fused optimisers take it to lie as the values do; of a network that begins with a transpose, as a recurrent one, it does not.
        values.grad = gradient.contiguous()
        seen.append(losses)
        return losses.sum()

    for step, wanted in enumerate(looked_at):
        if settings.schedule == "cosine":
            stepper.param_groups[0]["lr"] = base_lr * (1 + math.cos(math.pi * step / settings.steps)) / 2
        seen.clear()
        stepper.step(partial(closure, wanted))  # type: ignore[arg-type]  # torch's own annotation says float
        num_steps, num_seen = num_steps + 1, num_seen + len(seen)
        if step % keep_every == 0:
            history.append(seen[0])
        objective.space.after_step(values, step)
        on_step(len(values))
        if stopping.all_converged(step, seen[0], values):
            on_step(len(values) * (settings.steps - step - 1))
            break
    stopping.restore(values)
    losses = stopping.history(history, keep_every, final=objective(values, target)[0])
    return losses, stopping.steps, stopping.steps * (num_seen / max(num_steps, 1))


def reconstruct(
    teacher: nn.Module,
    metadata: Metadata,
    per_class: int = 500,
    match: str = "moments",
    seed: int = 0,
    optimizer: Optimizer | None = None,
    engine: Engine | None = None,
    parametrisation: Parametrisation | None = None,
    terms: Sequence[Term] = (),
    **settings: object,
) -> Images:
    """Images from a teacher and its metadata alone.

    ``match``: ``moments`` or ``sample`` (docs/method.md has both); ``settings``: the fields of `Moments` or `Sample`, such as
    ``steps=200``. ``parametrisation``: what images are made of, pixels if left out; ``terms``: of the objective, beside the match.
    ``engine``: how fast; left out, it is measured first if there is much to do. The group size, unless
    given, is the largest divisor of ``per_class`` from 20 to 100, or all if there is none.
    Raises DfkdError if the metadata belongs to another teacher.
    """
    if match not in MATCHES:
        raise DfkdError(f"match must be one of {', '.join(MATCHES)}, got {match!r}{did_you_mean(match, MATCHES)}")
    if parametrisation is not None and parametrisation.shares:
        raise DfkdError(
            "parametrisation: a generator is trained beside a student, as source=synthesis does; choose pixels or latents"
        )
    check_independent(terms)
    # A handful of images has no moments to speak of.
    divisors = [n for n in range(20, 101) if per_class % n == 0]
    settings.setdefault("group_size", max(divisors, default=per_class))
    chosen = MATCHES[match](images_per_class=per_class, **settings)  # type: ignore[arg-type]
    optimizer = optimizer or Adam()
    with as_classifier(teacher, metadata.inputs.example(), metadata.num_classes) as teacher, borrowed(teacher):
        metadata.check_teacher(teacher)
        made_of = parametrisation or Pixels()
        at_once = 1 if optimizer.couples_images else None
        problem = Problem(teacher, metadata.resolved(teacher), chosen, made_of, terms, at_once)
        used = resolve_engine(engine or Engine(), problem)
        objective = Objective(problem, used)
        batches = problem.batches(used.images_per_batch)
        with Progress("image-steps", per_class * metadata.num_classes * chosen.steps) as progress:
            parts = [reconstruct_groups(objective, groups, optimizer, seed, progress.advance) for groups in batches]
    return concatenate(parts)


def concatenate(parts: Sequence[Images]) -> Images:
    """Several batches of groups as one."""
    return Images(
        torch.cat([part.pixels for part in parts]),
        parts[0].spec,
        torch.cat([part.labels for part in parts]),
        torch.cat([part.losses for part in parts], dim=1),
        torch.cat([part.steps for part in parts]),
        torch.cat([part.evaluations for part in parts]),
    )
