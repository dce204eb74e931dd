"""Choosing the engine by measuring: a few steps of each candidate, once per machine and kind of work."""

from __future__ import annotations

import itertools
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dfkd_exp import console
from dfkd_exp.metadata.metadata import Metadata
from dfkd_exp.reconstruction.engine import PLAIN, Engine
from dfkd_exp.reconstruction.objective import Objective, draw_groups
from dfkd_exp.reconstruction.rows import fits
from dfkd_exp.reconstruction.settings import Reconstruction
from dfkd_exp.store import canonical_json, write_atomically

WORTH_MEASURING = 1e12
"""Floating-point operations of a reconstruction below which measuring takes longer than it saves."""
LARGEST_GRADIENT_ERROR, LARGEST_LOSS_ERROR = 0.2, 0.01
"""Relative to plain fp32 at the start of the optimisation; bf16 is not used where it is further off."""
STEPS = 3
CHOICES = tuple(field.name for field in fields(Engine))


def settle(
    engine: Engine,
    teacher: nn.Module,
    metadata: Metadata,
    settings: Reconstruction,
    cache: Path | None = None,
) -> Engine:
    """``engine`` with everything that it leaves open chosen: as ``cache`` says, or by measuring, which takes some seconds.

    The teacher must be frozen and lie, like the metadata, on the device to use.
    """
    if engine.settled:
        return engine
    settings = replace(settings, start="noise")  # as fast, without looking for the class means anew for each candidate
    plain = _completed(engine, replace(PLAIN, images_per_batch=_images_per_batch(metadata)))
    steps = settings.images_per_class * metadata.num_classes * settings.steps
    if steps * _operations(teacher, metadata, settings) < WORTH_MEASURING:
        return plain
    key = canonical_json(_circumstances(engine, metadata, settings))
    known: dict[str, Any] = json.loads(cache.read_text()) if cache and cache.is_file() else {}
    if key not in known:
        console.heading("engine: measuring what is fastest, once for this machine and teacher")
        chosen, rate, plain_rate = _fastest(engine, plain, teacher, metadata, settings)
        console.note(f"{describe(chosen)}: {rate:,.0f} image-steps/s, {rate / plain_rate:.1f} times plain PyTorch")
        known[key] = {**{name: getattr(chosen, name) for name in CHOICES}, "image_steps_per_second": rate}
        if cache:
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(cache, (json.dumps(known, indent=2) + "\n").encode())
    return Engine(**{name: known[key][name] for name in CHOICES})


def describe(engine: Engine) -> str:
    """In a few words."""
    parts = [engine.precision, *(["convolutions as rows"] if engine.convolutions == "rows" else [])]
    parts += ["compiled"] if engine.compile else []
    return ", ".join([*parts, f"{engine.images_per_batch:,} images at a time"])


def _completed(engine: Engine, other: Engine) -> Engine:
    """``engine`` with ``other``'s choices where it leaves them open."""
    return Engine(
        precision=other.precision if engine.precision == "auto" else engine.precision,
        convolutions=other.convolutions if engine.convolutions == "auto" else engine.convolutions,
        compile=other.compile if engine.compile is None else engine.compile,
        images_per_batch=engine.images_per_batch or other.images_per_batch,
    )


def _images_per_batch(metadata: Metadata) -> int:
    """As many as keep a processor busy, as long as the recorded activations stay below a quarter of a gigabyte."""
    enough = 8_000 if metadata.device.type == "cuda" else 1_000
    return max(1, min(enough, 2**28 // (4 * sum(layer.num_units for layer in metadata.layers))))


def _candidates(engine: Engine, plain: Engine, teacher: nn.Module, metadata: Metadata) -> Iterator[Engine]:
    """What may be fastest, uncompiled; the first is ``plain``."""
    on_cpu = metadata.device.type == "cpu"
    size = metadata.inputs.shape[1:]
    rows = ["rows"] if on_cpu and any(fits(module, size) for module in teacher.modules()) else []
    open_precisions = ["fp32", "bf16"] if engine.precision == "auto" else [engine.precision]
    open_convolutions = ["direct", *rows] if engine.convolutions == "auto" else [engine.convolutions]
    for precision, convolutions in itertools.product(open_precisions, open_convolutions):
        yield replace(plain, precision=precision, convolutions=convolutions, compile=False)


def _fastest(
    engine: Engine, plain: Engine, teacher: nn.Module, metadata: Metadata, settings: Reconstruction
) -> tuple[Engine, float, float]:
    """The fastest candidate, its image-steps per second, and those of plain PyTorch."""
    measured: list[tuple[float, Engine]] = []
    reference = None
    with console.Progress("candidates", 7) as progress:
        for candidate in _candidates(engine, plain, teacher, metadata):
            rate, outcome = _measure(candidate, teacher, metadata, settings)
            reference = outcome if reference is None else reference
            if _close(outcome, reference):
                measured.append((rate, candidate))
            progress.advance()
        assert reference is not None, "there is always plain PyTorch"
        best = max(measured, key=lambda pair: pair[0])
        for part in (2, 5) if engine.images_per_batch is None else ():
            # Fewer images at a time may fit into the processor's cache; a device that wants more is slower with them.
            candidate = replace(best[1], images_per_batch=max(1, (plain.images_per_batch or 0) // part))
            rate, _ = _measure(candidate, teacher, metadata, settings)
            best = max(best, (rate, candidate), key=lambda pair: pair[0])
            progress.advance()
        if engine.compile is not False:
            candidate = replace(best[1], compile=True)
            try:
                rate, outcome = _measure(candidate, teacher, metadata, settings)
            except Exception as error:  # no compiler, or a network that cannot be traced: many kinds, from many layers
                if engine.compile:
                    raise
                console.note(f"not compiled ({type(error).__name__})")
            else:
                if engine.compile or (rate > best[0] and _close(outcome, reference)):
                    best = (rate, candidate)
            progress.advance()
    return best[1], best[0], measured[0][0]


Outcome = tuple[torch.Tensor, torch.Tensor]


def _measure(engine: Engine, teacher: nn.Module, metadata: Metadata, settings: Reconstruction) -> tuple[float, Outcome]:
    """Image-steps per second, the median of a few, and losses and gradient at the start."""
    groups = range(
        min(max(1, (engine.images_per_batch or 1000) // settings.group_size), 10 * settings.groups_per_class)
    )
    objective = Objective(teacher, metadata, settings, engine)
    pixels, targets = draw_groups(objective, groups, seed=0)
    outcome = objective(pixels, targets)
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        objective(pixels, targets)[0].sum().item()  # waits for a device that runs ahead
        seconds.append(time.perf_counter() - started)
    return len(pixels) / sorted(seconds)[STEPS // 2], outcome


def _close(outcome: Outcome, reference: Outcome) -> bool:
    losses, gradient = outcome
    true_losses, true_gradient = reference[0][: len(losses)], reference[1][: len(gradient)]  # groups do not mix
    loss_error = ((losses - true_losses).abs() / true_losses.abs().clamp_min(1e-12)).max()
    gradient_error = (gradient - true_gradient).norm() / true_gradient.norm().clamp_min(1e-12)
    return bool(loss_error <= LARGEST_LOSS_ERROR and gradient_error <= LARGEST_GRADIENT_ERROR)


def _operations(teacher: nn.Module, metadata: Metadata, settings: Reconstruction) -> float:
    """Floating-point operations of the matrix products and convolutions in one image-step."""
    two = replace(settings, images_per_class=2, group_size=2)
    objective = Objective(teacher, metadata, two, PLAIN)
    pixels, targets = draw_groups(objective, [0], seed=0)
    with FlopCounterMode(display=False) as counter:
        objective(pixels, targets)
    return counter.get_total_flops() / 2


def _circumstances(engine: Engine, metadata: Metadata, settings: Reconstruction) -> dict[str, Any]:
    """What the choice depends on."""
    device = metadata.device
    on_gpu = device.type == "cuda"
    return {
        "machine": torch.cuda.get_device_name(device) if on_gpu else f"{platform.node()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "layers": [[layer.name, *layer.shape] for layer in metadata.layers],
        "inputs": list(metadata.inputs.shape),
        "match": type(settings).__name__,
        "group_size": settings.group_size,
        "asked": [engine.precision, engine.convolutions, engine.compile, engine.images_per_batch],
    }
