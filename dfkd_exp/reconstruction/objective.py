"""The loss of groups of images and its gradient: as plain autograd, traced into one graph and compiled, or replayed."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from dfkd_exp.models.float32 import multiplied_as
from dfkd_exp.models.layers import Site
from dfkd_exp.models.plain import require_gradient
from dfkd_exp.models.recording import Recorder, recording
from dfkd_exp.models.view import View
from dfkd_exp.reconstruction.engine.form import DTYPES, formed
from dfkd_exp.reconstruction.engine.replay import Replayed
from dfkd_exp.reconstruction.engine.settings import ResolvedEngine
from dfkd_exp.reconstruction.group_values import GroupValues
from dfkd_exp.reconstruction.inside import Inside
from dfkd_exp.reconstruction.layout import Layout
from dfkd_exp.reconstruction.learner import Learners
from dfkd_exp.reconstruction.losses import covariance_loss, draw_loss, moment_loss
from dfkd_exp.reconstruction.masks import DropoutMasks
from dfkd_exp.reconstruction.moves import draw_moves, moved
from dfkd_exp.reconstruction.problem import Problem
from dfkd_exp.reconstruction.targets import GroupTarget, LayerTarget
from dfkd_exp.reconstruction.terms.term import Candidates
from dfkd_exp.seeding import derive_seed

Step = Callable[..., tuple[Tensor, Tensor]]


class Objective:
    """``objective(values, target)``: losses ``[G]``, and the gradient of their sum, for what is optimised: ``values[G * N, …]`` of the
    problem's `space`, such as pixels ``[G * N, *shape]``.

    It holds the frozen teacher in the form that the engine asks for. Images, statistics and losses are float32 always.
    """

    def __init__(self, problem: Problem, engine: ResolvedEngine):
        metadata = problem.metadata
        self.problem, self.metadata, self.settings, self.engine = problem, metadata, problem.settings, engine
        self.dtype = DTYPES[engine.precision]
        example = metadata.inputs.example().to(problem.device)
        require_gradient(problem.teacher, example, "the teacher")
        self._bounds = metadata.inputs.bounds(example)
        self.space = problem.space
        self.terms = problem.all_terms
        self.inside = Inside.of(problem.teacher, example, self.terms, metadata.num_classes)
        self.settings.check_shape(metadata.inputs.shape)
        masked = self.settings.masks_dropout(metadata)
        self.masks = DropoutMasks(problem.teacher, example) if masked else None
        # Masks, and what terms look at, lie as the teacher's own values do.
        form = formed(problem.teacher, engine, example, keep_order=bool(self.masks or self.inside.layers))
        self.teacher, self._format = form.teacher, form.memory_format
        with torch.no_grad(), recording(self.teacher, metadata.layers) as recorder:
            outputs = recorder(example.to(self.dtype, memory_format=self._format))
        self._layouts = [
            Layout.in_order(form.orders[layer.name], layer)
            if layer.side == "output" and layer.name in form.orders
            else Layout.of(output, layer)
            for layer, output in zip(metadata.layers, outputs, strict=True)
        ]
        self._copied: set[Site] = set()
        """The teacher's values that something overwrites later on, as far as a recorder has met with it."""
        self.student: nn.Module | None = None
        self.together = False
        """Whether the groups of a batch are made together, as they are for a student in the loop."""
        self._at_work: list[Callable[[Candidates], Tensor]] = list(self.terms)
        self._steps: dict[tuple[int, ...], Step] = {}

    def started(self, seed: int) -> Learners:
        """The terms that learn or remember, which do so from now on."""
        features = self.inside.layers[0].num_units if self.inside.features else 0
        learners = []
        for index, term in enumerate(self.terms):
            if term.learns:
                learner = term.start(self.metadata.inputs.shape, features, derive_seed(seed, "term", index))
                learners.append(learner.to(self.problem.device))
                self._at_work[index] = learner
        return Learners(learners)

    def drawn(self, labels: Tensor, generator: torch.Generator) -> GroupTarget:
        """What one group of images of classes ``labels[N]`` is to match."""
        layers = self.settings.targets(self.metadata, labels, generator)
        masks = self.masks.draw(len(labels), generator) if self.masks else ()
        drawn = [term.draw(labels, self.inside.for_drawing, generator) for term in self.terms if term.draws]
        unmoved = torch.zeros(len(self.metadata.inputs.shape), dtype=torch.long) if self.settings.moves else None
        return GroupTarget(tuple(layers), labels, masks, tuple(drawn), unmoved)

    def arranged(self, target: GroupTarget) -> GroupTarget:
        """A target as the teacher's values lie in memory, on its device. Do this once per batch."""
        return target.to(self.problem.device).arranged(lambda layer: self._layouts[layer].order)

    def steps(self, target: GroupTarget, groups: Sequence[int], seed: int, count: int) -> Iterator[GroupTarget]:
        """The target of ``groups`` at each of so many steps: the same, but that images are moved otherwise, if they are to be."""
        if target.moves is None:
            yield from itertools.repeat(target, count)
            return
        shape, drawn = self.metadata.inputs.shape, []
        for group in groups:
            generator = torch.Generator().manual_seed(derive_seed(seed, "moves", group))
            drawn.append(draw_moves(self.settings, shape, count, generator))
        for moves in torch.stack(drawn, 1).to(self.problem.device):
            yield replace(target, moves=moves)

    def __call__(self, values: Tensor, target: GroupTarget) -> tuple[Tensor, Tensor]:
        flat = target.tensors()
        step = self._steps.get(tuple(values.shape))
        if step is None:
            step = self._steps[tuple(values.shape)] = self._built(values, target)
        with torch.no_grad(), self.multiplied():
            return step(values.detach(), *flat)

    def multiplied(self) -> AbstractContextManager[None]:
        """Within the context, a GPU multiplies as the engine's precision says."""
        if self.problem.device.type == "cpu":
            return nullcontext()
        return multiplied_as(tf32=self.engine.precision == "tf32")

    def images(self, values: Tensor) -> Tensor:
        """The pixels ``[G * N, *shape]`` that optimised ``values`` stand for."""
        return self.made(values)[0].contiguous()

    def made(self, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """The same, as they lie in memory, and what is added to each image's loss. A network that makes them computes as the teacher
        does."""
        with self._in_precision() if self.space.shared() else nullcontext():
            pixels, excess = self.space.pixels(values)
        return pixels.float(), excess

    def _in_precision(self) -> AbstractContextManager[None]:
        """Networks whose weights stay float32, a generator's and a student's, compute in the teacher's precision."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.problem.device.type, self.dtype)

    @contextmanager
    def recording(self, target: GroupTarget) -> Iterator[Recorder]:
        """The teacher's recorder; masked, if the target has masks."""
        masks = [mask.flatten(0, 1) for mask in target.masks]
        masked = self.masks.applied(self.teacher, masks) if self.masks else nullcontext()
        layers = [*self.metadata.layers, *self.inside.layers]
        with masked, recording(self.teacher, layers, self._copied) as recorder:
            yield recorder

    def losses(self, recorder: Recorder, made: tuple[Tensor, Tensor | None], target: GroupTarget) -> Tensor:
        """The loss of each group, ``[G]``, of what was `made`: the match with the metadata, and the terms."""
        pixels, excess = made
        if target.moves is not None:
            pixels = moved(pixels, target.moves)
        inputs = self._inputs(pixels)
        recorded = recorder(inputs)
        outputs = zip(recorded, self._layouts, strict=False)  # behind them is what terms look at
        # Maps stay in the teacher's precision until their moments are taken, which are float32; vectors are few.
        lying = [layout(output if output.dim() > 2 else output.float()) for output, layout in outputs]
        activations = self.metadata.activations(lying)
        # Not [G, N, U]: with one index per axis of the memory's the compiler makes vector code, with remainders it does not.
        shapes = [(*target.labels.shape, *layout.order.shape) for layout in self._layouts]
        views: list[list[View | None]] = [[] for _ in shapes]
        for wanted in target.layers:
            views[wanted.layer].append(wanted.view)
        grouped = [
            GroupValues(values.reshape(shape), layout, seen)
            for values, shape, layout, seen in zip(activations, shapes, self._layouts, views, strict=True)
        ]
        losses = pixels.new_zeros(len(target.labels))
        for wanted in target.layers:
            losses = losses + self.settings.match_weight * self._missed(grouped[wanted.layer], wanted)
        if excess is not None:
            losses = losses + excess.view(target.labels.shape).mean(1)
        if self.terms:
            with self._in_precision():
                asked = self.student if any(term.of_student for term in self.terms) else None
                answered = None if asked is None else asked(inputs.float().contiguous()).float()
            candidates = Candidates(
                pixels, recorder.output.float(), target.labels.flatten(), len(losses), student_logits=answered,
                features_of=lambda shown: self._seen(recorder(self._inputs(shown)))["features"], **self._seen(recorded),
            )  # fmt: skip
            # What holds of all classes together is not to be asked of one class's images, if there are others beside them.
            of_all = (
                replace(candidates, num_groups=1) if self.together and not self.metadata.mixes_classes else candidates
            )
            drawn = iter(target.drawn)
            for term, at_work in zip(self.terms, self._at_work, strict=True):
                shown = of_all if term.of_groups else candidates
                missed = at_work(replace(shown, drawn=next(drawn).flatten(0, 1)) if term.draws else shown)
                losses = losses + term.weight * (missed if term.of_groups else candidates.by_group(missed).mean(1))
        return losses

    def _inputs(self, pixels: Tensor) -> Tensor:
        """Pixels as the teacher takes them."""
        inputs = self.metadata.inputs.from_pixels(pixels, self._bounds)
        return inputs.to(self.dtype, memory_format=self._format)

    def _seen(self, recorded: Sequence[Tensor]) -> dict[str, Any]:
        """The fields of candidates of which the teacher's recorder knows."""
        # The statistics that its norms carry are exact in the teacher itself, whatever the engine computes in.
        return self.inside.seen(self.problem.teacher, recorded[len(self._layouts) :])

    def _missed(self, values: GroupValues, wanted: LayerTarget) -> Tensor:
        """What groups' values of one layer miss of what is wanted there, ``[G]``."""
        losses = values.values.new_zeros(len(values.values), dtype=torch.float32)
        if wanted.mean is not None:
            assert wanted.std is not None
            assert wanted.scale is not None
            losses = losses + moment_loss(values.moments(wanted.view), wanted.mean, wanted.std, wanted.scale)
        if wanted.draw is not None:
            assert wanted.draw_weight is not None
            losses = losses + wanted.draw_weight * draw_loss(values.values.float(), wanted.draw, wanted.rectified)
        if wanted.directions is not None:
            rows = values.rows(wanted.view)
            losses = losses + wanted.directions_weight * covariance_loss(rows, wanted.directions.flatten(2))
        return losses

    def _built(self, values: Tensor, target: GroupTarget) -> Step:
        def step(values: Tensor, *flat: Tensor) -> tuple[Tensor, Tensor]:
            wanted = target.with_tensors(flat)
            with torch.enable_grad(), self.recording(wanted) as recorder:
                values = values.detach().requires_grad_(True)
                losses = self.losses(recorder, self.made(values), wanted)
                (gradient,) = torch.autograd.grad(losses.sum(), values)
            return losses.detach(), gradient

        if any(len(values) < shape[0] for shape in self._steps):
            return step  # the last batch, which is smaller, is not worth another compilation
        built: Step = step
        if self.engine.compile:
            # Loss and gradient in one graph: hooks and autograd are gone from the loop, and the compiler sees all of it.
            graph = make_fx(step)(values.detach(), *target.tensors())
            warnings.filterwarnings("ignore", module="torch._(inductor|dynamo|functorch).*")
            built = torch.compile(graph, dynamic=False)
        return Replayed(built) if self.engine.cuda_graphs else built


def draw_groups(
    objective: Objective, groups: Sequence[int], seed: int, group_size: int | None = None
) -> tuple[Tensor, GroupTarget]:
    """What ``groups`` start from, ``[G * N, …]``, and what they are to match; ``group_size``: other than the problem's."""
    starts, targets = [], []
    for group in groups:
        generator = torch.Generator().manual_seed(derive_seed(seed, "group", group))
        size = group_size or objective.settings.group_size
        labels = objective.metadata.group_labels(group, size, objective.problem.turns)
        starts.append(objective.space.start(labels, generator))
        targets.append(objective.drawn(labels, generator))
    values = torch.cat(starts).to(objective.problem.device)
    return values, objective.arranged(GroupTarget.stacked(targets))
