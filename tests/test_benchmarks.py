"""The loops that the benchmarks compare with compute what ours do."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks import lightning, measure, reference, spectra
from dfkd_exp.distillation.distill import train_on_teacher
from dfkd_exp.distillation.losses import soft_cross_entropy
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.evaluation.metrics import predict_logits
from dfkd_exp.metadata import AllLayers
from dfkd_exp.metadata.fourier import GraphFourier
from dfkd_exp.metadata.graph import weight_blocks
from dfkd_exp.models.recording import find_layers, frozen, recording
from dfkd_exp.reconstruction.engine.settings import PLAIN
from dfkd_exp.reconstruction.moments import Moments
from dfkd_exp.reconstruction.objective import Objective
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from dfkd_exp.reconstruction.targets import GroupTarget
from dfkd_exp.reconstruction.terms.batch_norm import BatchNorm
from dfkd_exp.reconstruction.terms.label import Label
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.augmentation import NoAugmentation
from dfkd_exp.training.fit import fit
from dfkd_exp.training.schedules import Constant
from dfkd_exp.training.settings import Training
from dfkd_exp.training.transfer_set import FixedImages
from tests.toy import CLASSES, INPUTS, normalised_teacher, problem, toy_images, toy_teacher

CPU = TrainerSettings(accelerator="cpu")


def residual_teacher():
    """What `Hooks` could get wrong: normalised layers, activations in place, a branch."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4 * 36, CLASSES)
            self.convolution, self.norm, self.relu = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(True)
            self.shortcut = nn.Conv2d(1, 4, 1, bias=False)

        def forward(self, images):
            return self.head((self.relu(self.norm(self.convolution(images))) + self.shortcut(images)).flatten(1))

    return frozen(Residual())


def test_the_reference_records_the_layers_that_we_record():
    teacher, (images, _) = residual_teacher(), toy_images(4)
    names = [layer.name for layer in find_layers(teacher, images)]
    assert len(names) == 4
    with recording(teacher, names) as recorder:
        ours = recorder(images)
    theirs = reference.Hooks(teacher)(teacher, images)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.flatten(1), other)


@pytest.mark.parametrize("collect", [reference.collect_per_example, reference.collect_per_example_numpy])
def test_the_reference_collects_what_we_collect(collect):
    teacher = frozen(toy_teacher())
    images, labels = toy_images(20)
    chosen = images[labels == 1]
    sums = collect(teacher, reference.Hooks(teacher), chosen)
    metadata = AllLayers(covariance="full", temperature=1.0).collect(toy_teacher(), [(images, labels)], INPUTS)
    for (total, products), statistic in zip(sums, metadata.statistics, strict=True):
        total, products = torch.as_tensor(total).double(), torch.as_tensor(products).double()
        mean = total / len(chosen)
        torch.testing.assert_close(mean.float(), statistic.summary.mean[1], rtol=1e-4, atol=1e-4)
        covariance = (products - len(chosen) * torch.outer(mean, mean)) / (len(chosen) - 1)
        torch.testing.assert_close(covariance.float(), statistic.summary.matrix(1), rtol=1e-2, atol=1e-4)


def test_the_reference_fits_the_metadata():
    teacher = frozen(toy_teacher())
    metadata = AllLayers(covariance="full").collect(toy_teacher(), [toy_images()], INPUTS)
    means = [statistic.summary.mean[2] for statistic in metadata.statistics]
    deviations = [statistic.summary.std()[2] for statistic in metadata.statistics]
    torch.manual_seed(0)
    for match in ("sample", "moments"):
        few, many = (
            reference.reconstruct_batch(
                teacher, reference.Hooks(teacher), INPUTS.shape, means, deviations, match, steps
            )
            for steps in (1, 60)
        )
        off = [(teacher(images).mean(0) / 8 - means[-1]).norm() for images in (few, many)]
        assert off[1] < off[0]


def test_the_reference_loss_is_the_soft_cross_entropy():
    student, teacher = torch.randn(5, 4), 10 * torch.randn(5, 4)
    expected = soft_cross_entropy(student, teacher, reference.TEMPERATURE)
    torch.testing.assert_close(reference.soft_targets_loss(student, teacher), expected)


def test_the_reference_moves_images_as_we_do():
    images = torch.rand(7, 2, 9, 9)
    torch.manual_seed(0)
    policy = Distillation().suited_to((2, 9, 9)).augmentation
    expected = policy(images, torch.rand(7, 4), torch.zeros(2, 1, 1))
    torch.manual_seed(0)
    torch.testing.assert_close(reference.random_affine(images), expected)


def test_the_reference_trains_the_student_that_we_train():
    teacher, (images, _) = frozen(toy_teacher()), toy_images(20)
    # One batch an epoch: its order does not matter.
    settings = Distillation(epochs=3, schedule=Constant(), augmentation=NoAugmentation())
    assert len(images) <= reference.BATCH == settings.batch_size
    ours = train_on_teacher(
        toy_teacher(1), teacher, FixedImages.of(images), INPUTS, settings, 0, label="student", trainer=CPU
    )
    theirs = reference.distill(
        toy_teacher(1), teacher, images, settings.epochs, augment=False, lr=settings.optimizer.lr
    )
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)


def test_the_reference_predicts_what_we_predict():
    teacher, images = frozen(toy_teacher()), torch.randint(0, 256, (100, *INPUTS.shape), dtype=torch.uint8)
    torch.testing.assert_close(reference.predict(teacher, images), predict_logits(teacher, images, INPUTS))


def test_the_loop_without_lightning_trains_the_same_network():
    images = FixedImages.of(torch.rand(100, *INPUTS.shape), logits=torch.randn(100, CLASSES))
    settings, options = Training(epochs=2), {"label": "training", "trainer": CPU, "prepare": lightning.with_logits}
    ours = fit(toy_teacher(), images, lightning.soft_loss, settings, 3, **options)
    theirs = lightning.loop(toy_teacher(), images, lightning.soft_loss, settings, 3)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_operations_are_counted():
    left, right = torch.rand(3, 4), torch.rand(4, 5)
    assert measure.operations(lambda: left @ right) == 2 * 3 * 4 * 5


def test_the_reference_has_the_frequencies_of_the_basis():
    layers = find_layers(toy_teacher(), toy_images(1)[0])
    blocks = weight_blocks(toy_teacher(), layers, INPUTS.shape)
    whole = torch.linalg.eigvalsh(spectra.adjacency(blocks)).flip(0)
    torch.testing.assert_close(GraphFourier(blocks).frequencies, whole)


def test_every_basis_has_its_line(monkeypatch):
    monkeypatch.setattr(spectra, "CASES", [("tiny", "pairs"), ("tiny", "all layers")])
    monkeypatch.setattr(spectra, "REFERENCE", ("tiny", "adjacency"))
    monkeypatch.setattr(spectra, "NETWORKS", {"tiny": (toy_teacher, INPUTS.shape)})
    monkeypatch.setattr(spectra, "_apart", spectra.measure)
    assert list(next(spectra.tables()).columns[1].cells) == ["72 + 11", "75"]


def test_a_step_is_timed_without_what_surrounds_the_loop(monkeypatch):
    readings = iter([10.0, 16.0])
    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    assert measure.seconds_per_step(lambda on_step: [on_step(64) for _ in range(4)], steps=4) == 2.0


def test_the_plain_loop_of_deep_inversion_asks_for_what_our_terms_do():
    teacher = frozen(normalised_teacher())
    metadata = AllLayers(covariance="top_only").collect(teacher, [toy_images()], INPUTS)
    settings = Moments(images_per_class=6, group_size=6)
    terms = [Label(), BatchNorm(weight=3.0)]
    objective = Objective(problem(teacher, replace(metadata, statistics=[]), settings, Pixels(), terms), PLAIN)
    images = torch.rand(6, *INPUTS.shape)
    target = objective.arranged(GroupTarget.stacked([objective.drawn(torch.arange(6) % CLASSES, torch.Generator())]))
    losses, gradient = objective(images, target)
    images.requires_grad_(True)
    theirs = reference.deep_inversion_loss(teacher, images, target.labels[0], batch_norm=3.0, variation=0.0)
    torch.testing.assert_close(theirs, losses[0])
    torch.testing.assert_close(torch.autograd.grad(theirs, images)[0], gradient, rtol=1e-4, atol=1e-6)
    assert reference.deep_inversion_loss(teacher, images, target.labels[0], 3.0, variation=1.0) > theirs
