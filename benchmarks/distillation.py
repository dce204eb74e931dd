"""Images per second of the student's training and of evaluation, against plain loops, and the limit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks import reference
from benchmarks.measure import DEVICE, Row, of_matmul_rate, operations, side_by_side
from dfkd_exp import InputSpec
from dfkd_exp.distillation.distill import train_on_teacher
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.evaluation.metrics import predict_logits
from dfkd_exp.models.ours import builder
from dfkd_exp.models.recording import frozen
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.augmentation import Affine, NoAugmentation
from dfkd_exp.training.transfer_set import FixedImages

PAIRS = {
    "HintonNet → HintonNet-800": ("hinton_net", "hinton_net_800", (1, 28, 28)),
    "LeNet-5 → half": ("lenet5", "lenet5_half", (1, 32, 32)),
}
IMAGES, EPOCHS, ROUNDS = 4_000, 4, 3
EVALUATED = 10_000


def rows() -> Iterator[Row]:
    """Each pair with and without augmentation, and its teacher's evaluation."""
    for name, (teacher_name, student_name, shape) in PAIRS.items():
        yield from _training(name, teacher_name, student_name, shape)
        yield _evaluation(name.partition(" → ")[0], teacher_name, shape)


def _training(name: str, teacher_name: str, student_name: str, shape: tuple[int, int, int]) -> Iterator[Row]:
    """Ours from the call to the trained student: Lightning's start counts, and so does the teacher's one answer for each
    image, over fewer epochs than in use."""
    torch.manual_seed(0)
    teacher, plain_teacher = (frozen(builder(teacher_name)(shape, 10)).to(DEVICE) for _ in range(2))
    student, plain_student = (builder(student_name)(shape, 10).to(DEVICE) for _ in range(2))
    images, inputs = torch.rand(IMAGES, *shape), InputSpec.normalised(shape, [], [])
    batch = images[: reference.BATCH].to(DEVICE)
    training = operations(lambda: plain_student(batch).sum().backward()) / len(batch)
    answering = operations(lambda: plain_teacher(batch)) / len(batch)
    for augment in (True, False):
        settings = Distillation(epochs=EPOCHS, augmentation=Affine() if augment else NoAugmentation())

        def ours(settings: Distillation = settings) -> None:
            options = {"label": "distillation", "trainer": TrainerSettings(accelerator=DEVICE.type)}
            train_on_teacher(student, teacher, FixedImages.of(images), inputs, settings, 0, **options)

        def theirs(augment: bool = augment) -> None:
            reference.distill(plain_student, plain_teacher, images, EPOCHS, augment)

        fast, slow = side_by_side(ours, theirs, rounds=ROUNDS)
        rate = IMAGES * EPOCHS / fast
        limit = of_matmul_rate(rate * (training + answering / (1 if augment else EPOCHS)), "fp32")
        shown = "augmented" if augment else "as they are"
        how = f"fp32, {settings.batch_size} images at a time"
        yield Row(f"distillation, {name}, images {shown}", "images/s", rate, IMAGES * EPOCHS / slow, limit, how)


def _evaluation(name: str, network_name: str, shape: tuple[int, int, int]) -> Row:
    network, inputs = frozen(builder(network_name)(shape, 10)).to(DEVICE), InputSpec.normalised(shape, [], [])
    images = torch.randint(0, 256, (EVALUATED, *shape), dtype=torch.uint8)
    work = partial(predict_logits, network, images, inputs), partial(reference.predict, network, images)
    rate, reference_rate = (EVALUATED / seconds for seconds in side_by_side(*work))
    per_image = operations(lambda: network(torch.zeros(1, *shape, device=DEVICE)))
    limit = of_matmul_rate(rate * per_image, "fp32")
    return Row(f"evaluation, {name}", "images/s", rate, reference_rate, limit, "fp32")
