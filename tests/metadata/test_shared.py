"""Means and variances of classes by what they have in common."""

import pytest
import torch

from dfkd_exp.errors import ConfigError
from dfkd_exp.metadata import AllLayers, Channels, TopLayer
from dfkd_exp.metadata.gaussian import DifferentialPrivacy
from dfkd_exp.metadata.shared import SMALLEST, Shared
from tests.toy import CLASSES, INPUTS, toy_images, toy_teacher

ROWS, VALUES = 12, 30


def classes(rank, seed=0):
    """Means and variances that differ from class to class along so many directions."""
    generator = torch.Generator().manual_seed(seed)
    offsets, directions = (
        torch.randn(*size, generator=generator).double() for size in ((ROWS, rank), (rank, 2 * VALUES))
    )
    of_mean, of_logarithm = (offsets @ directions).tensor_split(2, dim=1)
    sigma = torch.rand(VALUES, generator=generator).double() + 0.5
    return 3 + sigma * of_mean, (sigma * (0.2 * of_logarithm).exp()).square()


def test_classes_that_differ_along_few_directions_are_kept_as_they_are():
    mean, variance = classes(rank=3)
    kept = Shared.of(mean, variance, rank=3)
    found = kept.diagonal()
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.variance, variance)
    assert {name: tensor.shape for name, tensor in kept.tensors().items()} == {
        "mean": (1, VALUES), "variance": (1, VALUES), "directions": (3, 2 * VALUES), "offsets": (ROWS, 3),
    }  # fmt: skip
    torch.testing.assert_close(kept.offsets.square().mean(0), torch.ones(3).double())


def test_of_other_classes_it_keeps_what_matters_most_in_units_of_their_deviations():
    mean, variance = classes(rank=8)

    def apart(found):
        logarithms = (found.variance / variance).sqrt().log()
        sigma = variance.sqrt().log().mean(0).exp()
        return (((found.mean - mean) / sigma).square().sum() + logarithms.square().sum()).item()

    left = [apart(Shared.of(mean, variance, rank).diagonal()) for rank in range(1, 9)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 1e-12
    sigma = variance.sqrt().log().mean(0)
    whole = torch.cat([(mean - mean.mean(0)) / sigma.exp(), variance.sqrt().log() - sigma], 1)
    assert left[2] == pytest.approx(torch.linalg.svdvals(whole)[3:].square().sum().item())


def test_a_unit_that_never_varies_stays_nearly_so():
    mean, variance = classes(rank=2)
    variance[:, 4] = 0
    found = Shared.of(mean, variance, rank=2).diagonal()
    assert found.variance[:, 4].max() < 1.01 * SMALLEST**2 * variance.max()
    still = Shared.of(mean, torch.zeros_like(variance), rank=2)
    still.check([])
    torch.testing.assert_close(still.diagonal().mean, mean)


@pytest.mark.parametrize("storage", ["fp32", "fp16", "int8"])
def test_a_kind_keeps_them_where_they_are_fewer_numbers(storage):
    images, labels = toy_images()
    alone, together = (
        Channels(class_rank=rank, storage=storage).collect(toy_teacher(), [(images, labels)], INPUTS) for rank in (0, 2)
    )
    forms = [statistic.summary.form for statistic in together.statistics]
    assert set(forms[:-1]) == {"diagonal"}, "two directions of three classes are as many numbers"
    one = Channels(class_rank=1, storage=storage).collect(toy_teacher(), [(images, labels)], INPUTS)
    assert [s.summary.form for s in one.statistics] == ["shared"] * len(forms[:-1]) + ["full"], (
        "logits have their covariance"
    )
    assert one.num_bytes < alone.num_bytes
    for mine, theirs in zip(one.statistics, alone.statistics, strict=True):
        if mine.summary.form == "shared":
            found = mine.summary.diagonal()
            assert found.mean.shape == (CLASSES, theirs.summary.num_coefficients)
            torch.testing.assert_close(found.mean.mean(0), theirs.summary.mean.mean(0), rtol=0.05, atol=0.05)


def test_what_is_not_of_classes_or_has_a_covariance_is_kept_as_before():
    images, labels = toy_images()
    for kind in (
        Channels(class_rank=1, scope="all"),
        AllLayers(class_rank=1, covariance="full"),
        TopLayer(class_rank=1),
    ):
        metadata = kind.collect(toy_teacher(), [(images, labels)], INPUTS)
        assert "shared" not in {statistic.summary.form for statistic in metadata.statistics}


def test_a_file_of_offsets_beyond_all_numbers_is_refused():
    kept = Shared.of(*classes(rank=2), rank=2)
    kept.offsets = kept.offsets * 1e6
    with pytest.raises(ValueError, match="beyond all numbers"):
        kept.check([])


@pytest.mark.parametrize(
    "wrong", [{"class_rank": -1}, {"class_rank": 2, "dp": DifferentialPrivacy(epsilon=1.0), "covariance": "diagonal"}]
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"metadata.class_rank must be"):
        AllLayers(**wrong)
