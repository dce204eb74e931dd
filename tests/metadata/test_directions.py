"""The directions in which a class varies most, of every form in which covariances are kept, against numpy's eigenvectors."""

import numpy as np
import pytest
import torch

from dfkd_exp.metadata import directions
from dfkd_exp.metadata.covariance import Diagonal, Full, LowRank, pack_symmetric
from dfkd_exp.metadata.directions import whitening
from dfkd_exp.metadata.records import Signals
from dfkd_exp.metadata.separable import Separable

CLASSES, UNITS = 2, 24
ALL = slice(0, UNITS)


def covariances(units=UNITS, seed=0):
    """Of two classes, with eigenvalues that fall quickly."""
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(CLASSES, units, units)) * 0.7 ** np.arange(units)
    return torch.from_numpy(mixed @ mixed.transpose(0, 2, 1)).float()


def full(units=UNITS):
    return Full(torch.zeros(CLASSES, units), torch.stack([pack_symmetric(matrix) for matrix in covariances(units)]))


def low_rank():
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(CLASSES, UNITS, 5, generator=generator)
    return LowRank(torch.zeros(CLASSES, UNITS), factor, torch.rand(CLASSES, UNITS, generator=generator))


def separable():
    generator = torch.Generator().manual_seed(0)
    factor, variance = torch.randn(CLASSES, 8, 3, generator=generator), torch.rand(CLASSES, 8, generator=generator)
    channels = torch.stack([pack_symmetric(matrix) for matrix in covariances(3)])
    return Separable(torch.zeros(CLASSES, UNITS), channels, factor, variance)


def signals():
    return Signals(torch.randn(CLASSES, 40, UNITS, generator=torch.Generator().manual_seed(0)))


def matrix(summary, label):
    if isinstance(summary, Full):
        return summary.matrix(label).numpy()
    if isinstance(summary, LowRank):
        return (summary.factor[label] @ summary.factor[label].T + summary.variance[label].diag()).numpy()
    if isinstance(summary, Signals):
        return np.cov(summary.signals[label].numpy(), rowvar=False)
    locations = summary.factor[label] @ summary.factor[label].T + summary.variance[label].diag()
    return np.kron(covariances(3)[label].numpy(), locations.numpy())


@pytest.mark.parametrize("summary", [full(), low_rank(), separable(), signals()], ids=lambda s: type(s).__name__)
def test_along_them_the_classs_covariance_is_the_identity_and_no_others_vary_more(summary):
    found = whitening(summary, ALL, 6)
    assert found.shape == (CLASSES, 6, UNITS)
    for label in range(CLASSES):
        covariance, rows = matrix(summary, label), found[label].numpy()
        np.testing.assert_allclose(rows @ covariance @ rows.T, np.eye(6), atol=1e-3)
        largest = np.linalg.eigvalsh(covariance)[::-1][:6]
        np.testing.assert_allclose(1 / np.square(rows).sum(1), largest, rtol=1e-3)


def test_of_some_units_it_is_their_own_covariance():
    found = whitening(signals(), slice(4, 10), 3)
    for label in range(CLASSES):
        covariance = np.cov(signals().signals[label, :, 4:10].numpy(), rowvar=False)
        np.testing.assert_allclose(found[label].numpy() @ covariance @ found[label].numpy().T, np.eye(3), atol=1e-4)


def test_of_a_large_matrix_the_leading_ones_alone_are_found(monkeypatch):
    expected = whitening(full(), ALL, 4)
    monkeypatch.setattr("dfkd_exp.metadata.directions.SMALL_MATRIX", 8)
    found = whitening(full(), ALL, 4)
    torch.testing.assert_close((found * expected).sum(2).abs(), expected.square().sum(2), rtol=1e-3, atol=0)


def test_what_rounding_has_made_negative_is_no_variance(monkeypatch):
    monkeypatch.setattr(directions, "SMALL_MATRIX", 3)
    basis = torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(0)).double())[0]
    wanted = torch.tensor([10.0, 5.0, -2.0, 1.0, *[0.0] * 16], dtype=torch.float64)
    values, vectors = directions.leading_of_matrix(basis @ wanted.diag() @ basis.T, 4)
    torch.testing.assert_close(values, torch.tensor([10.0, 5.0, 1.0, -2.0], dtype=torch.float64))
    torch.testing.assert_close(
        (vectors @ basis[:, [0, 1, 3, 2]]).abs(), torch.eye(4, dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_directions_in_which_a_class_does_not_vary_are_left_out():
    summary = full()
    flat = torch.zeros(UNITS, UNITS)
    flat[:2, :2] = torch.eye(2)
    summary.covariance[1] = pack_symmetric(flat)
    found = whitening(summary, ALL, 6)
    assert found.shape == (CLASSES, 6, UNITS)
    assert found[1].abs().amax(1).gt(0).tolist() == [True, True, False, False, False, False]


def test_those_of_other_classes_stay_where_one_has_none():
    summary = full()
    expected = whitening(summary, ALL, 6)
    summary.covariance[1] = 0
    found = whitening(summary, ALL, 6)
    assert torch.equal(found[0], expected[0])
    assert not found[1].any()


def test_without_covariances_there_are_none():
    assert whitening(Diagonal(torch.zeros(2, 5), torch.ones(2, 5)), slice(0, 5), 4).shape == (2, 0, 5)


def test_a_class_that_never_varies_has_none():
    constant = Signals(torch.ones(CLASSES, 7, 5))
    assert whitening(constant, slice(0, 5), 4).shape == (CLASSES, 0, 5)
