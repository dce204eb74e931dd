"""A step recorded once on a GPU and replayed: one launch in the place of hundreds, which for small networks take longer than the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Outcome = tuple[Tensor, Tensor]
"""Losses of groups, and the gradient."""
WARM_UP = 3
"""Runs before the recording: libraries choose their kernels, and take their memory, in the first ones."""


class Replayed:
    """``step(values, *target)`` as a CUDA graph, recorded at the first call, for inputs of that call's shapes.

    A graph reads and writes where it did when it was recorded: inputs are copied there, those of the target only when they are others. The
    gradient that a call returns is overwritten by the next one; losses, which are kept, are copied. Source: PyTorch, "CUDA semantics".
    """

    def __init__(self, step: Callable[..., Outcome]):
        self._step = step
        self._replay: Callable[[], None] | None = None
        self._held: list[Tensor] = []
        self._target: Sequence[Tensor] = ()

    def __call__(self, values: Tensor, *target: Tensor) -> Outcome:
        if self._replay is None:
            self._held = [tensor.clone() for tensor in (values, *target)]
            self._replay, self._outcome = record(lambda: self._step(*self._held))
        else:
            self._held[0].copy_(values)
            for held, tensor, before in zip(self._held[1:], target, self._target, strict=True):
                if tensor is not before:
                    held.copy_(tensor)
        self._target = target
        self._replay()
        losses, gradient = self._outcome
        return losses.clone(), gradient


def record(run: Callable[[], Outcome]) -> tuple[Callable[[], None], Outcome]:
    """What replays ``run``, and the tensors that it then writes its results to."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outcome = run()
    return graph.replay, outcome
