"""Image-steps per second of the loops of other methods, as we compute them, and as their authors published them or their papers say.

``python -m benchmarks field --published FOLDER``; each loop is measured in a process of its own, ours and the other in turns.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks import children, published, reference
from benchmarks.measure import DEVICE, side_by_side, synchronise
from dfkd_exp import InputSpec
from dfkd_exp.metadata.nothing import Nothing
from dfkd_exp.models.ours import builder
from dfkd_exp.models.recording import frozen
from dfkd_exp.reconstruction.engine.choose import describe_computation, engine_in_the_loop
from dfkd_exp.reconstruction.engine.settings import PLAIN, Engine
from dfkd_exp.reconstruction.moments import Moments
from dfkd_exp.reconstruction.objective import Objective
from dfkd_exp.reconstruction.optimizers import Adam
from dfkd_exp.reconstruction.parametrisation.base import Parametrisation
from dfkd_exp.reconstruction.parametrisation.generator import FromGenerator
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from dfkd_exp.reconstruction.problem import Problem
from dfkd_exp.reconstruction.synthesiser import Synthesiser
from dfkd_exp.reconstruction.terms.batch_norm import BatchNorm
from dfkd_exp.reconstruction.terms.label import Label
from dfkd_exp.reconstruction.terms.term import Term
from dfkd_exp.reconstruction.terms.total_variation import TotalVariation

SHAPE, NUM_CLASSES = (3, 32, 32), 10
NETWORK = "resnet20"
BATCH, STEPS, ROUNDS = 64, 4, 5
FOLDER: Path | None = None
"""Of what `published.FOLDERS` names, if the reader has it."""

LOOPS: dict[str, tuple[Parametrisation, list[Term], float]] = {
    "DeepInversion": (Pixels(), [Label(), BatchNorm(weight=10.0), TotalVariation(weight=2.5e-5)], 0.1),
    "Fast": (
        FromGenerator(latents=published.NOISE, kept="meta", optimise_latents=True, latents_lr=0.015),
        [Label(weight=0.4), BatchNorm(weight=10.0)], 5e-3,
    ),
}  # fmt: skip
"""What images are made of, of what terms, and at which learning rate."""


def teacher_of(seed: int = 0) -> nn.Module:
    """Untrained, in evaluation mode, its running statistics those of noise; its weights not frozen, as they are in the published loops."""
    torch.manual_seed(seed)
    network = builder(NETWORK)(SHAPE, NUM_CLASSES)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(BATCH, *SHAPE))
    return network.eval().to(DEVICE)


def seconds_per_step(work: Callable[[], object], steps: int) -> float:
    """Seconds from the end of a batch's first step to that of its last, by the optimiser's."""
    times: list[float] = []

    def note(*_: object) -> None:
        synchronise()
        times.append(time.perf_counter())

    handle = register_optimizer_step_post_hook(note)
    try:
        work()
    finally:
        handle.remove()
    return (times[-1] - times[0]) / (steps - 1)


def ours(loop: str, engine: Engine) -> tuple[Callable[[], object], str]:
    """What makes a batch when called, and how it computes."""
    made_of, terms, lr = LOOPS[loop]
    teacher = frozen(teacher_of())
    inputs = InputSpec.normalised(SHAPE, [], [])
    noise = [(torch.rand(2 * NUM_CLASSES, *SHAPE), torch.arange(2 * NUM_CLASSES) % NUM_CLASSES)]
    metadata = Nothing().collect(teacher.cpu(), noise, inputs).resolved(teacher)
    settings = Moments(images_per_class=BATCH, group_size=BATCH, schedule="constant")
    problem = Problem(teacher.to(DEVICE), metadata, settings, made_of, terms)
    resolved = engine_in_the_loop(engine, problem)
    synthesiser = Synthesiser(Objective(problem, resolved), Adam(lr=lr), 1, BATCH, STEPS, seed=0)
    return synthesiser.make, describe_computation(resolved)


def measured(loop: str, folder: Path | None) -> dict[str, Any]:
    """Here and now: image-steps per second of ours, of ours by PyTorch as it is, and of the other."""
    if folder is not None:
        other = published.LOOPS[loop](folder, teacher_of(), SHAPE, BATCH, STEPS)
    else:
        other = partial(reference.deep_inversion, frozen(teacher_of()), SHAPE, NUM_CLASSES, BATCH, STEPS)
    chosen, how = ours(loop, Engine())
    plain, _ = ours(loop, PLAIN)
    taken = side_by_side(chosen, plain, other, clock=partial(seconds_per_step, steps=STEPS), rounds=ROUNDS)
    return {"rates": [BATCH / seconds for seconds in taken], "how": how}


def tables() -> Iterator[Table | str]:
    """A line for each loop whose other is there."""
    shown = Table(
        f"{NETWORK}, {BATCH} images",
        "ours, image-steps/s",
        "how",
        "ours, plain fp32",
        "theirs",
        "ratio",
        "ratio, plain",
    )
    for loop, place in published.FOLDERS.items():
        folder = FOLDER if FOLDER and (FOLDER / place.partition("/")[2]).is_dir() else None
        name = f"{loop}, as published"
        if folder is None:
            yield f"field: --published FOLDER, with a clone of https://github.com/{place} in it, compares with {loop} as published"
            if loop != "DeepInversion":
                continue
            name = f"{loop}, as its paper says"
        arguments = [loop, *([str(folder)] if folder else [])]
        found = json.loads(children.python("-m", "benchmarks.field", *arguments).splitlines()[-1])
        chosen, plain, other = found["rates"]
        ratios = [f"{rate / other:.1f}x" for rate in (chosen, plain)]
        shown.add_row(name, f"{chosen:,.0f}", found["how"], f"{plain:,.0f}", f"{other:,.0f}", *ratios)
    yield shown


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)))
