"""A step of images of noise: an optimiser or a term that cannot work is known before anything else is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.recording import borrowed, recording
from dfkd_exp.reconstruction.inside import Inside
from dfkd_exp.reconstruction.optimizers import Optimizer
from dfkd_exp.reconstruction.terms.term import Candidates, Term
from dfkd_exp.training.rehearsal import tried

IMAGES, GROUPS = 6, 2


def rehearse_reconstruction(
    optimizer: Optimizer,
    terms: Sequence[Term],
    teacher: nn.Module,
    inputs: InputSpec,
    num_classes: int,
    in_the_loop: bool = False,
) -> None:
    """Compute the ``terms`` of a few images, and make one step by the ``optimizer``, by one gradient where a student is ``in_the_loop``.
    Raises DfkdError, with the flag, if either cannot be
    done; torch's generator is left alone."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(IMAGES, *inputs.shape, generator=generator)
    inside = Inside.of(teacher, inputs.example(), terms, num_classes)

    def look(shown: Tensor) -> dict[str, Any]:
        with borrowed(teacher), torch.no_grad(), recording(teacher, inside.layers) as recorder:
            return inside.seen(teacher, recorder(inputs.from_pixels(shown)))

    seen = look(pixels)
    logits, labels = torch.randn(IMAGES, num_classes, generator=generator), torch.arange(IMAGES) % num_classes
    candidates = Candidates(
        pixels, logits, labels, num_groups=GROUPS, **seen, student_logits=logits.flip(0),
        features_of=lambda shown: look(shown)["features"],
    )  # fmt: skip
    num_features = 0 if seen["features"] is None else seen["features"].shape[1]
    for term in terms:
        name = f"{term.flag}: {type(term).__name__}"
        seen_by_it = candidates
        if term.draws:
            drawn = tried(lambda term=term: term.draw(labels, inside.for_drawing, generator), f"{name} cannot draw")  # type: ignore[misc]
            seen_by_it = replace(candidates, drawn=drawn)

        def computed(term: Term = term, seen: Candidates = seen_by_it) -> Tensor:
            at_work = term.start(inputs.shape, num_features, seed=0) if term.learns else term
            return at_work(seen)

        missed = tried(computed, f"{name} cannot be computed")
        each, count = ("group", GROUPS) if term.of_groups else ("image", IMAGES)
        if not isinstance(missed, Tensor) or missed.shape != (count,):
            got = f"shape {list(missed.shape)}" if isinstance(missed, Tensor) else type(missed).__name__
            raise DfkdError(f"{name} must be one number for each {each}, [{count}] for {count} of them, got {got}")
    name = f"{optimizer.flag}: {type(optimizer).__name__}"
    stepper = tried(lambda: optimizer.build(pixels), f"{name} cannot be built")

    def closure() -> Tensor:
        pixels.grad = pixels - 0.5
        return pixels.grad.square().sum()

    tried(lambda: stepper.step(closure), f"{name} cannot make a step")  # type: ignore[arg-type]
    if in_the_loop:
        try:
            stepper.step()
        except TypeError as error:
            raise DfkdError(
                f"{name} takes a batch several times in a step, which source=synthesis does not; choose another"
            ) from error
