"""Images and labels to a trained network: the teacher, or a student without one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dfkd_exp.inputs import InputSpec
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.fit import batches_per_chunk, fit
from dfkd_exp.training.settings import Training


def train_on_labels(
    network: nn.Module, images: Tensor, labels: Tensor, inputs: InputSpec, settings: Training, seed: int, **options
) -> nn.Module:
    """Cross-entropy with the labels. ``images[N, C, H, W]``: uint8 pixels, or floating inputs as they are."""

    def prepare(chunk: tuple[Tensor, ...], uniform: Tensor) -> tuple[Tensor, ...]:
        shown, wanted = chunk
        return shown_to_network(shown, inputs, settings, uniform), wanted

    def loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        shown, wanted = batch
        return F.cross_entropy(net(shown), wanted, label_smoothing=settings.label_smoothing)

    device = (options.get("trainer") or TrainerSettings()).device()
    size = batches_per_chunk(settings, images[:1].numel(), device)
    return fit(network, (images, labels), loss, settings, seed, prepare=prepare, batches_per_chunk=size, **options)


def as_inputs(images: Tensor, inputs: InputSpec) -> Tensor:
    return images if images.is_floating_point() else inputs.from_pixels(images)


def shown_to_network(images: Tensor, inputs: InputSpec, settings: Training, uniform: Tensor) -> Tensor:
    """What the network in training sees of ``images``, as ``uniform[N, num_random]`` says."""
    shown = as_inputs(images, inputs)
    outside, _ = inputs.bounds(shown)
    return settings.augmentation(shown, uniform.to(shown.device), outside)
