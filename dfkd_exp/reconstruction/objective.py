"""The loss of groups of images and its gradient: as plain autograd, traced into one graph, or compiled."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from dfkd_exp.metadata.metadata import Metadata
from dfkd_exp.models.recording import Recorder, recording
from dfkd_exp.reconstruction.engine import Engine
from dfkd_exp.reconstruction.losses import Targets, total_variation
from dfkd_exp.reconstruction.rows import with_row_convolutions
from dfkd_exp.reconstruction.settings import Reconstruction
from dfkd_exp.reconstruction.start import around, class_means
from dfkd_exp.seeding import derive_seed

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Step = Callable[..., tuple[Tensor, Tensor]]


class Objective:
    """``objective(pixels, targets)``: losses ``[G]``, and the gradient of their sum, for ``pixels[G * N, C, H, W]``.

    It holds the frozen teacher in the form that the engine asks for. Images, statistics and losses are float32 always.
    """

    def __init__(self, teacher: nn.Module, metadata: Metadata, settings: Reconstruction, engine: Engine):
        self.metadata, self.settings, self.engine = metadata, settings, engine
        self.dtype = DTYPES[engine.precision]
        example = metadata.inputs.from_pixels(torch.full((2, *metadata.inputs.shape), 0.5))
        example = example.to(metadata.device)
        self.class_means = class_means(teacher, metadata, settings.init_mean) if settings.start == "metadata" else None
        if engine.convolutions == "rows":
            teacher = with_row_convolutions(teacher, example)
        elif self.dtype != torch.float32:
            teacher = copy.deepcopy(teacher)
        self.teacher = teacher.to(self.dtype)
        with torch.no_grad(), recording(self.teacher, metadata.layer_names) as recorder:
            self._orders = [_memory_order(output) for output in recorder(example.to(self.dtype))]
        self._steps: dict[tuple[int, ...], Step] = {}

    def arranged(self, targets: Targets) -> Targets:
        """``targets`` with their units in the order in which the teacher's outputs lie in memory. Do this once per batch."""
        return [
            tuple(values if order is None else values[..., order.to(values.device)].contiguous() for values in layer)
            for layer, order in zip(targets, self._orders, strict=True)
        ]

    def __call__(self, pixels: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        flat = list(itertools.chain.from_iterable(targets))
        step = self._steps.get(tuple(pixels.shape))
        if step is None:
            step = self._steps[tuple(pixels.shape)] = self._built(pixels, flat, [len(layer) for layer in targets])
        with torch.no_grad():
            return step(pixels.detach(), *flat)

    def losses(self, recorder: Recorder, pixels: Tensor, targets: Targets) -> Tensor:
        """The loss of each group, ``[G]``: the match with the metadata, and the priors."""
        settings = self.settings
        inputs = self.metadata.inputs.from_pixels(pixels).to(self.dtype)
        recorded = zip(recorder(inputs), self._orders, strict=True)
        activations = self.metadata.activations([_in_memory_order(output, order).float() for output, order in recorded])
        grouped = [values.unflatten(0, (-1, settings.group_size)) for values in activations]
        losses = settings.loss(grouped, targets, self.metadata)
        if settings.total_variation:
            losses = losses + settings.total_variation * total_variation(pixels).view(len(losses), -1).mean(1)
        if settings.l2:
            losses = losses + settings.l2 * pixels.square().view(len(losses), -1).mean(1)
        return losses

    def _built(self, pixels: Tensor, flat: Sequence[Tensor], sizes: Sequence[int]) -> Step:
        def step(pixels: Tensor, *flat: Tensor) -> tuple[Tensor, Tensor]:
            parts = iter(flat)
            targets = [tuple(itertools.islice(parts, size)) for size in sizes]
            with torch.enable_grad(), recording(self.teacher, self.metadata.layer_names) as recorder:
                pixels = pixels.detach().requires_grad_(True)
                losses = self.losses(recorder, pixels, targets)
                (gradient,) = torch.autograd.grad(losses.sum(), pixels)
            return losses.detach(), gradient

        if not self.engine.compile:
            return step
        # Loss and gradient in one graph: hooks and autograd are gone from the loop, and the compiler sees all of it.
        graph = make_fx(step)(pixels.detach(), *flat)
        warnings.filterwarnings("ignore", module="torch._(inductor|dynamo|functorch).*")
        return torch.compile(graph, dynamic=False)


def _memory_order(output: Tensor) -> Tensor | None:
    """Where outputs ``[N, C, H, W]`` lie with channels last, the index of each unit in memory order; else None."""
    if output.dim() != 4 or output.is_contiguous() or not output.is_contiguous(memory_format=torch.channels_last):
        return None
    return torch.arange(output[0].numel(), device=output.device).view(output.shape[1:]).permute(1, 2, 0).flatten()


def _in_memory_order(output: Tensor, order: Tensor | None) -> Tensor:
    return (output if order is None else output.permute(0, 2, 3, 1)).flatten(1)


def group_label(group: int, num_classes: int) -> int:
    """The class of a group: they take turns, so that any run of groups is balanced."""
    return group % num_classes


def draw_groups(objective: Objective, groups: Sequence[int], seed: int) -> tuple[Tensor, Targets]:
    """What ``groups`` start from, pixels ``[G * N, C, H, W]``, and what they are to match."""
    settings, metadata = objective.settings, objective.metadata
    starts, targets = [], []
    for group in groups:
        generator = torch.Generator().manual_seed(derive_seed(seed, "group", group))
        label = group_label(group, metadata.num_classes)
        noise = torch.randn(settings.group_size, *metadata.inputs.shape, generator=generator)
        if objective.class_means is None:
            starts.append(settings.init_mean + settings.init_std * noise)
        else:
            starts.append(around(objective.class_means[label].cpu(), noise))
        targets.append(settings.draw_targets(metadata, label, generator))
    stacked = [tuple(torch.stack(parts) for parts in zip(*layer, strict=True)) for layer in zip(*targets, strict=True)]
    pixels = torch.cat(starts).to(metadata.device)
    return pixels, objective.arranged(stacked)
