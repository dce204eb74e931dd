"""Images to student."""

from __future__ import annotations

from torch import Tensor, nn

from dfkd_exp.distillation.losses import soft_cross_entropy
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.evaluation.metrics import predict_logits
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.recording import find_layers, frozen
from dfkd_exp.reconstruction.loop import Images
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.fit import batches_per_chunk, fit
from dfkd_exp.training.supervised import as_inputs, shown_to_network


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
        shown = shown_to_network(chunk[0], inputs, settings, uniform)
        return shown, teacher(shown) if settings.augmentation.changes else chunk[1]

    def loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        shown, wanted = batch
        return soft_cross_entropy(net(shown), wanted, settings.temperature)

    tensors: tuple[Tensor, ...] = (images,)
    units = images[:1].numel()
    if settings.augmentation.changes:
        example = as_inputs(images[:1].to(device), inputs)
        units += sum(layer.num_units for layer in find_layers(teacher, example))
    else:
        tensors = (images, predict_logits(teacher, images, inputs))
    size = batches_per_chunk(settings, units, device)
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
