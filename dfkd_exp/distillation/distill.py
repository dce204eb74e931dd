"""Images to student."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from dfkd_exp.console import Progress
from dfkd_exp.distillation.losses import random_affine, soft_cross_entropy
from dfkd_exp.distillation.module import Loss, Prepare, ResumePoint, TrainingModule, Watch
from dfkd_exp.distillation.settings import Distillation, Training
from dfkd_exp.errors import DfkdError
from dfkd_exp.evaluation.metrics import predict_logits
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.recording import find_layers, frozen
from dfkd_exp.reconstruction.loop import Images
from dfkd_exp.trainer import TrainerSettings

CHUNK_BYTES = {"cpu": 2**23, "cuda": 2**28}
"""Of images and the teacher's activations that are made for several batches at once: what a processor has in its cache, or
what keeps a GPU busy."""
MOST_BATCHES_PER_CHUNK = 64


def fit(
    network: nn.Module,
    tensors: tuple[Tensor, ...],
    loss: Loss,
    settings: Training,
    seed: int,
    label: str,
    trainer: TrainerSettings | None = None,
    logger: object = False,
    resume: Path | None = None,
    prepare: Prepare = lambda chunk, _: chunk,
    batches_per_chunk: int = 1,
    look: Callable[[int], None] | None = None,
) -> nn.Module:
    """Train ``network`` in place on slices of ``tensors`` (all ``[N, ...]``) and return it, on the CPU, after the last epoch.

    ``prepare`` makes batches of them, ``batches_per_chunk`` at a time. ``resume``: a file to continue from if it exists, and
    to save to from time to time. The result is the same, bit for bit, whether it was interrupted or not. ``look(part)`` is
    called now and then, when ``network`` may be tried (`Watch`).
    """
    network.train()  # it may have been evaluated before
    with Progress(label, settings.num_steps(len(tensors[0]))) as progress:
        module = TrainingModule(network, tensors, loss, settings, seed, progress, prepare, batches_per_chunk)
        callbacks: list[object] = [ResumePoint(resume)] if resume else []
        callbacks += [Watch(look)] if look else []
        runner = (trainer or TrainerSettings()).build(
            logger=logger, callbacks=callbacks, max_epochs=settings.epochs, reload_dataloaders_every_n_epochs=1
        )
        continued = resume if resume and resume.is_file() else None
        runner.fit(module, ckpt_path=str(continued) if continued else None, weights_only=True)
    if not all(parameter.isfinite().all() for parameter in network.parameters()):
        raise DfkdError(f"{label} diverged; lower {settings.flag}.lr (now {settings.lr:g})")
    return network.cpu().eval()


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
