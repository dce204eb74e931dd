"""Means and variances of classes by what they have in common."""

import pytest
import torch

from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.metadata import AllLayers, Channels, TopLayer
from dfkd_exp.metadata.gaussian import DifferentialPrivacy
from dfkd_exp.metadata.shared import AT_ONCE, SMALLEST_OF_ALL, Shared, fewer_bytes
from dfkd_exp.metadata.storage import rounded
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
    return 3 + sigma * of_mean, (sigma * (0.3 / rank**0.5 * of_logarithm).exp()).square()


def test_classes_that_differ_along_few_directions_are_kept_as_they_are():
    mean, variance = classes(rank=3)
    kept = Shared.of(mean, variance, rank=3)
    found = kept.diagonal()
    torch.testing.assert_close(found.mean, mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.variance, variance, rtol=1e-5, atol=1e-6)
    assert {name: tensor.shape for name, tensor in kept.tensors().items()} == {
        "mean": (1, VALUES), "variance": (1, VALUES), "directions": (3, 2 * VALUES), "offsets": (ROWS, 3),
    }  # fmt: skip
    torch.testing.assert_close(kept.offsets.square().mean(0), torch.ones(3).double())


def test_of_other_classes_it_keeps_what_matters_most_in_units_of_their_deviations():
    mean, variance = classes(rank=8)
    sigma = variance.sqrt().log().mean(0).exp()

    def apart(found):
        logarithms = (found.variance / variance).sqrt().log()
        return (((found.mean - mean) / sigma).square().sum() + logarithms.square().sum()).item()

    left = [apart(Shared.of(mean, variance, rank).diagonal()) for rank in range(1, 9)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 1e-8
    whole = torch.cat([(mean - mean.mean(0)) / sigma, (variance.sqrt() / sigma).log()], 1)
    assert left[2] == pytest.approx(torch.linalg.svdvals(whole)[3:].square().sum().item(), rel=1e-4)


def test_units_that_one_class_alone_turns_on_take_no_directions_from_the_others():
    mean, variance = classes(rank=3)
    alone = torch.zeros(ROWS, 4).double()
    alone[range(4), range(4)] = 1.0
    found = Shared.of(torch.cat([mean, alone], 1), torch.cat([variance, alone], 1), rank=5).diagonal()
    spread = (mean - mean.mean(0)).square().mean()
    assert (found.mean[:, :VALUES] - mean).square().mean() < 0.25 * spread


def test_a_unit_that_never_varies_stays_nearly_so():
    mean, variance = classes(rank=2)
    variance[:, 4] = 0
    found = Shared.of(mean, variance, rank=2).diagonal()
    assert found.variance[:, 4].max() < 1.01 * SMALLEST_OF_ALL**2 * variance.max()


def test_in_one_byte_each_they_stand_for_nearly_the_same():
    mean, variance = classes(rank=2)
    mean[:, 0], variance[:, 0] = 1e-4 * mean[:, 0], 1e-8 * variance[:, 0]
    kept = Shared.of(mean, variance, rank=2)
    read = Shared(**{name: rounded(name, tensor.float(), "int8") for name, tensor in kept.tensors().items()}).diagonal()
    exact = kept.diagonal()
    assert ((read.mean - exact.mean).abs().mean(0) < 0.05 * exact.variance.sqrt().mean(0)).all()
    assert ((read.variance / exact.variance).log().abs().mean(0) < 0.05).all()


def test_in_one_byte_each_of_a_few_classes_they_are_no_fewer_bytes():
    """The mean and the variance of all classes are rows by themselves, whose columns have exponents."""
    assert fewer_bytes(3, 64, 1, "fp16")
    assert not fewer_bytes(3, 64, 1, "int8")
    assert fewer_bytes(100, 64, 3, "int8")


@pytest.mark.parametrize("storage", ["fp32", "fp16"])
def test_a_kind_keeps_them_where_they_are_fewer_bytes(storage):
    images, labels = toy_images()
    alone, one = (
        Channels(class_rank=rank, storage=storage).collect(toy_teacher(), [(images, labels)], INPUTS) for rank in (0, 1)
    )
    assert [s.summary.form for s in one.statistics] == ["shared"] * (len(one.statistics) - 1) + ["full"]
    assert one.num_bytes < alone.num_bytes
    for mine, theirs in zip(one.statistics[:-1], alone.statistics[:-1], strict=True):
        found, exact = mine.summary.diagonal(), theirs.summary
        expected = Shared.of(exact.mean.double(), exact.variance.double(), rank=1).diagonal()
        centre = exact.mean.mean(0)
        assert found.mean.shape == (CLASSES, exact.num_coefficients)
        near = {"fp32": 1e-4, "fp16": 0.02}[storage]
        assert (found.mean - expected.mean).norm() < near * (expected.mean - centre).norm()
        assert (found.variance.sqrt() - expected.variance.sqrt()).norm() < near * expected.variance.sqrt().norm()


def test_where_nothing_varies_each_class_is_kept_by_itself():
    images, labels = toy_images(1)
    metadata = Channels(class_rank=1, covariance="diagonal").collect(toy_teacher(), [(images, labels)], INPUTS)
    vectors = [s.summary for s in metadata.statistics if s.basis == "units"]
    assert {summary.form for summary in vectors} == {"diagonal"}
    assert not any(summary.variance.any() for summary in vectors)


@pytest.mark.parametrize(
    "kind",
    [
        Channels(class_rank=1, scope="all"), AllLayers(class_rank=1, covariance="full"), TopLayer(class_rank=1),
        Channels(class_rank=2), TopLayer(class_rank=1, covariance="diagonal"),
    ],
    ids=["all classes", "covariances", "logits", "as many numbers", "logits without covariances"],
)  # fmt: skip
def test_a_rank_that_would_change_nothing_is_refused(kind):
    with pytest.raises(DfkdError, match=r"metadata.class_rank=[12] is for means.*leave it out"):
        kind.collect(toy_teacher(), [toy_images()], INPUTS)


def test_a_file_of_offsets_beyond_all_numbers_is_refused():
    kept = Shared.of(*classes(rank=2), rank=2)
    kept.offsets = kept.offsets * 1e6
    with pytest.raises(ValueError, match="beyond all numbers"):
        kept.check([])


def test_a_small_file_takes_little_memory_until_it_is_known_to_fit(monkeypatch):
    """Of offsets [R, P] and directions [P, 2F] follow R F numbers, however few were sent."""
    kept = Shared(torch.zeros(1, 3_000), torch.ones(1, 3_000), torch.zeros(1, 6_000), torch.zeros(4_000, 1))
    made = []
    whole = Shared.diagonal
    monkeypatch.setattr(Shared, "diagonal", lambda self: made.append(len(self.offsets)) or whole(self))
    kept.check([])
    assert sum(made) == 4_000
    assert max(made) * 6_000 <= AT_ONCE
    monkeypatch.undo()
    monkeypatch.setattr("dfkd_exp.metadata.memory.WARN_FROM", 10**6)
    monkeypatch.setattr("dfkd_exp.metadata.memory.machine_memory", lambda: 10**8)
    with pytest.raises(DfkdError, match=r"directions that classes share take about 0.2 GB of memory"):
        kept.diagonal()


@pytest.mark.parametrize(
    "wrong", [{"class_rank": -1}, {"class_rank": 2, "dp": DifferentialPrivacy(epsilon=1.0), "covariance": "diagonal"}]
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"metadata.class_rank must be"):
        AllLayers(**wrong)
