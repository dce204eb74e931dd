"""Draws have the stated mean and covariance, singular or not; factors give back what they were made from."""

import pytest
import torch

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata.covariance import (
    Diagonal,
    Full,
    LowRank,
    covariance_factor,
    low_rank_factor,
    pack_symmetric,
    unpack_symmetric,
)

UNITS, DRAWS = 6, 40_000
TOLERANCE = 6 / DRAWS**0.5  # six standard errors of a mean, for variances of about one


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def positive_definite():
    root = torch.randn(UNITS, UNITS, generator=generator(), dtype=torch.float64)
    matrix = root @ root.T / UNITS + 0.1 * torch.eye(UNITS)
    return matrix / matrix.diagonal().mean()


def with_dead_units():
    matrix = positive_definite()
    matrix[[1, 4]] = 0
    matrix[:, [1, 4]] = 0
    return matrix


def of_three_images():
    return torch.cov(torch.randn(3, UNITS, generator=generator(1), dtype=torch.float64).T)


def full(matrix):
    """A stack of two classes: the second has this covariance and mean 0, 1, 2, …"""
    packed = pack_symmetric(torch.stack([torch.eye(UNITS).double(), matrix]))
    return Full(torch.stack([torch.zeros(UNITS), torch.arange(UNITS)]).float(), packed.float())


def assert_draws(statistics, covariance):
    drawn = statistics.sample(1, DRAWS, generator(3)).double()
    scale = covariance.diagonal().max().clamp_min(1)
    assert (drawn.mean(0) - torch.arange(UNITS)).abs().max() < TOLERANCE * scale
    assert (torch.cov(drawn.T) - covariance).abs().max() < 2 * TOLERANCE * scale
    assert (statistics.std()[1] - covariance.diagonal().sqrt()).abs().max() < 1e-5


@pytest.mark.parametrize("make", [positive_definite, with_dead_units, of_three_images], ids=lambda make: make.__name__)
def test_draws_of_a_full_covariance(make):
    assert_draws(full(make()), make())


def test_draws_of_a_diagonal_covariance():
    variance = torch.tensor([0.0, 0.1, 0.5, 1.0, 1.5, 2.0])
    mean = torch.stack([torch.zeros(UNITS), torch.arange(UNITS).float()])
    assert_draws(Diagonal(mean, torch.stack([torch.ones(UNITS), variance])), variance.diag().double())


def test_draws_of_a_low_rank_covariance():
    factor = torch.randn(UNITS, 2, generator=generator(4)) / 2
    variance = torch.tensor([0.0, 0.0, 0.3, 0.5, 0.1, 0.0])
    mean = torch.stack([torch.zeros(UNITS), torch.arange(UNITS).float()])
    statistics = LowRank(mean, torch.stack([factor * 0, factor]), torch.stack([variance * 0, variance]))
    assert_draws(statistics, (factor @ factor.T + variance.diag()).double())


@pytest.mark.parametrize("form", ["full", "diagonal", "low_rank"])
def test_dead_units_stay_exactly_at_their_mean(form):
    matrix = with_dead_units()
    mean = torch.arange(UNITS).float().repeat(2, 1)
    variance = matrix.diagonal().float().repeat(2, 1)
    values, vectors = torch.linalg.eigh(matrix)
    factor = (vectors * values.clamp_min(0).sqrt()).float().repeat(2, 1, 1)
    statistics = {
        "full": full(matrix),
        "diagonal": Diagonal(mean, variance),
        "low_rank": LowRank(mean, factor, variance * 0),
    }[form]
    drawn = statistics.sample(1, 100, generator())
    assert (drawn[:, [1, 4]] == torch.tensor([1.0, 4.0])).all()
    assert (drawn[:, [0, 2, 3, 5]].std(0) > 0.1).all()


def test_draws_of_few_images_stay_in_their_span():
    drawn = full(of_three_images()).sample(1, 50, generator()) - torch.arange(UNITS)
    assert torch.linalg.svdvals(drawn.double())[2:].max() < 1e-3 * torch.linalg.svdvals(drawn.double())[0]


@pytest.mark.parametrize("make", [positive_definite, with_dead_units, of_three_images], ids=lambda make: make.__name__)
def test_a_factor_gives_back_its_covariance(make):
    factor = covariance_factor(make().float())
    torch.testing.assert_close(factor @ factor.T, make().float(), atol=1e-6, rtol=0)


def test_the_factor_of_a_definite_covariance_is_cholesky():
    torch.testing.assert_close(
        covariance_factor(positive_definite()), torch.linalg.cholesky(positive_definite()).float()
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nothing_is_drawn_from_a_covariance_that_is_not_finite(bad):
    matrix = positive_definite()
    matrix[2, 2] = bad
    with pytest.raises(DfkdError, match="NaN or infinite"):
        covariance_factor(matrix)


def test_packing_keeps_the_lower_triangle_row_by_row():
    matrix = torch.tensor([[1.0, 2, 4], [2, 3, 5], [4, 5, 6]])
    assert pack_symmetric(matrix).tolist() == [1, 2, 3, 4, 5, 6]
    assert torch.equal(unpack_symmetric(pack_symmetric(matrix), 3), matrix)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_a_sketch_gives_back_what_has_no_more_than_its_rank(rank):
    """Also where the sketch has more columns than the covariance has rank, which a Cholesky factor does not survive."""
    root = torch.randn(20, rank, generator=generator(rank))
    covariance = root @ root.T
    test_matrix = torch.randn(20, 12, generator=generator(9))
    factor = low_rank_factor(covariance @ test_matrix, test_matrix, 4)
    assert factor.shape == (20, 4)
    torch.testing.assert_close(factor @ factor.T, covariance, atol=1e-4, rtol=0)
