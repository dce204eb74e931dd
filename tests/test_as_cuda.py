"""As if on a GPU: what is collected, matched and trained mixes no devices, is what a CPU makes, and waits for nothing within its loops."""

import inspect
from contextlib import nullcontext
from dataclasses import replace
from itertools import product

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import nn

from dfkd_exp.evaluation.attacks import metadata_scores
from dfkd_exp.evaluation.metrics import predict_logits
from dfkd_exp.evaluation.tracing import tracing_scores
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata import (
    AllLayers,
    AllLayersDropout,
    BatchNormStatistics,
    Channels,
    Composed,
    Recorded,
    Spatial,
    SpectralAllLayers,
    SpectralLayerPairs,
    TopLayer,
)  # fmt: skip
from dfkd_exp.metadata.auto import Auto as AutoKind
from dfkd_exp.models.recording import frozen
from dfkd_exp.reconstruction import Moments, Sample
from dfkd_exp.reconstruction.engine.settings import PLAIN
from dfkd_exp.reconstruction.loop import reconstruct_groups
from dfkd_exp.reconstruction.objective import Objective, draw_groups
from dfkd_exp.reconstruction.optimizers import Adam, AdamW, Sgd
from dfkd_exp.reconstruction.parametrisation.auto import Auto
from dfkd_exp.reconstruction.parametrisation.frequencies import Frequencies
from dfkd_exp.reconstruction.parametrisation.latents import Latents
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from dfkd_exp.reconstruction.terms.l2 import L2
from dfkd_exp.reconstruction.terms.label import Label
from dfkd_exp.reconstruction.terms.total_variation import TotalVariation
from dfkd_exp.training.module import TrainingModule
from tests.as_cuda import CUDA, MixedDevices, OnCuda, as_cuda
from tests.toy import CLASSES, INPUTS, dropout_teacher, normalised_teacher, problem, toy_images, toy_teacher

KINDS = {
    "covariances": (AllLayers(covariance="full"), toy_teacher),
    "low rank": (AllLayers(covariance="low_rank", rank=2), toy_teacher),
    "variances": (AllLayers(covariance="diagonal"), toy_teacher),
    "after relu": (AllLayers(signal="after_relu"), toy_teacher),
    "logits": (TopLayer(), toy_teacher),
    "channels": (Channels(), toy_teacher),
    "regions": (Channels(grid=2), toy_teacher),
    "spectrum": (Channels(pixels="spectrum"), toy_teacher),
    "styles": (Channels(styles=1), toy_teacher),
    "of all": (Channels(scope="all"), normalised_teacher),
    "batch norm": (BatchNormStatistics(), normalised_teacher),
    "spatial": (Spatial(), toy_teacher),
    "dropout": (AllLayersDropout(), dropout_teacher),
    "records": (Recorded(records_per_class=4), toy_teacher),
    "spectral": (SpectralAllLayers(), toy_teacher),
    "pairs": (SpectralLayerPairs(), toy_teacher),
    "composed": (Composed(), toy_teacher),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_collects_the_same(name):
    kind, build = KINDS[name]
    images, labels = toy_images(10)
    expected = kind.collect(frozen(build()), [(images, labels)], INPUTS).tensors()
    with as_cuda():
        found = kind.collect(frozen(build()).to(CUDA), [(images.to(CUDA), labels)], INPUTS).tensors()
        assert expected.keys() == found.keys()
        assert not any(isinstance(tensor, OnCuda) for tensor in found.values()), "what is kept is on the CPU"
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_images_of_a_loader_are_taken_to_the_teacher():
    images, labels = toy_images(10)
    expected = AllLayers().collect(frozen(toy_teacher()), [(images, labels)], INPUTS).tensors()
    with as_cuda():
        found = AllLayers().collect(frozen(toy_teacher()).to(CUDA), [(images, labels)], INPUTS).tensors()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_the_kind_that_suits_photographs_is_found_there_too():
    photographs = InputSpec((3, 24, 24), (0.0,) * 3, (1.0,) * 3)
    with as_cuda():
        teacher = frozen(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 22 * 22, CLASSES)))
        assert AutoKind().suited_to(teacher.to(CUDA), photographs).styles == 1


MATCHES = {
    "moments": Moments(images_per_class=8, group_size=4),
    "covariances": Moments(images_per_class=8, group_size=4, covariance_weight=1.0),
    "sample": Sample(images_per_class=8, group_size=4),
    "normalised": Sample(images_per_class=8, group_size=4, normalise=True),
}
MADE_OF = {
    "pixels": Pixels(blur_sigma=1.0, blur_every=1), "start": Pixels(start="metadata"), "latents": Latents(directions=2), "auto": Auto(),
    "frequencies": Frequencies(start="metadata"),
}  # fmt: skip
TERMS = (TotalVariation(), L2(), Label())
WITHOUT_DRAWS = {("spectrum", "sample"), ("styles", "sample")}
CASES = [
    *(
        (kind, match, "pixels", "direct")
        for kind, match in product(KINDS, ("moments", "sample"))
        if (kind, match) not in WITHOUT_DRAWS
    ),
    *(("covariances", match, made_of, "direct") for match in MATCHES for made_of in MADE_OF),
    *(("covariances", match, "pixels", "channels_last") for match in MATCHES),
]


def has(metadata, match):
    """Whether such metadata can be matched so: dropout's is for draws alone."""
    return not (metadata.dropout_masks and isinstance(MATCHES[match], Moments))


@pytest.mark.parametrize(("kind", "match", "made_of", "convolutions"), CASES)
def test_every_objective_starts_the_same_and_waits_for_nothing(kind, match, made_of, convolutions, monkeypatch):
    monkeypatch.setattr("dfkd_exp.reconstruction.start.ITERATIONS", 2)
    collector, build = KINDS[kind]
    metadata = collector.collect(frozen(build()), [toy_images(10)], INPUTS)
    engine = replace(PLAIN, convolutions=convolutions)

    def objective_of(teacher):
        return Objective(problem(teacher, metadata, MATCHES[match], MADE_OF[made_of], TERMS), engine)

    def drawn_of(objective):
        return draw_groups(objective, range(3), seed=0)

    here = objective_of(build())
    values, target = drawn_of(here)
    losses, gradient = here(values, target)
    with as_cuda() as device:
        there = objective_of(build().to(CUDA))
        own_values, own_target = drawn_of(there)
        assert torch.equal(own_values.cpu(), values)
        own_losses, own_gradient = there(own_values, own_target)
        device.waits.clear()
        there(own_values, own_target)
        assert not device.waits
        torch.testing.assert_close(own_losses.cpu(), losses)
        torch.testing.assert_close(own_gradient.cpu(), gradient)


@pytest.mark.parametrize(
    ("optimizer", "made_of"),
    [
        (Adam(), "pixels"),
        (AdamW(), "pixels"),
        (Sgd(), "pixels"),
        (Adam(), "start"),
        (Adam(), "latents"),
        (Adam(), "auto"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_loop_waits_for_nothing_from_step_to_step(optimizer, made_of, monkeypatch):
    monkeypatch.setattr("dfkd_exp.reconstruction.start.ITERATIONS", 2)
    metadata = AllLayers().collect(frozen(toy_teacher()), [toy_images(10)], INPUTS)
    waits = []
    with as_cuda() as device:
        for steps in (3, 6):
            settings = Moments(images_per_class=8, group_size=4, steps=steps)
            objective = Objective(problem(toy_teacher().to(CUDA), metadata, settings, MADE_OF[made_of], TERMS), PLAIN)
            device.waits.clear()
            images = reconstruct_groups(objective, range(3), optimizer, seed=0)
            waits.append(device.waits.total())
            assert not isinstance(images.pixels, OnCuda)
    assert waits[0] == waits[1]


def test_answers_and_attacks_are_the_same():
    images, labels = toy_images(10)
    teacher = frozen(toy_teacher())
    kept = AllLayers().collect(teacher, [(images, labels)], INPUTS).resolved(teacher)
    logits, scores = predict_logits(teacher, images, INPUTS), metadata_scores(kept, teacher, images, labels)
    traced = tracing_scores([kept], teacher, images, labels)
    with as_cuda():
        there = frozen(toy_teacher()).to(CUDA)
        assert torch.equal(predict_logits(there, images, INPUTS), logits)
        torch.testing.assert_close(metadata_scores(kept, there, images, labels), scores)
        torch.testing.assert_close(tracing_scores([kept], there, images, labels), traced)


class OnIt(CPUAccelerator):
    """Lightning's, which would refuse another device than the CPU."""

    def setup_device(self, device):
        pass


METHODS = {
    "dfkd": ["parametrisation.start=metadata"],
    "dafl": ["source.images=64"],
    "fast": ["source.images=64", "~terms.batch_norm"],
}


@pytest.mark.parametrize("method", METHODS)
def test_the_whole_pipeline_runs(method, dfkd, monkeypatch):
    """Training is Lightning's; within its steps nothing waits, but for images that are made within them."""
    trainer = pl.Trainer

    def on_the_gpu(**options):
        return trainer(**{**options, "accelerator": "auto", "strategy": SingleDeviceStrategy(CUDA, accelerator=OnIt())})

    monkeypatch.setattr(pl, "Trainer", on_the_gpu)
    for module in ("pace", "engine.choose"):  # there is no driver to say
        monkeypatch.setattr(f"dfkd_exp.reconstruction.{module}.multiplies_bf16", lambda device: False)
    monkeypatch.setattr("dfkd_exp.phases.announcement.WORTH_SAYING", 0.0)
    monkeypatch.setattr("torch.random.fork_rng", lambda devices: nullcontext())  # there is no generator of a GPU
    sweep = ["-m", "seed=0,1"] if method == "dfkd" else []
    with as_cuda() as device:
        ran = dfkd(
            *sweep, f"method={method}", "scale=smoke", "privacy=true", "likeness=true", *METHODS[method], small=False
        )
    assert ran.code == 0, ran.err
    assert "could not be found out" not in ran.out
    assert " in all" in ran.out, "the forecast computes there too"
    assert ("jobs that are left" in " ".join(ran.out.split())) is bool(sweep)
    phases = ran.result["phases"].values()
    assert {phase["peak_memory_bytes"] for phase in phases} == {1_000_000}
    code, first = inspect.getsourcelines(TrainingModule.training_step)
    lines = [where.split(" < ")[0] for where, _ in device.waits]
    if method == "dfkd":
        assert not {f"training/module.py:{first + number}" for number in range(len(code))} & {*lines}
    assert any(line.startswith("training/module.py") for line in lines), "a loss is logged, once an epoch"


def test_a_mix_of_devices_is_an_error_and_a_wait_is_counted():
    with as_cuda() as device:
        there = torch.ones(3, device=CUDA)
        with pytest.raises(MixedDevices):
            there + torch.ones(3)
        assert (there + 1).device == CUDA
        assert not device.waits
        assert there.sum().item() == 3
        there[there > 0]
        there.cpu()
        assert device.waits.total() == 3
