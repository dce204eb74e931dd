"""Batches of images one after another, for a student who learns meanwhile."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dfkd_exp.models.recording import borrowed
from dfkd_exp.reconstruction.objective import Objective, draw_groups
from dfkd_exp.reconstruction.optimizers import Optimizer
from dfkd_exp.reconstruction.targets import GroupTarget
from dfkd_exp.seeding import derive_seed


class Synthesiser:
    """Makes batches of ``groups`` groups in ``steps`` steps each. What images have in common, such as a generator's weights, goes on being
    optimised from one batch to the next, with the state of its optimiser, unless the space renews it."""

    def __init__(self, objective: Objective, optimizer: Optimizer, groups: int, steps: int, seed: int):
        self.objective, self.optimizer, self.groups, self.steps, self.seed = objective, optimizer, groups, steps, seed
        self.made = 0
        """Batches that were made."""
        self._kept: torch.optim.Optimizer | None = None

    def make(self, student: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """Another batch: its pixels ``[N, *shape]``, and the classes ``[N]`` that they were made for. The student is looked at as it is,
        and left so."""
        space, number = self.objective.space, self.made
        groups = range(number * self.groups, (number + 1) * self.groups)
        values, target = draw_groups(self.objective, groups, derive_seed(self.seed, "batch"))
        space.begin_batch(derive_seed(self.seed, "space", number))
        stepper = self._stepper(values)
        self.objective.student = student
        if student is None:
            self._optimise(values, target, stepper)
        else:
            with borrowed(student):
                self._optimise(values, target, stepper)
        self.objective.student = None
        self.made += 1
        return self._pixels(values), target.labels.flatten()

    def _pixels(self, values: Tensor) -> Tensor:
        with torch.no_grad():
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
        kept |= {f"buffer.{name}": tensor for name, tensor in self.objective.space.buffers().items()}
        if self._kept is not None:
            for index, entries in self._kept.state_dict()["state"].items():
                kept |= {f"optimizer.{index}.{name}": value for name, value in entries.items()}
        return {name: tensor.detach().clone() for name, tensor in kept.items()} | {"made": torch.tensor(self.made)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` returned."""
        self.made = int(state["made"])
        space = self.objective.space
        with torch.no_grad():
            for index, tensor in enumerate(space.shared()):
                tensor.copy_(state[f"shared.{index}"])
            for name, tensor in space.buffers().items():
                tensor.copy_(state[f"buffer.{name}"])
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("optimizer."):
                _, number, entry = name.split(".", 2)
                entries.setdefault(int(number), {})[entry] = value
        if entries:
            self._kept = self.optimizer.build(*space.shared())
            self._kept.load_state_dict({**self._kept.state_dict(), "state": entries})

    def _stepper(self, values: Tensor) -> torch.optim.Optimizer:
        """The optimiser of a batch: of its values, of what images have in common, or both."""
        space = self.objective.space
        own = [values.requires_grad_(True)] if space.optimises_values else []
        if space.renews or not space.shared():
            return self.optimizer.build(*own, *space.shared())
        self._kept = self._kept or self.optimizer.build(*space.shared())
        return self._kept

    def _optimise(self, values: Tensor, target: GroupTarget, stepper: torch.optim.Optimizer) -> None:
        for step in range(self.steps):
            stepper.zero_grad()
            with torch.enable_grad(), self.objective.recording(target) as recorder:
                self.objective.losses(recorder, values, target).mean().backward()
            stepper.step()
            with torch.no_grad():
                self.objective.space.after_step(values, step)
