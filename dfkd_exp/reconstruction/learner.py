"""Terms that learn or remember: what they know goes with the run from batch to batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dfkd_exp.reconstruction.terms.term import Candidates

RATE = 1e-3
"""Learning rate of what terms learn, by Adam (CMI)."""


class Learner(nn.Module):
    """A `Term` at work: its parameters are what it learns, along the gradient of the images' loss, its buffers what it remembers."""

    def forward(self, candidates: Candidates) -> Tensor:
        """As `Term.__call__`."""
        raise NotImplementedError

    def begin_batch(self, seed: int) -> None:
        """Called before a batch is made; ``seed``: for all that is drawn within it."""
        return

    def after_batch(self) -> None:
        """Called once a batch is made, of whose images those of the last call are the latest."""
        return


def flat(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """The tensors of an optimiser's state, by names that begin so."""
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}.{index}.{name}": value
        for index, entries in state.items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def take_up(optimizer: torch.optim.Optimizer, prefix: str, state: Mapping[str, Tensor]) -> None:
    """Give it back, out of whatever else there is."""
    entries: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith(f"{prefix}."):
            _, index, entry = name.split(".", 2)
            entries.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})


class Learners:
    """All learners of an objective, and the optimiser of what they learn, which is kept over the run."""

    def __init__(self, learners: Sequence[Learner]):
        self._all = nn.ModuleList(learners)
        parameters = list(self._all.parameters())
        self._optimizer = torch.optim.Adam(parameters, lr=RATE) if parameters else None

    def begin_batch(self, seed: int) -> None:
        """As `Learner.begin_batch`."""
        for learner in self._all:
            learner.begin_batch(seed)  # type: ignore[operator]  # a list of modules does not know of what kind they are

    def step(self) -> None:
        """Learn from the gradients that there are, which are then gone."""
        if self._optimizer is not None:
            self._optimizer.step()
            self._optimizer.zero_grad()

    def after_batch(self) -> None:
        """As `Learner.after_batch`."""
        for learner in self._all:
            learner.after_batch()  # type: ignore[operator]

    def state(self) -> dict[str, Tensor]:
        """What later batches depend on, by name."""
        learned = {f"learned.{name}": tensor for name, tensor in self._all.state_dict().items()}
        return learned | (flat(self._optimizer, "learning") if self._optimizer else {})

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` returned, among whatever else there is."""
        learned = {name.removeprefix("learned."): state[name] for name in state if name.startswith("learned.")}
        self._all.load_state_dict(learned)
        if self._optimizer is not None:
            take_up(self._optimizer, "learning", state)
