"""Transfer set to student."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dfkd_exp.data.images import LabelledImages, class_balanced
from dfkd_exp.data.labelled import as_images
from dfkd_exp.data.rows import Rows
from dfkd_exp.distillation.attention import Attention, attention_distance, logits_and_maps
from dfkd_exp.distillation.losses import logit_distance, soft_cross_entropy
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.errors import DfkdError
from dfkd_exp.evaluation.metrics import agreement, predict_logits
from dfkd_exp.inputs import InputSpec, unit_pixels
from dfkd_exp.models.channels_last import channels_last
from dfkd_exp.models.plain import as_classifier, num_logits
from dfkd_exp.models.recording import borrowed, find_layers
from dfkd_exp.reconstruction.loop import Images
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.augmentation import NoAugmentation
from dfkd_exp.training.fit import batches_per_chunk, fit
from dfkd_exp.training.transfer_set import Batch, FixedImages, TransferSet

TRAINING_IMAGES = 10_000
"""Of the training set, on which agreement is measured: what recipes are chosen by, since the test set must not be."""
MIXTURES = 2_000
"""On which agreement is measured: as many say it to a point."""
WHOLE_RUN = {"targets": "soft", "label_smoothing": 0.0, "holdout": 0.0, "snapshots": 0}
"""Settings that `distill` has no use for, at what it does."""


def train_on_teacher(
    network: nn.Module,
    teacher: nn.Module,
    images: TransferSet,
    inputs: InputSpec,
    settings: Distillation,
    seed: int,
    **options,
) -> nn.Module:
    """The settings' loss, soft cross-entropy with the teacher unless another is chosen. Without augmentation it answers once for each image
    that stays the same, unless its attention is asked for."""
    settings = settings.suited_to(inputs.shape)
    device = (options.get("trainer") or TrainerSettings()).device()
    attention = Attention.between(network, teacher, inputs.example()) if settings.attention else None

    def prepare(batch: Batch, uniform: Tensor, rows: Tensor | None) -> tuple[Tensor, ...]:
        shown = settings.shown(batch.pixels, inputs, uniform, rows)
        if attention is not None:
            return shown, *logits_and_maps(teacher, attention.teacher, shown)
        kept = None if settings.augmentation.changes else batch.take(rows).logits
        return shown, teacher(shown.clone()) if kept is None else kept

    def loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        shown, wanted, *maps = batch
        logits, *own = (net(shown),) if attention is None else logits_and_maps(net, attention.student, shown)
        of_logits = (
            logit_distance if settings.loss == "l1" else partial(soft_cross_entropy, temperature=settings.temperature)
        )
        missed = of_logits(logits, wanted)
        return missed if attention is None else missed + settings.attention * attention_distance(own, maps)

    example = inputs.example().to(device)
    with borrowed(teacher, device), channels_last(teacher, example), channels_last(network, example):
        if not settings.augmentation.changes and attention is None:
            images = images.with_logits(lambda pixels: predict_logits(teacher, pixels, inputs))
        units = math.prod(inputs.shape)
        if images.logits is None:
            units += sum(layer.num_units for layer in find_layers(teacher, example))
        size = batches_per_chunk(settings, units, device)
        return fit(network, images, loss, settings, seed, prepare=prepare, batches_per_chunk=size, **options)


def distill(
    student: nn.Module,
    teacher: nn.Module,
    images: Images | Tensor,
    seed: int = 0,
    inputs: InputSpec | None = None,
    augment: bool = True,
    **settings,
) -> nn.Module:
    """The student, trained in place on a teacher's soft targets for ``images``: `Images`, or what a network takes, ``[N, *shape]``.

    Either may return a tuple or dict with its logits, probabilities, or one logit of two classes. A student in half precision is
    converted to float32. ``settings``: the fields of `Distillation`, such as ``epochs=30`` or ``temperature=8``, but those of a whole run
    (WHOLE_RUN): the teacher answers for all ``images``, and what is left is the student after the last epoch. ``augment``: whether
    images are changed at random each time they are shown, as suits them (`Auto`); tables, series and volumes never are.
    ``inputs`` say which of a network's inputs are black and white, which matters only for augmentation; left out, it is the range of
    the images.
    """
    if student is teacher:
        raise DfkdError("student and teacher are one network; give a student of its own, or copy.deepcopy(teacher)")
    if not augment:
        settings["augmentation"] = NoAugmentation()
    if unused := [name for name, value in WHOLE_RUN.items() if settings.pop(name, value) != value]:
        raise DfkdError(
            f"distill knows no {' and no '.join(unused)}: that is of the command dfkd (distillation.{unused[0]})"
        )
    seen = None
    if isinstance(images, Images):
        pixels, inputs = images.pixels, images.spec
        seen = int(images.labels.max()) + 1
    else:
        images = as_images(images)
        inputs = inputs or InputSpec.observed([images])
        pixels = inputs.to_pixels(images)
    example, chosen = inputs.example(), Distillation(**settings)
    with (
        as_classifier(teacher, example, at_least=seen) as taught_by,
        as_classifier(student, example, num_logits(taught_by, example), "the student", in_place=True) as taught,
    ):
        train_on_teacher(taught, taught_by, FixedImages.of(pixels), inputs, chosen, seed, label="distillation")
    return student.eval()


def teacher_agreement(student: nn.Module, teacher: nn.Module, images: FixedImages, inputs: InputSpec) -> float:
    """Share of ``images`` that student and teacher put into the same class, in [0, 1]; both stay on their devices."""
    both = [
        torch.cat([predict_logits(n, batch.pixels, inputs) for batch in images.in_order()]) for n in (student, teacher)
    ]
    return agreement(*both)


def training_agreement(student: nn.Module, teacher: nn.Module, train: LabelledImages, inputs: InputSpec) -> float:
    """The same on some TRAINING_IMAGES, of all classes alike."""
    generator, num_classes = torch.Generator().manual_seed(0), int(train.labels.max()) + 1
    chosen = class_balanced(train.labels, TRAINING_IMAGES, num_classes, generator).sort().values
    images = FixedImages(lambda: (Rows([train.images]), None), chosen=chosen)
    return teacher_agreement(student, teacher, images, inputs)


class MixedAgreement(NamedTuple):
    """Share of mixtures that student and teacher put into the same class, in [0, 1]: ``overall``, and ``by_class``, the mean over the
    teacher's classes, where one that it puts none of them into counts as none agreed on: images that have all become one class are easy to
    agree on, and teach nothing."""

    overall: float
    by_class: float


def mixed_agreement(
    student: nn.Module, teacher: nn.Module, images: TransferSet, inputs: InputSpec, seed: int
) -> MixedAgreement | None:
    """Agreement on mixtures of two of the student's ``images``; None where there are no two. On the images themselves student and teacher
    agree too easily: the student was taught on them, or on their like.

    Some MIXTURES at most, each ``t a + (1 - t) b`` in pixels with t uniform in [0, 1]. Source: the mixtures of mixup (Zhang et al. 2018).
    """
    generator = torch.Generator().manual_seed(seed)
    agreed: list[Tensor] = []
    classes: list[Tensor] = []
    num_classes = 1
    for batch in images.sample(max(2, min(inputs.images_at_once, 2 * MIXTURES)), seed):
        pixels = unit_pixels(batch.pixels)
        first, second = pixels[0::2][: len(pixels) // 2], pixels[1::2]
        share = torch.rand(len(first), *[1] * len(inputs.shape), generator=generator)
        mixed = first * share + second * (1 - share)
        answers = [predict_logits(network, mixed, inputs) for network in (student, teacher)]
        num_classes = answers[1].shape[1]
        classes.append(answers[1].argmax(1))
        agreed.append((answers[0].argmax(1) == classes[-1]).double())
        if len(pixels) < 2 or sum(map(len, agreed)) >= MIXTURES:
            break
    same, of = torch.cat([torch.empty(0).double(), *agreed]), torch.cat([torch.empty(0).long(), *classes])
    if not len(same):
        return None
    counts = torch.bincount(of, minlength=num_classes).clamp_min(1)
    by_class = torch.bincount(of, same, minlength=num_classes) / counts
    return MixedAgreement(same.mean().item(), by_class.mean().item())
