"""The loss of groups of images and its gradient: as plain autograd, traced into one graph, or compiled."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from dfkd_exp.metadata.metadata import Metadata
from dfkd_exp.models.recording import Recorder, recording
from dfkd_exp.reconstruction.engine.rewrite import with_blocks
from dfkd_exp.reconstruction.engine.settings import ResolvedEngine
from dfkd_exp.reconstruction.losses import Targets, total_variation
from dfkd_exp.reconstruction.masks import DropoutMasks
from dfkd_exp.reconstruction.prior import OUT_OF_RANGE, WeightsPrior, weights_prior
from dfkd_exp.reconstruction.settings import Reconstruction
from dfkd_exp.reconstruction.start import around, class_means
from dfkd_exp.seeding import derive_seed

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Step = Callable[..., tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Layout:
    """How a layer's outputs for one image lie in memory: the index of each unit in the order of the metadata, ``[*U]``."""

    order: Tensor
    channels_last: bool = False

    @classmethod
    def of(cls, output: Tensor) -> Layout:
        """That of outputs ``[N, …]`` in the metadata's order, whichever way their strides are."""
        order = torch.arange(output[0].numel(), device=output.device).view(output.shape[1:])
        channels_last = output.dim() == 4 and output.is_contiguous(memory_format=torch.channels_last)
        if channels_last and not output.is_contiguous():
            return cls(order.permute(1, 2, 0), channels_last=True)
        return cls(order)

    def __call__(self, output: Tensor) -> Tensor:
        """Outputs ``[N, …]`` as ``[N, *U]``, without moving anything."""
        return output.permute(0, 2, 3, 1) if self.channels_last else output


class Objective:
    """``objective(values, targets)``: losses ``[G]``, and the gradient of their sum, for what is optimised: pixels ``[G * N, C, H, W]``,
    or with a `prior` latents ``[G * N, D]``.

    It holds the frozen teacher in the form that the engine asks for. Images, statistics and losses are float32 always.
    """

    def __init__(self, teacher: nn.Module, metadata: Metadata, settings: Reconstruction, engine: ResolvedEngine):
        self.metadata, self.settings, self.engine = metadata, settings, engine
        self.dtype = DTYPES[engine.precision]
        example = metadata.inputs.example().to(metadata.device)
        self.class_means: Tensor | None = None
        self.prior: WeightsPrior | None = None
        if settings.start == "metadata" and settings.optimise == "pixels":
            self.class_means = class_means(teacher, metadata, settings.init_mean)
        if settings.optimise == "latents":
            prior = weights_prior(teacher, metadata.inputs, settings.directions, settings.init_mean)
            self.prior = replace(prior, basis=prior.basis.to(metadata.device))
        self.masks = DropoutMasks(teacher, example) if settings.masks_dropout(metadata) else None
        orders: dict[str, Tensor] = {}
        if engine.convolutions == "blocks" and not self.masks:  # masks lie as the teacher's own outputs do
            teacher, orders = with_blocks(teacher, example)
        elif self.dtype != torch.float32:
            teacher = copy.deepcopy(teacher)
        self.teacher = teacher.to(self.dtype)
        with torch.no_grad(), recording(self.teacher, metadata.layer_names) as recorder:
            outputs = recorder(example.to(self.dtype))
        named = zip(metadata.layer_names, outputs, strict=True)
        self._layouts = [Layout(orders[name]) if name in orders else Layout.of(output) for name, output in named]
        self._steps: dict[tuple[int, ...], Step] = {}

    def arranged(self, targets: Targets) -> Targets:
        """``targets`` ``[G, …, U]`` as the teacher's outputs lie in memory: ``[G, …, *U]``. Do this once per batch."""
        return [
            tuple(values[..., layout.order.to(values.device)].contiguous() for values in layer)
            for layer, layout in zip(targets, self._layouts, strict=True)
        ]

    def drawn(self, label: int, generator: torch.Generator) -> tuple[Targets, tuple[Tensor, ...]]:
        """What one group of class ``label`` is to match, and its dropout masks, if there are any."""
        targets = self.settings.draw_targets(self.metadata, label, generator)
        return targets, self.masks.draw(self.settings.group_size, generator) if self.masks else ()

    def __call__(self, values: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        flat = list(itertools.chain.from_iterable(targets))
        step = self._steps.get(tuple(values.shape))
        if step is None:
            step = self._steps[tuple(values.shape)] = self._built(values, flat, [len(layer) for layer in targets])
        with torch.no_grad():
            return step(values.detach(), *flat)

    def start(self, label: int, generator: torch.Generator) -> Tensor:
        """What one group of class ``label`` starts from: ``[N, C, H, W]`` or ``[N, D]``."""
        settings, shape = self.settings, self.metadata.inputs.shape
        if self.prior:
            return torch.randn(settings.group_size, len(self.prior.basis), generator=generator)
        noise = torch.randn(settings.group_size, *shape, generator=generator)
        if self.class_means is None:
            return settings.init_mean + settings.init_std * noise
        return around(self.class_means[label].cpu(), noise)

    def images(self, values: Tensor) -> Tensor:
        """The pixels ``[G * N, C, H, W]`` that optimised ``values`` stand for."""
        return self.prior(values)[0] if self.prior else values

    @contextmanager
    def _recording(self, targets: Targets) -> Iterator[Recorder]:
        """The teacher's recorder; masked, if masks stand behind the layers' ``targets``."""
        masks = [mask.flatten(0, 1) for mask in itertools.chain(*targets[len(self._layouts) :])]
        masked = self.masks.applied(self.teacher, masks) if self.masks else nullcontext()
        with masked, recording(self.teacher, self.metadata.layer_names) as recorder:
            yield recorder

    def losses(self, recorder: Recorder, values: Tensor, targets: Targets) -> Tensor:
        """The loss of each group, ``[G]``: the match with the metadata, and the priors."""
        settings = self.settings
        pixels, excess = self.prior(values) if self.prior else (values, None)
        inputs = self.metadata.inputs.from_pixels(pixels).to(self.dtype)
        recorded = zip(recorder(inputs), self._layouts, strict=True)
        activations = self.metadata.activations([layout(output).float() for output, layout in recorded])
        # Not [G, N, U]: with one index per axis of the memory's the compiler makes vector code, with remainders it does not.
        shapes = [(-1, settings.group_size, *layout.order.shape) for layout in self._layouts]
        grouped = [values.reshape(shape) for values, shape in zip(activations, shapes, strict=True)]
        losses = settings.loss(grouped, targets[: len(grouped)], self.metadata)
        if excess is not None:
            losses = losses + OUT_OF_RANGE * excess.view(len(losses), -1).mean(1)
        if settings.total_variation:
            losses = losses + settings.total_variation * total_variation(pixels).view(len(losses), -1).mean(1)
        if settings.l2:
            losses = losses + settings.l2 * pixels.square().view(len(losses), -1).mean(1)
        return losses

    def _built(self, values: Tensor, flat: Sequence[Tensor], sizes: Sequence[int]) -> Step:
        def step(values: Tensor, *flat: Tensor) -> tuple[Tensor, Tensor]:
            parts = iter(flat)
            targets = [tuple(itertools.islice(parts, size)) for size in sizes]
            with torch.enable_grad(), self._recording(targets) as recorder:
                values = values.detach().requires_grad_(True)
                losses = self.losses(recorder, values, targets)
                (gradient,) = torch.autograd.grad(losses.sum(), values)
            return losses.detach(), gradient

        if not self.engine.compile:
            return step
        # Loss and gradient in one graph: hooks and autograd are gone from the loop, and the compiler sees all of it.
        graph = make_fx(step)(values.detach(), *flat)
        warnings.filterwarnings("ignore", module="torch._(inductor|dynamo|functorch).*")
        return torch.compile(graph, dynamic=False)


def group_label(group: int, num_classes: int) -> int:
    """The class of a group: they take turns, so that any run of groups is balanced."""
    return group % num_classes


def draw_groups(objective: Objective, groups: Sequence[int], seed: int) -> tuple[Tensor, Targets]:
    """What ``groups`` start from, pixels ``[G * N, C, H, W]`` or latents ``[G * N, D]``, and what they are to match."""
    metadata = objective.metadata
    starts, targets, masks = [], [], []
    for group in groups:
        generator = torch.Generator().manual_seed(derive_seed(seed, "group", group))
        label = group_label(group, metadata.num_classes)
        starts.append(objective.start(label, generator))
        drawn, own_masks = objective.drawn(label, generator)
        targets.append(drawn)
        masks.append(own_masks)
    stacked = [tuple(torch.stack(parts) for parts in zip(*layer, strict=True)) for layer in zip(*targets, strict=True)]
    values = torch.cat(starts).to(metadata.device)
    stacked_masks = tuple(torch.stack(parts).to(values.device) for parts in zip(*masks, strict=True))
    return values, [*objective.arranged(stacked), *([stacked_masks] if stacked_masks else [])]
