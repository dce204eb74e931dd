"""What Lightning's loop costs per step, where the student is so small that it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from rich.table import Table
from torch import Tensor, nn

from benchmarks.measure import DEVICE, seconds_per_step, side_by_side
from dfkd_exp.distillation.losses import soft_cross_entropy
from dfkd_exp.models.networks import mlp
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.fit import fit
from dfkd_exp.training.module import Loss
from dfkd_exp.training.settings import Training
from dfkd_exp.training.transfer_set import Batch, FixedImages

IMAGES, EPOCHS = 12_800, 5
SHAPE, WIDTH = (1, 8, 8), 32


def loop(network: nn.Module, images: FixedImages, loss: Loss, settings: Training, seed: int) -> nn.Module:
    """What `fit` does, without Lightning: the same batches, the same optimiser, the same network at the end."""
    optimizer = settings.optimizer.build(network)
    for epoch in range(settings.epochs):
        for batch in images.batches(epoch, settings.batch_size, seed):
            optimizer.zero_grad()
            loss(network, with_logits(batch)).backward()
            optimizer.step()
    return network


def with_logits(batch: Batch, uniform: Tensor | None = None, rows: Tensor | None = None) -> tuple[Tensor, ...]:
    """What a student is shown and asked for."""
    own = batch.take(rows)
    assert own.logits is not None
    return own.pixels, own.logits


def soft_loss(network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    shown, wanted = batch
    return soft_cross_entropy(network(shown), wanted, temperature=8.0)


def tables() -> Iterator[Table]:
    """Milliseconds per step, from the first to the last, of `fit` and of the plain loop."""
    torch.manual_seed(0)
    settings = Training(epochs=EPOCHS)
    images = FixedImages.of(torch.rand(IMAGES, *SHAPE, device=DEVICE), logits=torch.randn(IMAGES, 10, device=DEVICE))
    trainer = TrainerSettings(accelerator=DEVICE.type)

    def counted(on_step: Callable[..., None]) -> Loss:
        def loss(network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
            on_step()
            return soft_loss(network, batch)

        return loss

    def ours(on_step: Callable[..., None]) -> None:
        options = {"label": "training", "trainer": trainer, "prepare": with_logits}
        fit(mlp(SHAPE, 10, WIDTH), images, counted(on_step), settings, 0, **options)

    def theirs(on_step: Callable[..., None]) -> None:
        loop(mlp(SHAPE, 10, WIDTH).to(DEVICE), images, counted(on_step), settings, 0)

    steps = EPOCHS * -(-IMAGES // settings.batch_size)
    slow, fast = side_by_side(ours, theirs, clock=partial(seconds_per_step, steps=steps))
    table = Table("a step of a tiny student", "fit, ms", "plain loop, ms", "ratio")
    name = f"{SHAPE[1] * SHAPE[2]}-{WIDTH}-{WIDTH}-10, {settings.batch_size} images"
    table.add_row(name, f"{1000 * slow:.2f}", f"{1000 * fast:.2f}", f"{slow / fast:.2f}")
    yield table
