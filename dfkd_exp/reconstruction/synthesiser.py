"""Batches of images one after another, for a student who learns meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from dfkd_exp.models.recording import borrowed
from dfkd_exp.reconstruction.learner import flat, take_up
from dfkd_exp.reconstruction.objective import Objective, draw_groups
from dfkd_exp.reconstruction.optimizers import Optimizer
from dfkd_exp.reconstruction.targets import GroupTarget
from dfkd_exp.seeding import derive_seed


class Synthesiser:
    """Makes batches of ``groups`` groups of ``group_size`` images in ``steps`` steps each, of gradients whose norm is at most ``clip``.
    What images have in common, such as a generator's weights, goes on being optimised from one batch to the next, with the state of its
    optimiser, unless the space renews it.

    Where batches begin from what is learned (`ImageSpace.starts`), that is moved after each batch by an optimiser of its own, whose rate is
    that of a step times their number, along the sum of the gradients at all steps of the batch. Source: Fang et al. (2022), Fast, whose
    published code does so. Differs: first-order MAML (Finn et al. 2017) takes the gradient at the adapted weights alone.
    """

    def __init__(
        self, objective: Objective, optimizer: Optimizer, groups: int, group_size: int, steps: int, seed: int,
        clip: float | None = None,
    ):  # fmt: skip
        self.objective, self.optimizer, self.steps, self.seed, self.clip = objective, optimizer, steps, seed, clip
        self.groups, self.group_size = groups, group_size
        objective.together = True
        objective.space.begin(derive_seed(seed, "space"))
        self.made = 0
        """Batches that were made."""
        self._kept: torch.optim.Optimizer | None = None
        self._learners = objective.started(derive_seed(seed, "terms"))

    def make(self, student: nn.Module | None = None, rate: float = 1.0) -> tuple[Tensor, Tensor]:
        """Another batch: its pixels ``[N, *shape]``, and the classes ``[N]`` that they were made for. The student is looked at as it is,
        and left so. ``rate``: by which learning rates are multiplied."""
        space, number = self.objective.space, self.made
        groups = range(number * self.groups, (number + 1) * self.groups)
        seed = derive_seed(self.seed, "batch")
        values, target = draw_groups(self.objective, groups, seed, self.group_size)
        looked_at = self.objective.steps(target, groups, seed, self.steps)
        for renewed in space.begin_batch(derive_seed(self.seed, "space", number)):
            if self._kept is not None:
                self._kept.state.pop(renewed, None)
        self._learners.begin_batch(derive_seed(self.seed, "terms", number))
        stepper = self._stepper(values)
        steppers = [stepper, *([self._keeper()] if space.starts() else [])]
        for group in (group for one in steppers for group in one.param_groups):
            group["lr"] = rate * group.setdefault("initial_lr", group["lr"])
        self.objective.student = student
        with nullcontext() if student is None else borrowed(student), self.objective.multiplied():
            pixels = self._optimise(values, looked_at, stepper)
        self.objective.student = None
        self._learners.after_batch()
        if space.starts():
            self._keeper().step()
            self._keeper().zero_grad()
        self.made += 1
        return pixels, target.labels.flatten()

    def _pixels(self, values: Tensor) -> Tensor:
        with torch.no_grad(), self.objective.multiplied():
            return self.objective.images(values).float()

    def others(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """So many images of the space as it is, of values that were not optimised, and their classes, all of them in turn."""
        labels = torch.arange(count) % self.objective.metadata.num_classes
        values = self.objective.space.start(labels, torch.Generator().manual_seed(seed))
        device = self.objective.problem.device
        return self._pixels(values.to(device)), labels.to(device)

    def state(self) -> dict[str, Tensor]:
        """What later batches depend on, by name."""
        kept = {f"shared.{i}": tensor for i, tensor in enumerate(self.objective.space.shared())}
        kept |= {f"start.{i}": tensor for i, tensor in enumerate(self.objective.space.starts())}
        kept |= {f"buffer.{name}": tensor for name, tensor in self.objective.space.buffers().items()}
        kept |= self._learners.state()
        if self._kept is not None:
            kept |= flat(self._kept, "optimizer")
        return {name: tensor.detach().clone() for name, tensor in kept.items()} | {"made": torch.tensor(self.made)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` returned."""
        self.made = int(state["made"])
        space = self.objective.space
        with torch.no_grad():
            for index, tensor in enumerate(space.shared()):
                tensor.copy_(state[f"shared.{index}"])
            for index, tensor in enumerate(space.starts()):
                tensor.copy_(state[f"start.{index}"])
            for name, tensor in space.buffers().items():
                tensor.copy_(state[f"buffer.{name}"])
        self._learners.load_state(state)
        if any(name.startswith("optimizer.") for name in state):
            take_up(self._keeper(), "optimizer", state)

    def _stepper(self, values: Tensor) -> torch.optim.Optimizer:
        """The optimiser of a batch: of its values, of what images have in common, or both."""
        space = self.objective.space
        own = [values.requires_grad_(True)] if space.optimises_values else []
        if space.shared() and not space.renews:
            return self._keeper()
        if space.values_lr is None:
            return self.optimizer.build(*own, *space.shared())
        stepper = self.optimizer.build(*space.shared())
        stepper.add_param_group({"params": own, "lr": space.values_lr})
        return stepper

    def _keeper(self) -> torch.optim.Optimizer:
        """The optimiser of what goes on being optimised from one batch to the next."""
        if self._kept is None:
            starts = self.objective.space.starts()
            settings = replace(self.optimizer, lr=self.optimizer.lr * self.steps) if starts else self.optimizer
            self._kept = settings.build(*(starts or self.objective.space.shared()))
        return self._kept

    def _optimise(self, values: Tensor, looked_at: Iterable[GroupTarget], stepper: torch.optim.Optimizer) -> Tensor:
        """The images: those of the optimised values, or the last of a network that makes them, whose step is for the batches to come."""
        optimised = [tensor for group in stepper.param_groups for tensor in group["params"]]
        space = self.objective.space
        for step, target in enumerate(looked_at):
            stepper.zero_grad()
            with torch.enable_grad(), self.objective.recording(target) as recorder:
                made = self.objective.made(values)
                self.objective.losses(recorder, made, target).mean().backward()
            if self.clip is not None:
                nn.utils.clip_grad_norm_(optimised, self.clip)
            for start, weights in zip(space.starts(), space.shared(), strict=False):
                assert weights.grad is not None
                start.grad = weights.grad.clone() if start.grad is None else start.grad + weights.grad
            stepper.step()
            self._learners.step()
            with torch.no_grad():
                space.after_step(values, step)
        return made[0].detach().float().contiguous() if space.shared() else self._pixels(values)
