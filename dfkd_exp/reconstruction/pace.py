"""How fast networks are on a device, from a step of each: for who wants to know beforehand how long a run will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.recording import borrowed, frozen, recording
from dfkd_exp.reconstruction.engine.choose import images_on_cpu, multiplies_bf16
from dfkd_exp.reconstruction.engine.known import Known
from dfkd_exp.training.settings import Training

if TYPE_CHECKING:
    from dfkd_exp.metadata.kind import MetadataKind
    from dfkd_exp.models.layers import Layer

TIMED = 1.0
"""Seconds that a step which is timed may take, or as long as two images take: of longer ones a part is timed."""
DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
FEWEST = 2
MOST_CLASSES = 32
"""Of which metadata is collected of two images each to see how large it is."""
SIDE = 256
"""Of a matrix whose singular value decomposition is timed."""


@dataclass(frozen=True)
class Pace:
    """How long steps of networks take on a ``device``, one of ``world`` that share them, for inputs that are ``inputs``; ``engines``: where
    it is kept which engine was fastest. The networks are moved there, and left in whatever mode."""

    inputs: InputSpec
    num_classes: int
    device: torch.device
    engines: Path
    world: int = 1
    timed: dict[tuple[Any, ...], float] = field(default_factory=dict, compare=False, repr=False)
    """Seconds of what was timed already, and bytes of what was collected: jobs of a sweep have most of it in common."""

    def of_engine(self, teacher: nn.Module, layers: Sequence[Layer]) -> float | None:
        """Image-steps a second through such a teacher, by all processes, if an engine was measured with one."""
        rate = Known(self.engines).rate(teacher, layers, self.device)
        return None if rate is None else rate * self.world

    def of_training(
        self, network: nn.Module, settings: Training, precision: str, teacher: nn.Module | None = None
    ) -> float:
        """Seconds of a step, of forward and backward pass, and of the ``teacher`` that answers for its images, if one does."""
        network.to(self.device).train().requires_grad_(True)
        answering = None if teacher is None else teacher.to(self.device).eval()
        dtype = DTYPES.get(precision)

        def step(count: int) -> Tensor:
            shown = torch.rand(count, *self.inputs.shape, device=self.device)
            targets = torch.arange(count, device=self.device) % self.num_classes
            with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
                if answering is not None:
                    with torch.no_grad():
                        targets = answering(shown).float().argmax(1)
                loss = F.cross_entropy(network(shown).float(), targets)
            loss.backward()
            return loss

        what = "training", network, precision, answering is not None
        return self._once((*what, settings.batch_size), lambda: self._of(step, settings.batch_size))

    def images_per_second(self, teacher: nn.Module, layers: Sequence[Layer], precision: str | None = None) -> float:
        """How many images go through the ``teacher`` with moments of its ``layers``: forwards and, in an engine's ``precision``, back."""
        frozen(teacher.to(self.device))
        back = precision is not None
        rounded = precision == "bf16" or (precision == "auto" and multiplies_bf16(self.device))

        def step(count: int) -> Tensor:
            pixels = torch.rand(count, *self.inputs.shape, device=self.device, requires_grad=back)
            with (
                torch.set_grad_enabled(back), torch.autocast(self.device.type, torch.bfloat16, enabled=rounded), borrowed(teacher),
                recording(teacher, layers) as recorder,
            ):  # fmt: skip
                moments = [each.float().std(0).square().mean() for each in (*recorder(pixels), recorder.output)]
                missed = torch.stack(moments).sum()
            if back:
                missed.backward()
            return missed

        at_once = images_on_cpu(layers) if self.device.type == "cpu" else self.inputs.images_at_once
        what = "images", teacher, tuple(layer.name for layer in layers), rounded, back
        return at_once / self._once(what, lambda: self._of(step, at_once))

    def bytes_of(self, kind: MetadataKind, teacher: nn.Module) -> int:
        """Bytes of the metadata of a kind; 0 if they follow from the images, or of so many classes that it takes a while to find out."""
        if not kind.sized_beforehand or self.num_classes > MOST_CLASSES:
            return 0
        what = "bytes", teacher, repr(kind)
        return round(self._once(what, lambda: kind.num_bytes(teacher, self.inputs, self.num_classes)))

    def of_basis(self, sizes: Sequence[int]) -> float:
        """Seconds of the whole basis of a graph over layers of so many units, in proportion to its operations."""

        def decomposed() -> float:
            began = time.perf_counter()
            torch.linalg.svd(torch.rand(SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
            return time.perf_counter() - began

        sides = sum(sizes[::2]), sum(sizes[1::2])
        each = self._once(("basis",), lambda: min(decomposed(), decomposed()) / _operations(SIDE, SIDE))
        return each * _operations(max(sides), min(sides))

    def _once(self, what: tuple[Any, ...], timed: Callable[[], float]) -> float:
        if what not in self.timed:
            self.timed[what] = timed()
        return self.timed[what]

    def _of(self, step: Callable[[int], Tensor], images: int) -> float:
        """Seconds that ``step`` takes for a process's share of so many images."""
        share = max(FEWEST, -(-images // self.world))

        def timed(count: int) -> float:
            began = time.perf_counter()
            step(count).item()  # a GPU is waited for
            return time.perf_counter() - began

        generators = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(generators), torch.enable_grad():
            step(FEWEST)  # what is done once
            few = timed(FEWEST)
            count = max(FEWEST, min(share, int(FEWEST * TIMED / few)))
            return (min(timed(count), timed(count)) if count > FEWEST else few) * share / count


def _operations(more: int, fewer: int) -> float:
    """About, of the singular vectors of a matrix with so many rows and columns, all of them, and the rotation of those it maps to zero
    (Golub and Van Loan, 2013, figure 8.6.1 and section 5.4.2)."""
    null = more - fewer
    return 4.0 * more**2 * fewer + 22.0 * fewer**3 + 4.0 * more * null**2
