"""Dropout that is drawn once for each image and then frozen: the paper's third kind of metadata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.recording import recording

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class DropoutMasks:
    """The dropout layers of a teacher, and masks for them. Source: Lopes et al. (2017).

    ``example``: inputs ``[N, *shape]``. Raises DfkdError if the teacher has no ``nn.Dropout``.
    """

    def __init__(self, teacher: nn.Module, example: Tensor):
        modules = {name: m for name, m in teacher.named_modules() if isinstance(m, DROPOUTS) and 0 < m.p < 1}
        if not modules:
            raise DfkdError(
                "metadata=all_layers_dropout needs a teacher with nn.Dropout layers, and this one has none; "
                "choose reconstruction=moments, or metadata=all_layers"
            )
        self.names, self.rates = list(modules), [module.p for module in modules.values()]
        with torch.no_grad(), recording(teacher, self.names) as recorder:
            outputs = recorder(example)
        if parts := [name for name, output in zip(self.names, outputs, strict=True) if len(output) != len(example)]:
            raise DfkdError(
                f"metadata=all_layers_dropout needs dropout of one tensor per image, images first, which the teacher's {parts[0]} is not; "
                "choose reconstruction=moments, or metadata=all_layers"
            )
        self.shapes = [
            # The others drop whole channels.
            output.shape[1:] if isinstance(module, nn.Dropout) else (output.shape[1], *[1] * (output.dim() - 2))
            for module, output in zip(modules.values(), outputs, strict=True)
        ]

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """For ``count`` images, a mask ``[count, *shape]`` per layer: 0, or what keeps the mean, 1 / (1 - rate)."""
        return tuple(
            (torch.rand(count, *shape, generator=generator) >= rate).float() / (1 - rate)
            for shape, rate in zip(self.shapes, self.rates, strict=True)
        )

    @contextmanager
    def applied(self, teacher: nn.Module, masks: Sequence[Tensor]) -> Iterator[None]:
        """The teacher, in evaluation mode, with ``masks`` ``[N, *shape]`` for as long as the context lasts."""
        modules = dict(teacher.named_modules())

        def hook_for(mask: Tensor):
            # Of other images, fewer, a recorder looks at the shapes alone.
            return lambda _module, _inputs, output: (
                output * mask.to(output.dtype) if len(output) == len(mask) else output
            )

        handles = [
            modules[name].register_forward_hook(hook_for(mask)) for name, mask in zip(self.names, masks, strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
