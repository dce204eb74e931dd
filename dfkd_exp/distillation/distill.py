"""Images to student."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfkd_exp.distillation.losses import random_affine, soft_cross_entropy
from dfkd_exp.distillation.settings import Distillation, Training
from dfkd_exp.evaluation.metrics import predict_logits
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.recording import find_layers, frozen
from dfkd_exp.reconstruction.loop import Images
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.fit import fit

CHUNK_BYTES = {"cpu": 2**23, "cuda": 2**28}
"""Of images and the teacher's activations that are made for several batches at once: what a processor has in its cache, or
what keeps a GPU busy."""
MOST_BATCHES_PER_CHUNK = 64


def train_on_labels(
    network: nn.Module, images: Tensor, labels: Tensor, inputs: InputSpec, settings: Training, seed: int, **options
) -> nn.Module:
    """Cross-entropy with the labels. ``images[N, C, H, W]``: uint8 pixels, or floating inputs as they are."""

    def prepare(chunk: tuple[Tensor, ...], uniform: Tensor) -> tuple[Tensor, ...]:
        shown, wanted = chunk
        return _shown(shown, inputs, settings, uniform), wanted

    def loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        shown, wanted = batch
        return nn.functional.cross_entropy(net(shown), wanted)

    device = (options.get("trainer") or TrainerSettings()).device()
    size = _batches_per_chunk(settings, images[:1].numel(), device)
    return fit(network, (images, labels), loss, settings, seed, prepare=prepare, batches_per_chunk=size, **options)


def train_on_teacher(
    network: nn.Module,
    teacher: nn.Module,
    images: Tensor,
    inputs: InputSpec,
    settings: Distillation,
    seed: int,
    **options,
) -> nn.Module:
    """Soft cross-entropy with the teacher. Without augmentation the teacher answers once for each image."""
    device = (options.get("trainer") or TrainerSettings()).device()
    frozen(teacher).to(device)

    def prepare(chunk: tuple[Tensor, ...], uniform: Tensor) -> tuple[Tensor, ...]:
        shown = _shown(chunk[0], inputs, settings, uniform)
        return shown, teacher(shown) if settings.augment else chunk[1]

    def loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        shown, wanted = batch
        return soft_cross_entropy(net(shown), wanted, settings.temperature)

    tensors: tuple[Tensor, ...] = (images,)
    units = images[:1].numel()
    if settings.augment:
        example = _as_inputs(images[:1].to(device), inputs)
        units += sum(layer.num_units for layer in find_layers(teacher, example))
    else:
        tensors = (images, predict_logits(teacher, images, inputs))
    size = _batches_per_chunk(settings, units, device)
    fit(network, tensors, loss, settings, seed, prepare=prepare, batches_per_chunk=size, **options)
    teacher.cpu()
    return network


def distill(
    student: nn.Module,
    teacher: nn.Module,
    images: Images | Tensor,
    seed: int = 0,
    inputs: InputSpec | None = None,
    **settings,
) -> nn.Module:
    """The student, trained in place on a teacher's soft targets for ``images``: `Images`, or floating ``[N, C, H, W]``.

    ``settings``: the fields of `Distillation`, such as ``epochs=30`` or ``temperature=8``. ``inputs`` matter only for
    augmentation; left out, they are the range of the images.
    """
    tensor = images.inputs if isinstance(images, Images) else images
    if inputs is None:
        channels, height, width = tensor.shape[1:]
        low, high = tensor.amin((0, 2, 3)).tolist(), tensor.amax((0, 2, 3)).tolist()
        inputs = InputSpec((channels, height, width), tuple(low), tuple(high))
    return train_on_teacher(student, teacher, tensor, inputs, Distillation(**settings), seed, label="distillation")


def _as_inputs(images: Tensor, inputs: InputSpec) -> Tensor:
    return images if images.is_floating_point() else inputs.from_pixels(images)


def _shown(images: Tensor, inputs: InputSpec, settings: Training, uniform: Tensor) -> Tensor:
    """What the network in training sees of ``images``."""
    shown = _as_inputs(images, inputs)
    if not (isinstance(settings, Distillation) and settings.augment):
        return shown
    return random_affine(
        shown, inputs, settings.augment_degrees, settings.augment_shift, settings.augment_scale, uniform
    )


def _batches_per_chunk(settings: Training, units_per_image: int, device: torch.device) -> int:
    """As many batches as are worth preparing at once."""
    batch_bytes = 4 * units_per_image * settings.batch_size
    return max(1, min(MOST_BATCHES_PER_CHUNK, CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"]) // batch_bytes))
