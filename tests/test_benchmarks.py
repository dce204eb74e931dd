"""The loops that the benchmarks compare with compute what ours do."""

import torch

from benchmarks import measure, reference, spectra
from dfkd_exp.metadata import AllLayers
from dfkd_exp.metadata.fourier import GraphFourier
from dfkd_exp.metadata.graph import weight_blocks
from dfkd_exp.models.recording import find_layers, frozen
from tests.toy import INPUTS, toy_images, toy_teacher


def test_the_reference_collects_what_we_collect():
    teacher = frozen(toy_teacher())
    images, labels = toy_images(20)
    chosen = images[labels == 1]
    sums = reference.collect_per_example(teacher, reference.Hooks(teacher), chosen)
    metadata = AllLayers(covariance="full").collect(toy_teacher(), [(images, labels)], INPUTS)
    for (total, products), statistics in list(zip(sums, metadata.statistics, strict=True))[:-1]:
        mean = total / len(chosen)
        torch.testing.assert_close(mean, statistics.mean[1], rtol=1e-4, atol=1e-4)
        covariance = (products - len(chosen) * torch.outer(mean, mean)) / (len(chosen) - 1)
        torch.testing.assert_close(covariance, statistics.matrix(1), rtol=1e-2, atol=1e-4)


def test_the_reference_fits_the_metadata():
    teacher = frozen(toy_teacher())
    metadata = AllLayers(covariance="full").collect(toy_teacher(), [toy_images()], INPUTS)
    means = [statistics.mean[2] for statistics in metadata.statistics]
    deviations = [statistics.std()[2] for statistics in metadata.statistics]
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
    assert list(spectra.bases().columns[1].cells) == ["72 + 11", "75"]
