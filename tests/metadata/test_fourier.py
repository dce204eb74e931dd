"""The basis, against the eigenvectors of the whole adjacency matrix."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata import fourier
from dfkd_exp.metadata.fourier import GraphFourier, canonical_rotation
from dfkd_exp.metadata.graph import FactorBlock, coactivation_blocks
from dfkd_exp.models.networks import Mlp
from tests.metadata.test_graph import SHAPE, blocks_of, small_cnn, small_cnn_by_hand, weights


def block(matrix):
    """A block from its ``W[outputs, inputs]``."""
    matrix = torch.as_tensor(matrix, dtype=torch.float64)
    return FactorBlock(matrix.T, torch.eye(matrix.shape[1]))


def random_blocks(*sizes, seed=0):
    random = np.random.default_rng(seed)
    return [block(random.normal(size=(after, before))) for before, after in itertools.pairwise(sizes)]


def perturbed(blocks, size=1e-13):
    return [block(b.matrix() + size * torch.randn(b.num_outputs, b.num_inputs)) for b in blocks]


def adjacency(matrices):
    """Every block below the diagonal, its transpose above."""
    sizes = [matrices[0].shape[1], *(matrix.shape[0] for matrix in matrices)]
    starts = np.cumsum([0, *sizes])
    whole = np.zeros((starts[-1], starts[-1]))
    for index, matrix in enumerate(matrices):
        rows, columns = (slice(starts[i], starts[i + 1]) for i in (index + 1, index))
        whole[rows, columns], whole[columns, rows] = matrix, matrix.T
    return whole


def mlp():
    network = Mlp(SHAPE, 3, (20, 14, 9))
    return blocks_of(network), [weights(layer) for layer in (network.hidden2, network.hidden3, network.logits)]


def cnn():
    network = small_cnn()
    return blocks_of(network), [small_cnn_by_hand(network[3]), weights(network[6])]


@pytest.mark.parametrize("make", [mlp, cnn])
@pytest.mark.parametrize("chosen", [slice(0, 1), slice(1, 2), slice(None)], ids=["first pair", "second pair", "chain"])
def test_it_diagonalises_the_adjacency_of_pairs_and_of_the_chain(make, chosen):
    torch.manual_seed(0)
    blocks, matrices = make()
    graph, expected = GraphFourier(blocks[chosen]), adjacency(matrices[chosen])
    transform, frequencies = graph.matrix().numpy(), graph.frequencies.numpy()
    assert transform.shape == (graph.num_frequencies, graph.num_units) == expected.shape
    np.testing.assert_allclose(frequencies, np.linalg.eigvalsh(expected)[::-1], atol=1e-14)
    np.testing.assert_allclose(transform.T @ np.diag(frequencies) @ transform, expected, atol=1e-14)
    np.testing.assert_allclose(transform @ transform.T, np.eye(len(expected)), atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_signals_are_transformed_and_back(dtype):
    graph = GraphFourier(random_blocks(9, 6, 7, 3))
    signals = torch.randn(5, 25, dtype=dtype)
    coefficients = graph.transform(signals)
    assert coefficients.dtype == dtype
    torch.testing.assert_close(coefficients, signals @ graph.matrix().T.to(dtype))
    torch.testing.assert_close(graph.inverse(coefficients), signals)


def test_the_size_of_the_batch_changes_nothing():
    graph = GraphFourier(random_blocks(40, 30, 20))
    signals = torch.randn(64, 90)
    alone = torch.cat([graph.transform(one[None]) for one in signals])
    torch.testing.assert_close(graph.transform(signals), alone, rtol=1e-6, atol=1e-6)


def dead_units():
    """Half of the units of a layer see nothing, and a unit of another is not seen."""
    one, two = (b.matrix() for b in random_blocks(30, 20, 10))
    one[:10], two[:, :10], two[4] = 0, 0, 0
    one[:, 3] = 0
    return [block(one), block(two)]


def low_rank():
    random = np.random.default_rng(0)
    return [block(random.normal(size=(20, 4)) @ random.normal(size=(4, 30))), *random_blocks(20, 10)]


def equal_frequencies():
    """What joins a convolution to its batch normalisation, and an output to its activation: one weight per channel."""
    return [block(np.kron(np.diag([2.0, 2.0, 0.5]), np.eye(10)))]


@pytest.mark.parametrize(
    "make", [lambda: random_blocks(30, 20, 10), lambda: cnn()[0], dead_units, low_rank, equal_frequencies]
)
def test_rounding_does_not_change_the_basis(make):
    torch.manual_seed(0)
    blocks = make()
    graph, again = GraphFourier(blocks), GraphFourier(perturbed(blocks))
    assert len(graph.singular) == len(again.singular)
    torch.testing.assert_close(again.matrix(), graph.matrix(), rtol=0, atol=1e-6)
    expected = adjacency([b.matrix().numpy() for b in blocks])
    np.testing.assert_allclose(graph.matrix().T @ graph.frequencies.diag() @ graph.matrix(), expected, atol=1e-8)
    np.testing.assert_allclose(graph.matrix() @ graph.matrix().T, np.eye(len(expected)), atol=1e-12)


@pytest.mark.parametrize(("make", "pairs"), [(dead_units, 10), (low_rank, 14), (equal_frequencies, 30)])
def test_frequencies_of_zero_are_neither_positive_nor_negative(make, pairs):
    graph = GraphFourier(make())
    signs = graph.frequencies.sign()
    assert (signs == 1).sum() == (signs == -1).sum() == pairs
    assert signs.diff().le(0).all()


def test_units_that_nothing_joins_have_a_basis_too():
    for rank, frequencies in ((None, 12), (3, 0), (5, 0)):
        graph = GraphFourier([block(np.zeros((5, 7)))], rank)
        assert graph.frequencies.tolist() == [0] * frequencies
    torch.testing.assert_close(GraphFourier([block(np.zeros((5, 7)))]).matrix().abs().sum(1), torch.ones(12).double())


def test_the_basis_of_a_span_does_not_depend_on_the_vectors_that_span_it():
    span, rotation = (torch.linalg.qr(torch.randn(*shape, dtype=torch.float64))[0] for shape in ((30, 8), (8, 8)))
    once, again = (basis @ canonical_rotation(basis) for basis in (span, span @ rotation))
    torch.testing.assert_close(once, again)
    torch.testing.assert_close(once @ once.T, span @ span.T)


def bases():
    torch.manual_seed(0)
    return [GraphFourier(cnn()[0], rank).matrix() for rank in (None, 3)]


def test_another_process_with_other_threads_finds_the_same_basis(tmp_path):
    threads = 1 if torch.get_num_threads() > 1 else 2
    script = f"import sys, torch; from {__name__} import bases; torch.set_num_threads({threads}); torch.save(bases(), sys.argv[1])"
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", script, str(tmp_path / "bases.pt")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], env=environment)
    for one, two in zip(bases(), torch.load(tmp_path / "bases.pt"), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-9)


@pytest.mark.parametrize("make", [mlp, cnn])
def test_the_leading_frequencies_are_those_of_the_whole(make):
    torch.manual_seed(0)
    blocks = make()[0]
    whole, leading = GraphFourier(blocks), GraphFourier(blocks, rank=5)
    assert leading.num_frequencies == 10
    ends = [*range(5), *range(-5, 0)]
    torch.testing.assert_close(leading.frequencies, whole.frequencies[ends])
    torch.testing.assert_close(leading.matrix(), whole.matrix()[ends], rtol=0, atol=1e-9)
    coefficients = torch.randn(3, 10)
    torch.testing.assert_close(leading.transform(leading.inverse(coefficients)), coefficients)


def test_a_rank_beyond_the_graphs_leaves_the_zeros_out():
    for make, pairs in ((lambda: random_blocks(30, 7), 7), (low_rank, 14), (dead_units, 10)):
        for rank in (16, 19, 20, 100):
            assert GraphFourier(make(), rank).num_frequencies == 2 * pairs


def test_coactivation_has_as_many_frequencies_as_classes():
    torch.manual_seed(0)
    blocks = coactivation_blocks([torch.randn(3, units) for units in (20, 12, 6)])
    pair, chain = GraphFourier(blocks[:1]), GraphFourier(blocks)
    assert (len(pair.singular), len(chain.singular)) == (3, 6)
    assert GraphFourier(blocks[:1], rank=8).num_frequencies == 6
    expected = adjacency([b.matrix().numpy() for b in blocks])
    np.testing.assert_allclose(chain.frequencies, np.linalg.eigvalsh(expected)[::-1], atol=1e-13)
    np.testing.assert_allclose(chain.matrix().T @ chain.frequencies.diag() @ chain.matrix(), expected, atol=1e-13)


def test_a_basis_that_is_too_large_is_refused_before_it_is_begun(monkeypatch):
    large = [FactorBlock(torch.zeros(1, 4096), torch.zeros(1, 200_704))]
    with pytest.raises(
        DfkdError, match=r"204,800 units takes about 1501\.\d GiB.*set metadata\.graph_rank.*fewer layers"
    ):
        GraphFourier(large)
    monkeypatch.setattr(fourier, "LARGEST_BASIS", 2**20)
    with pytest.raises(DfkdError, match=r"lower metadata\.graph_rank"):
        GraphFourier(large, rank=1)
