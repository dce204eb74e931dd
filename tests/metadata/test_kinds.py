"""Every kind against its formula, written out again with dense matrices in numpy (METHOD, "What the paper keeps")."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata import (
    AllLayers,
    AllLayersDropout,
    Channels,
    Composed,
    Spatial,
    SpectralAllLayers,
    SpectralLayerPairs,
    TopLayer,
    bases,
)
from dfkd_exp.metadata.card import what_it_may_reveal
from dfkd_exp.metadata.covariance import Full, unpack_symmetric
from dfkd_exp.metadata.fourier import GraphFourier
from dfkd_exp.metadata.gaussian_sums import Place
from dfkd_exp.metadata.own_statistics import Carried
from dfkd_exp.metadata.records import Records, Signals
from dfkd_exp.metadata.reservoir import image_hash
from dfkd_exp.metadata.spatial import is_map
from dfkd_exp.metadata.statistic import Statistic
from dfkd_exp.metadata.storage import decode, encode, rounded
from dfkd_exp.models.layers import Layer
from tests.toy import CLASSES, INPUTS, toy_images, toy_teacher

UNITS = (64, 8, 3)
TEMPERATURE = 8.0
PAIRS, CHAIN = [(0, 1), (1, 2)], [(0, 1, 2)]


def signals_of(teacher, images, after_relu=False):
    """The values of the toy teacher's three layers, float64: logits over the temperature."""
    with torch.no_grad():
        convolved = teacher[0](images)
        hidden = teacher[3](convolved.relu().flatten(1))
        layers = [convolved.flatten(1), hidden, teacher[5](hidden.relu()) / TEMPERATURE]
    layers = [values.double().numpy() for values in layers]
    return [np.maximum(values, 0) for values in layers[:-1]] + layers[-1:] if after_relu else layers


def recorded_images(images, labels, label, count):
    """Indices of the images of a class that are recorded: those of the smallest hashes."""
    own = np.flatnonzero(labels == label)
    return own[np.argsort(image_hash(images).numpy()[own])[:count]]


def weights_between(teacher):
    """Between consecutive layers of the toy teacher there is a ReLU, so the blocks are the weights of its dense layers."""
    return [teacher[index].weight.detach().double().numpy() for index in (3, 5)]


def coactivations(layers, labels):
    """``1/K sum_c mu_{l+1,c} mu_{l,c}^T``, as the authors' code joins units."""
    means = [np.stack([values[labels == label].mean(0) for label in range(CLASSES)]) for values in layers]
    return [later.T @ earlier / CLASSES for earlier, later in itertools.pairwise(means)]


def spectrum(blocks):
    """Eigenvalues and eigenvectors (columns) of the full adjacency matrix of consecutive layers."""
    sizes = [blocks[0].shape[1], *(block.shape[0] for block in blocks)]
    starts = np.cumsum([0, *sizes])
    adjacency = np.zeros((starts[-1], starts[-1]))
    for index, block in enumerate(blocks):
        adjacency[starts[index + 1] : starts[index + 2], starts[index] : starts[index + 1]] = block
    return np.linalg.eigh(adjacency + adjacency.T)


class Pyramid(nn.Sequential):
    """Three dense layers, of as many units in the odd layer as in the two even ones: no frequency of its chain is zero."""

    def __init__(self):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            super().__init__(
                nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, CLASSES)
            )
        self.eval()


def pyramid_signals(teacher, images):
    with torch.no_grad():
        one = teacher[1](images.flatten(1))
        two = teacher[3](one.relu())
        return [values.double().numpy() for values in (one, two, teacher[5](two.relu()) / TEMPERATURE)]


@pytest.mark.parametrize("graph", ["weights", "coactivation"])
def test_the_basis_of_a_graph_is_computed_once_for_both_sides_of_a_run_and_never_taken_for_anothers(graph, monkeypatch):
    made = []

    def counted(*args):
        made.append(GraphFourier(*args))
        return made[-1]

    monkeypatch.setattr(bases, "GraphFourier", counted)
    monkeypatch.setattr(bases, "_computed", {})
    teacher, pairs = Pyramid(), SpectralLayerPairs(records_per_class=6, graph=graph)
    metadata = pairs.collect(teacher, [toy_images()], INPUTS)
    first = metadata.resolved(teacher).statistics
    assert len(made) == 2, "a basis for each pair of layers"
    again = metadata.resolved(teacher).statistics
    assert len(made) == 4, "what was taken is not kept"
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.distribution.signals, other.distribution.signals)
    SpectralAllLayers(records_per_class=6, graph=graph).collect(teacher, [toy_images()], INPUTS)
    with torch.no_grad():
        teacher[3].weight.mul_(2)
    changed = pairs.collect(teacher, [toy_images()], INPUTS)
    changed.resolved(teacher)
    assert len(made) == 4 + 1 + 2, "of other layers and other weights"


@pytest.mark.parametrize("fraction", [0.1, 0.4, 1.0])
def test_a_record_on_the_graph_of_all_layers_is_that_of_the_dense_spectrum(fraction):
    """``s_hat = F s``, the C largest kept, ``s_bar = F^-1 s_hat_C``, with F from `numpy.linalg.eigh` of the whole matrix."""
    teacher, (images, labels) = Pyramid(), toy_images()
    kind = SpectralAllLayers(fraction=fraction, records_per_class=6)
    metadata = kind.collect(teacher, [(images, labels)], INPUTS)
    [statistic] = metadata.resolved(teacher).statistics
    blocks = [teacher[index].weight.detach().double().numpy() for index in (3, 5)]
    frequencies, vectors = spectrum(blocks)
    assert np.abs(frequencies).min() > 1e-3
    assert np.diff(frequencies).min() > 1e-3
    everything = np.concatenate(pyramid_signals(teacher, images), 1)
    kept = max(1, round(fraction * 16))
    for label in range(CLASSES):
        for found, image in zip(
            statistic.distribution.signals[label], recorded_images(images, labels, label, 6), strict=True
        ):
            coefficients = vectors.T @ everything[image]
            smallest = np.sort(np.abs(coefficients))[-kept]
            expected = vectors @ np.where(np.abs(coefficients) >= smallest, coefficients, 0)
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", [SpectralAllLayers, SpectralLayerPairs])
@pytest.mark.parametrize("signal", ["before_relu", "after_relu"])
@pytest.mark.parametrize("graph", ["weights", "coactivation"])
def test_records_are_the_signals_within_the_spectrum(kind, graph, signal):
    """With all coefficients kept, whatever the basis of equal frequencies; and those joined are numpy's but for signs."""
    teacher, (images, labels) = toy_teacher(), toy_images()
    metadata = kind(fraction=1.0, records_per_class=4, graph=graph, signal=signal).collect(
        teacher, [(images, labels)], INPUTS
    )
    layers = signals_of(teacher, images, signal == "after_relu")
    blocks = weights_between(teacher) if graph == "weights" else coactivations(layers, labels)
    chains = CHAIN if kind is SpectralAllLayers else PAIRS
    assert [statistic.layers for statistic in metadata.statistics] == chains
    ready = metadata.resolved(teacher)
    for chain, statistic, resolved in zip(chains, metadata.statistics, ready.statistics, strict=True):
        frequencies, vectors = spectrum(blocks[chain[0] : chain[-1]])
        joined = vectors[:, np.abs(frequencies) > 1e-9]  # those of zero are determined up to a rotation only
        pairs = joined.shape[1] // 2
        for label in range(CLASSES):
            chosen = recorded_images(images, labels, label, 4)
            signals = np.concatenate([layers[index][chosen] for index in chain], 1)
            np.testing.assert_allclose(resolved.distribution.signals[label], signals, atol=1e-5)
            ours = statistic.summary.dense()[label].double().numpy()
            ours = np.concatenate([ours[:, -pairs:][:, ::-1], ours[:, :pairs]], 1)
            # Ours: the positive ones descending, then the negative ones ascending in size; theirs ascending.
            theirs = np.abs(signals @ joined)
            theirs = np.concatenate([theirs[:, :pairs], theirs[:, pairs:][:, ::-1]], 1)
            np.testing.assert_allclose(np.abs(ours), theirs, atol=2e-5)


def test_a_graphs_rank_keeps_the_leading_frequencies_alone():
    teacher, (images, labels) = toy_teacher(), toy_images()
    kind = SpectralAllLayers(fraction=1.0, records_per_class=4, graph_rank=3)
    [statistic] = kind.collect(teacher, [(images, labels)], INPUTS).resolved(teacher).statistics
    frequencies, vectors = spectrum(weights_between(teacher))
    leading = vectors[:, np.argsort(-np.abs(frequencies))[:6]]
    everything = np.concatenate(signals_of(teacher, images), 1)
    for label in range(CLASSES):
        signals = everything[recorded_images(images, labels, label, 4)]
        np.testing.assert_allclose(statistic.distribution.signals[label], signals @ leading @ leading.T, atol=1e-5)


def test_records_of_units_are_the_largest_activations():
    teacher, (images, labels) = toy_teacher(), toy_images()
    kind = Composed(summary="records", fraction=0.2, records_per_class=4)
    [statistic] = kind.collect(teacher, [(images, labels)], INPUTS).statistics
    everything = np.concatenate(signals_of(teacher, images), 1)
    for label in range(CLASSES):
        signals = everything[recorded_images(images, labels, label, 4)]
        smallest = np.sort(np.abs(signals), 1)[:, -15:-14]
        np.testing.assert_allclose(statistic.summary.dense()[label], signals * (np.abs(signals) >= smallest), atol=1e-6)
        assert ((statistic.summary.dense()[label] != 0).sum(1) == 15).all()


def test_which_images_are_recorded_depends_on_nothing_but_the_images(tmp_path):
    teacher, (images, labels) = toy_teacher(), toy_images()
    kind = SpectralLayerPairs(records_per_class=5)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    for name, batches in {
        "whole": [(images, labels)],
        "ones": zip(images.split(1), labels.split(1), strict=True),
        "shuffled": zip(images[order].split(11), labels[order].split(11), strict=True),
    }.items():
        kind.collect(teacher, batches, INPUTS).save(tmp_path / name)
    whole = load_file(tmp_path / "whole")
    for name in ("ones", "shuffled"):
        other = load_file(tmp_path / name)
        for key in whole:
            torch.testing.assert_close(other[key], whole[key], rtol=1e-4, atol=1e-5)
    assert image_hash(images).unique().numel() == len(images), "no two images are alike"
    assert image_hash(images + 0.5).unique().numel() == len(images)


def test_records_are_as_many_as_the_smallest_class_has():
    images, labels = toy_images()
    kept = torch.tensor([True] * 6 + [False] * (len(labels) - 6)) | (labels != 1)
    metadata = SpectralAllLayers(records_per_class=30).collect(toy_teacher(), [(images[kept], labels[kept])], INPUTS)
    assert metadata.counts == [40, 2, 40]
    assert metadata.statistics[0].summary.values.shape[1] == 2


def test_records_are_drawn_all_before_one_comes_again():
    signals = Signals(torch.arange(5.0).repeat(2, 1)[..., None])
    drawn = signals.sample(1, 12, torch.Generator().manual_seed(0)).flatten().tolist()
    assert sorted(drawn[:5]) == sorted(drawn[5:10]) == [0, 1, 2, 3, 4]
    assert len(drawn) == 12


def test_gaussians_after_a_relu_are_of_rectified_values_but_for_the_logits():
    teacher, (images, labels) = toy_teacher(), toy_images()
    metadata = AllLayers(covariance="full", signal="after_relu").collect(teacher, [(images, labels)], INPUTS)
    for statistic, values in zip(metadata.statistics, signals_of(teacher, images, after_relu=True), strict=True):
        statistics = statistic.summary
        for label in range(CLASSES):
            own = values[labels == label]
            np.testing.assert_allclose(statistics.mean[label], own.mean(0), atol=1e-6)
            np.testing.assert_allclose(statistics.matrix(label), np.cov(own, rowvar=False), atol=1e-6)
    recorded = [-torch.ones(2, units) for units in UNITS]
    assert [values.unique().item() for values in metadata.resolved(teacher).activations(recorded)] == [
        0,
        0,
        -1 / TEMPERATURE,
    ]


@pytest.mark.parametrize("basis", ["layer_pairs", "all_layers"])
@pytest.mark.parametrize("covariance", ["diagonal", "full", "low_rank"])
def test_a_gaussian_of_coefficients_is_one_of_units(basis, covariance):
    """Mean ``F^T m``; variances of ``F^T S F``, which with a diagonal S depend on the basis: then our own F is taken."""
    from dfkd_exp.metadata.bases import graph_bases

    teacher, (images, labels) = Pyramid(), toy_images()
    kind = Composed(basis=basis, covariance=covariance, rank=20)
    metadata = kind.collect(teacher, [(images, labels)], INPUTS)
    layers = pyramid_signals(teacher, images)
    bases = graph_bases(metadata.graph, teacher, metadata.layers, INPUTS, [s.layers for s in metadata.statistics])
    for statistic in metadata.resolved(teacher).statistics:
        transform, found = bases[statistic.layers].matrix().numpy(), statistic.distribution
        signals = np.concatenate([layers[index] for index in statistic.layers], 1)
        for label in range(CLASSES):
            own = signals[labels == label]
            exact = np.cov(own @ transform.T, rowvar=False)
            exact = np.diag(np.diag(exact)) if covariance == "diagonal" else exact
            expected = transform.T @ exact @ transform
            np.testing.assert_allclose(found.mean[label], own.mean(0), atol=1e-5)
            np.testing.assert_allclose(found.std()[label], np.sqrt(np.diag(expected)), rtol=1e-3, atol=1e-5)
            drawn = found.sample(label, 20_000, torch.Generator().manual_seed(0)).double().numpy()
            np.testing.assert_allclose(drawn.mean(0), own.mean(0), atol=0.01)
            np.testing.assert_allclose(np.cov(drawn, rowvar=False), expected, atol=0.05 * np.abs(expected).max())


def numpy_separable(values, channels):
    """S: the mean over locations of the channels' covariance; Q: that of the locations, summed over channels, of mean diagonal 1."""
    deviations = (values - values.mean(0)).reshape(len(values), channels, -1)
    locations = deviations.shape[2]
    by_channel = np.einsum("ncl,ndl->cd", deviations, deviations) / (len(values) - 1) / locations
    by_location = np.einsum("ncl,ncm->lm", deviations, deviations)
    return by_channel, by_location / np.trace(by_location) * locations


@pytest.mark.parametrize("rank", [3, 16])
def test_spatial_keeps_the_covariances_of_channels_and_of_locations(rank):
    teacher, (images, labels) = toy_teacher(), toy_images()
    metadata = Spatial(rank=rank).collect(teacher, [(images, labels)], INPUTS)
    maps = metadata.statistics[0].summary
    assert [statistic.summary.form for statistic in metadata.statistics] == ["separable", "full", "full"]
    [values, *_] = signals_of(teacher, images)
    for label in range(CLASSES):
        own = values[labels == label]
        by_channel, by_location = numpy_separable(own, 4)
        np.testing.assert_allclose(maps.mean[label], own.mean(0), atol=1e-6)
        np.testing.assert_allclose(unpack_symmetric(maps.channels[label], 4), by_channel, atol=1e-6)
        factor, variance = maps.factor[label].double().numpy(), maps.variance[label].double().numpy()
        product = factor @ factor.T + np.diag(variance)
        np.testing.assert_allclose(np.diag(product), np.diag(by_location), rtol=1e-4)
        if rank == 16:  # nothing is left out
            np.testing.assert_allclose(product, by_location, atol=1e-4)
        expected = np.sqrt(np.kron(np.diag(by_channel), np.diag(by_location)))
        np.testing.assert_allclose(maps.std()[label], expected, rtol=1e-4)


def test_draws_of_spatial_are_matrix_normal():
    teacher = toy_teacher()
    metadata = Spatial(rank=4).collect(teacher, [toy_images()], INPUTS)
    maps = metadata.statistics[0].summary
    drawn = maps.sample(1, 40_000, torch.Generator().manual_seed(0)).double().numpy()
    factor = maps.factor[1].double().numpy()
    locations = factor @ factor.T + np.diag(maps.variance[1].double().numpy())
    expected = np.kron(unpack_symmetric(maps.channels[1], 4).double().numpy(), locations)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose((drawn.mean(0) - maps.mean[1].numpy()) / np.sqrt(np.diag(expected)), 0, atol=0.025)
    np.testing.assert_allclose((np.cov(drawn, rowvar=False) - expected) / scale, 0, atol=0.03)


def test_spatial_is_all_layers_without_maps():
    """On dense layers, and on maps of a single location."""
    mlp = Pyramid()
    conv = nn.Sequential(nn.Conv2d(1, 5, 6), nn.ReLU(), nn.Flatten(), nn.Linear(5, CLASSES)).eval()
    for teacher in (mlp, conv):
        one, two = (kind().collect(teacher, [toy_images()], INPUTS) for kind in (Spatial, AllLayers))
        assert one.tensors().keys() == two.tensors().keys()
        for name, tensor in one.tensors().items():
            assert torch.equal(tensor, two.tensors()[name]), name


def test_spatial_is_of_maps_whose_channels_come_first():
    def taken(*axes):
        return is_map(Place((0,), (Layer("maps", (4, 4, 6), axes),), num_classes=3))

    assert taken("channel", "row", "column")
    assert not taken("row", "column", "feature")


@pytest.mark.parametrize(
    ("summary", "basis", "scope"),
    [
        (Carried(4), "channels", "class"),
        (Carried(4), "units", "all"),
        (Full(torch.zeros(3, 2), torch.zeros(3, 3)), "regions", "class"),
        (Records(torch.zeros(3, 2, 1), torch.zeros(3, 2, 1, dtype=torch.int32), 4), "channels", "class"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_summary_is_of_nothing_that_it_cannot_be_of(summary, basis, scope):
    with pytest.raises(ValueError, match=f"{summary.form} of scope '{scope}' in basis '{basis}'"):
        Statistic((0,), summary, basis, scope)


def test_spatial_stores_no_more_columns_than_locations():
    maps = Spatial(rank=32).collect(toy_teacher(), [toy_images()], INPUTS).statistics[0].summary
    assert maps.factor.shape == (CLASSES, 16, 16)


def test_dropout_masks_are_all_that_all_layers_dropout_adds():
    teacher = toy_teacher()
    plain, masked = (kind().collect(teacher, [toy_images()], INPUTS) for kind in (AllLayers, AllLayersDropout))
    assert (plain.dropout_masks, masked.dropout_masks) == (False, True)
    for name, tensor in plain.tensors().items():
        assert torch.equal(tensor, masked.tensors()[name])


NUMBERS_ROWS_AND_COLUMNS = {
    "top_layer": (TopLayer(), 3 * (3 + 6), 3 * 2, 3 + 6, 0),
    "all_layers": (AllLayers(covariance="full"), 3 * (64 + 2080 + 8 + 36 + 3 + 6), 3 * 6, 64 + 2080 + 8 + 36 + 3 + 6, 0),
    # 4 channels of 16 locations: the mean, S's triangle, F of 2 columns and v; then two full covariances.
    "spatial": (
        Spatial(rank=2), 3 * (64 + 10 + 32 + 16 + 8 + 36 + 3 + 6), 3 * (1 + 1 + 16 + 1 + 4), 64 + 10 + 2 + 16 + 8 + 36 + 3 + 6, 0,
    ),
    # A tenth of 75 units, 8; 5 records of 3 classes.
    "spectral_all_layers": (SpectralAllLayers(records_per_class=5), 15 * 8, 15, 8, 15 * 8),
    # Of 72 units, 7; of 11, 1.
    "spectral_layer_pairs": (SpectralLayerPairs(records_per_class=5), 15 * 8, 15 * 2, 8, 15 * 8),
    # And means of 75 units in 3 layers.
    "coactivation": (
        SpectralLayerPairs(records_per_class=5, graph="coactivation"), 15 * 8 + 3 * 75, 15 * 2 + 3 * 3, 8 + 75, 15 * 8,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("storage", "each", "exponent"), [("fp32", 4, 0), ("fp16", 2, 0), ("bf16", 2, 0), ("int8", 1, 1)]
)
@pytest.mark.parametrize("name", NUMBERS_ROWS_AND_COLUMNS)
def test_bytes_are_what_a_hand_counts(name, storage, each, exponent):
    kind, numbers, rows, columns, indices = NUMBERS_ROWS_AND_COLUMNS[name]
    kind = type(kind)(**{**vars(kind), "storage": storage})
    metadata = kind.collect(toy_teacher(), [toy_images()], INPUTS)
    assert metadata.num_bytes == numbers * each + (rows + columns) * exponent + indices * 2


def test_indices_take_four_bytes_where_two_do_not_suffice():
    teacher = nn.Sequential(nn.Conv2d(1, 4096, 3), nn.Flatten(), nn.Linear(65536, CLASSES)).eval()
    metadata = Composed(summary="records", fraction=1e-3, records_per_class=1).collect(teacher, [toy_images(2)], INPUTS)
    assert metadata.statistics[0].summary.num_coefficients == 65_539
    assert metadata.num_bytes == 3 * 66 * (4 + 4)


@pytest.mark.parametrize(("storage", "bound"), [("fp16", 2**-11), ("bf16", 2**-8)])
def test_rounding_is_to_the_nearest(storage, bound):
    values = torch.randn(3, 5, 400, generator=torch.Generator().manual_seed(0))
    error = (rounded("statistics.0.mean", values, storage) - values).abs()
    assert (error <= bound * values.abs()).all()
    assert error.any()
    assert torch.equal(rounded("statistics.0.mean", values, "fp32"), values)


SIZES = torch.logspace(-8, 8, 400)
"""Of units whose values are far apart."""


def test_whole_numbers_are_as_exact_as_their_own_unit_asks():
    """Of each unit all numbers are off by less than a hundredth of its largest, however large the others are."""
    values = torch.randn(3, 5, 400, generator=torch.Generator().manual_seed(0)) * SIZES
    values[0, 0] = 0
    values[:, :, 7] = 0
    again = rounded("statistics.0.mean", values, "int8")
    assert ((again - values).abs() <= values.abs().amax((0, 1)) / 128).all()
    assert (again != values).any()


def test_whole_numbers_are_as_exact_as_their_row_asks():
    values = 0.5 + torch.rand(3, 5, 400, generator=torch.Generator().manual_seed(0)) / 2
    rows = torch.logspace(-6, 6, 15).reshape(3, 5, 1)
    again = rounded("statistics.0.values", values * rows, "int8")
    assert ((again / rows - values).abs() <= 1 / 64).all()


def test_whole_numbers_are_of_rows():
    with pytest.raises(
        DfkdError, match=r"metadata.storage=int8 is for tensors of rows, and s.mean has the shape \[3\]"
    ):
        encode("s.mean", torch.ones(3), "int8")


def test_half_precision_holds_the_variances_of_small_signals():
    variance = torch.logspace(-12, 8, 100)[None]
    torch.testing.assert_close(rounded("s.variance", variance, "fp16"), variance, rtol=2e-3, atol=1e-12)


@pytest.mark.parametrize("name", ["mean", "variance", "values"])
@pytest.mark.parametrize("shape", [(10, 400), (1, 400), (10, 1), (3, 5, 400)])
def test_whole_numbers_that_are_read_and_written_again_are_the_same(name, shape):
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).abs()
    once = encode(
        f"statistics.0.{name}",
        noise * SIZES[-shape[-1] :] * torch.logspace(-3, 3, shape[0]).reshape(-1, *[1] * (noise.dim() - 1)),
        "int8",
    )
    again = encode(f"statistics.0.{name}", decode(f"statistics.0.{name}", once), "int8")
    assert once.keys() == again.keys()
    assert all(torch.equal(once[part], again[part]) for part in once)


def test_whole_numbers_of_a_variance_are_those_of_its_root():
    values = torch.rand(3, 400, generator=torch.Generator().manual_seed(0))
    again = rounded("statistics.0.variance", values, "int8")
    assert ((again.sqrt() - values.sqrt()).abs() <= values.amax(0).sqrt() / 128).all()
    covariances = rounded("statistics.0.covariance", -values, "int8")  # has negative entries, and no root
    assert ((covariances + values).abs() <= values.amax(0) / 128).all()


def test_what_fp16_cannot_hold_is_refused():
    teacher = toy_teacher()
    with torch.no_grad():
        teacher[0].weight *= 1e6
    with pytest.raises(DfkdError, match=r"metadata\.storage=fp16 cannot hold .*choose bf16"):
        AllLayers(storage="fp16").collect(teacher, [toy_images()], INPUTS)


@pytest.mark.parametrize(
    ("kind", "mean_image", "pixels"),
    [
        (AllLayers(covariance="full"), True, True),
        (AllLayers(covariance="diagonal"), True, False),
        (Channels(), False, False),
        (TopLayer(), False, False),
    ],
)
def test_the_card_warns_of_what_the_kind_shows(kind, mean_image, pixels):
    said = what_it_may_reveal(kind.collect(toy_teacher(), [toy_images()], INPUTS))
    assert ("the class's mean image" in said, "covariance of the pixels" in said) == (mean_image, pixels)
