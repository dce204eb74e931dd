"""Images and labels to a trained network: the teacher, or a student without one."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.channels_last import channels_last
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.fit import batches_per_chunk, fit
from dfkd_exp.training.settings import Training
from dfkd_exp.training.transfer_set import Batch, TransferSet


def train_on_labels(
    network: nn.Module, images: TransferSet, inputs: InputSpec, settings: Training, seed: int, **options
) -> nn.Module:
    """Cross-entropy with the labels of ``images``."""
    settings = settings.suited_to(inputs.shape)

    def prepare(batch: Batch, uniform: Tensor, rows: Tensor | None) -> tuple[Tensor, ...]:
        labels = batch.take(rows).labels
        assert labels is not None
        return settings.shown(batch.pixels, inputs, uniform, rows), labels

    def loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        shown, wanted = batch
        return F.cross_entropy(net(shown), wanted, label_smoothing=settings.label_smoothing)

    device = (options.get("trainer") or TrainerSettings()).device()
    size = batches_per_chunk(settings, math.prod(inputs.shape), device)
    with channels_last(network, inputs.example()):
        return fit(network, images, loss, settings, seed, prepare=prepare, batches_per_chunk=size, **options)
