"""Fitting a network to images under Lightning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from dfkd_exp.console import Progress, note
from dfkd_exp.errors import DfkdError
from dfkd_exp.ranks import ranks_of_process
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.checkpoint import AtomicCheckpointIO, is_sound
from dfkd_exp.training.module import Loss, Prepare, ResumePoint, Snapshots, TrainingModule, Watch, as_they_are
from dfkd_exp.training.settings import Training
from dfkd_exp.training.transfer_set import TransferSet

CHUNK_BYTES = {"cpu": 2**23, "cuda": 2**28}
"""Of images and activations that are made for several batches at once: what a processor has in its cache, or what keeps a GPU busy."""
MOST_BATCHES_PER_CHUNK = 64


def fit(
    network: nn.Module,
    images: TransferSet,
    loss: Loss,
    settings: Training,
    seed: int,
    label: str,
    trainer: TrainerSettings | None = None,
    logger: object = False,
    resume: Path | None = None,
    prepare: Prepare = as_they_are,
    batches_per_chunk: int = 1,
    look: Callable[[int], None] | None = None,
    snapshots: Snapshots | None = None,
) -> nn.Module:
    """Train ``network`` in place on the batches of ``images`` and return it, on the CPU, after the last epoch.

    ``prepare`` makes of them what the network is shown, ``batches_per_chunk`` at a time, unless the images follow the network or those
    of a batch are mixed.
    ``resume``: a file to continue from if it exists, and to save to from time to time. The result is the same, bit for bit, whether
    it was interrupted or not. ``look(part)`` is called now and then, when ``network`` may be tried (`Watch`);
    ``snapshots`` keep it as it is over the training.
    """
    at_once = 1 if images.follows_student or settings.augmentation.mixes else batches_per_chunk
    network.train()  # it may have been evaluated before
    if (suited := settings.optimizer.suited_to(network)) is not settings.optimizer:
        note(f"optimiser chosen for this network: {type(suited).__name__}, learning rate {suited.lr:g}")
    with Progress(label, settings.num_steps(len(images))) as progress:
        module = TrainingModule(network, images, loss, settings, seed, progress, prepare, at_once)
        callbacks: list[object] = [snapshots] if snapshots else []
        callbacks += [ResumePoint(resume)] if resume else []
        callbacks += [Watch(look)] if look else []
        runner = (trainer or TrainerSettings()).build(
            logger=logger,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            max_epochs=settings.epochs,
            reload_dataloaders_every_n_epochs=1,
        )
        continued = resume if resume and ranks_of_process().agreed(lambda: is_sound(resume)) else None
        runner.fit(module, ckpt_path=str(continued) if continued else None, weights_only=True)
    if not all(parameter.isfinite().all() for parameter in network.parameters()):
        raise DfkdError(f"{label} diverged; lower {settings.optimizer.rate_flag(network)}")
    return network.cpu().eval()


def batches_per_chunk(settings: Training, units_per_image: int, device: torch.device) -> int:
    """As many batches as are worth preparing at once."""
    batch_bytes = 4 * units_per_image * settings.batch_size
    return max(1, min(MOST_BATCHES_PER_CHUNK, CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"]) // batch_bytes))
