"""The statistics themselves, against one-shot sums in double precision."""

import numpy as np
import pytest
import torch
from torch import nn

from dfkd_exp.data.images import LabelledImages
from dfkd_exp.errors import DfkdError
from dfkd_exp.evaluation.attacks import attack, metadata_scores
from dfkd_exp.evaluation.members import recorded
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata import AllLayers, Channels, Gaussian, SpectralLayerPairs, TopLayer
from dfkd_exp.metadata.collection import observed_inputs
from dfkd_exp.metadata.moments import ClassMoments, Scatter
from dfkd_exp.models.recording import find_layers
from tests.toy import CLASSES, INPUTS, toy_images, toy_teacher


def activations(teacher, images, temperature=8.0):
    """Outputs of the toy teacher's three layers with weights, flattened, logits over the temperature; float64."""
    with torch.no_grad():
        convolved = teacher[0](images)
        hidden = teacher[3](convolved.relu().flatten(1))
        logits = teacher[5](hidden.relu())
    return [x.double().numpy() for x in (convolved.flatten(1), hidden, logits / temperature)]


def covariance(statistics, label):
    """The covariance that a layer's statistics stand for."""
    if statistics.form == "full":
        return statistics.matrix(label).numpy()
    diagonal = np.diag(statistics.variance[label].numpy())
    return (
        diagonal
        if statistics.form == "diagonal"
        else diagonal + statistics.factor[label].numpy() @ statistics.factor[label].numpy().T
    )


@pytest.mark.parametrize("form", ["full", "diagonal", "low_rank"])
def test_means_and_covariances_are_those_of_the_class(form):
    teacher, (images, labels) = toy_teacher(), toy_images()
    metadata = AllLayers(covariance=form, rank=64).collect(teacher, [(images, labels)], INPUTS)
    assert metadata.layer_names == ["0", "3", "5"]
    for statistic, values in zip(metadata.statistics, activations(teacher, images), strict=True):
        statistics = statistic.summary
        for label in range(CLASSES):
            own = values[labels == label]
            expected = np.cov(own, rowvar=False)
            np.testing.assert_allclose(statistics.mean[label], own.mean(0), atol=1e-6)
            np.testing.assert_allclose(statistics.std()[label], own.std(0, ddof=1), atol=1e-6)
            if statistics.form == "diagonal":
                expected = np.diag(np.diag(expected))
            np.testing.assert_allclose(covariance(statistics, label), expected, atol=1e-6)


def test_a_low_rank_keeps_the_largest_directions_and_every_variance():
    teacher, (images, labels) = toy_teacher(), toy_images(200)
    metadata = AllLayers(covariance="low_rank", rank=8).collect(teacher, [(images, labels)], INPUTS)
    [values, *_] = activations(teacher, images)
    exact = np.cov(values[labels == 0], rowvar=False)
    factor = metadata.statistics[0].summary.factor[0].double().numpy()
    best = np.linalg.eigvalsh(exact)[::-1][8:]
    error = np.linalg.norm(exact - factor @ factor.T)
    assert error < 1.1 * np.linalg.norm(best)
    np.testing.assert_allclose(np.diag(covariance(metadata.statistics[0].summary, 0)), np.diag(exact), rtol=1e-5)


@pytest.mark.parametrize("form", ["full", "diagonal", "low_rank"])
def test_a_large_mean_does_not_swallow_the_variance(form):
    """Sums of squares would: with mean 10,000 and deviation 0.1 their difference is all rounding in float32."""
    generator = torch.Generator().manual_seed(0)
    exact = 0.1 * torch.randn(400, 20, generator=generator, dtype=torch.float64)
    shifted = (exact + 10_000).float()
    test_matrix = torch.randn(20, 20, generator=generator) if form == "low_rank" else None
    moments = ClassMoments(20, [] if form == "diagonal" else [Scatter(20, test_matrix)])
    for part in shifted.split(32):
        moments.update(part)
    expected = np.cov(shifted.double().numpy(), rowvar=False)
    np.testing.assert_allclose(moments.squares / 399, np.diag(expected), rtol=2e-3)
    if form == "full":
        np.testing.assert_allclose(moments.scatters[0].tril() / 399, np.tril(expected), atol=2e-5)
    if form == "low_rank":
        np.testing.assert_allclose(moments.scatters[0] / 399, expected @ test_matrix.double().numpy(), atol=2e-4)


def test_only_the_logits_are_divided_by_the_temperature():
    cold, hot = (
        AllLayers(covariance="full", temperature=t).collect(toy_teacher(), [toy_images()], INPUTS) for t in (1.0, 4.0)
    )
    for one, two in zip(cold.statistics[:-1], hot.statistics[:-1], strict=True):
        assert torch.equal(one.summary.mean, two.summary.mean)
        assert torch.equal(one.summary.covariance, two.summary.covariance)
    torch.testing.assert_close(hot.statistics[-1].summary.mean, cold.statistics[-1].summary.mean / 4)
    torch.testing.assert_close(hot.statistics[-1].summary.covariance, cold.statistics[-1].summary.covariance / 16)


def test_activations_take_the_form_of_the_statistics():
    metadata = AllLayers(temperature=4.0).collect(toy_teacher(), [toy_images()], INPUTS)
    recorded = [torch.ones(2, 4, 4, 4), torch.ones(2, 8), torch.ones(2, 3)]
    flat = metadata.resolved(toy_teacher()).activations(recorded)
    assert [tuple(x.shape) for x in flat] == [(2, 4, 4, 4), (2, 8), (2, 3)]
    assert [x.unique().item() for x in flat] == [1.0, 1.0, 0.25]


def test_the_top_layer_is_the_last_of_all_layers():
    top = TopLayer().collect(toy_teacher(), [toy_images()], INPUTS)
    all_layers = AllLayers().collect(toy_teacher(), [toy_images()], INPUTS)
    assert top.layer_names == ["5"]
    assert torch.equal(top.statistics[0].summary.covariance, all_layers.statistics[-1].summary.covariance)


@pytest.mark.parametrize(
    ("settings", "forms"),
    [
        ({}, ["full", "full", "full"]),
        ({"full_up_to": 8}, ["low_rank", "full", "full"]),
        ({"full_up_to": 8, "low_rank_up_to": 32}, ["diagonal", "full", "full"]),
        ({"covariance": "low_rank", "rank": 4}, ["low_rank", "low_rank", "full"]),
        ({"covariance": "diagonal"}, ["diagonal"] * 3),
        ({"covariance": "top_only"}, ["diagonal", "diagonal", "full"]),
    ],
)
def test_the_form_of_a_covariance_follows_the_size_of_its_layer(settings, forms):
    metadata = AllLayers(**settings).collect(toy_teacher(), [toy_images(20)], INPUTS)
    assert [statistic.summary.form for statistic in metadata.statistics] == forms


@pytest.mark.parametrize(
    ("kind", "values", "classes", "form"),
    [
        (AllLayers(), 2048, 10, "full"), (AllLayers(), 300, 300, "full"), (AllLayers(), 400, 400, "low_rank"),
        (AllLayers(), 1000, 1000, "diagonal"),
        (AllLayers(), 512, 100, "full"), (AllLayers(), 2048, 100, "low_rank"), (AllLayers(), 16384, 10, "low_rank"),
        (AllLayers(), 16384, 1000, "diagonal"), (TopLayer(), 1000, 1000, "diagonal"), (AllLayers(covariance="top_only"), 363, 363, "full"),
        (AllLayers(covariance="top_only"), 364, 364, "diagonal"), (AllLayers(covariance="full"), 1000, 1000, "full"),
    ],
)  # fmt: skip
def test_the_form_follows_the_number_of_classes_too(kind, values, classes, form):
    assert kind.form_for(values, True, classes) == form


def test_it_is_said_beforehand_how_large_whole_covariances_are(monkeypatch, capsys):
    monkeypatch.setattr("dfkd_exp.metadata.gaussian.WARN_FROM", 24 * 3 * 64**2)
    kind = AllLayers(covariance="full")
    monkeypatch.setattr("dfkd_exp.metadata.gaussian_sums.GaussianSums.__init__", lambda *_: print("memory is taken"))
    kind.accumulators(toy_teacher(), find_layers(toy_teacher(), INPUTS.example()), INPUTS, 3)
    said = capsys.readouterr()
    assert said.err.count("warning") == 1
    assert "3 whole covariances of 0 (64 values) take about 0.0 GB of memory" in said.err
    AllLayers(covariance="diagonal").accumulators(
        toy_teacher(), find_layers(toy_teacher(), INPUTS.example()), INPUTS, 3
    )
    assert not capsys.readouterr().err


def test_sizes_are_what_the_forms_need():
    floats = {"full": 64 * 65 // 2, "diagonal": 64, "low_rank": 64 * 4 + 64}
    for form, per_class in floats.items():
        metadata = Gaussian(layers=["0"], covariance=form, rank=4).collect(toy_teacher(), [toy_images()], INPUTS)
        top = 3 if form == "diagonal" else 6  # of 3 units, low rank is full
        assert metadata.num_bytes == 4 * CLASSES * (64 + per_class + 3 + top), form


def test_one_image_per_class_has_a_mean_and_no_spread():
    images, labels = toy_images(1)
    metadata = AllLayers(covariance="full").collect(toy_teacher(), [(images, labels)], INPUTS)
    ready = metadata.resolved(toy_teacher())
    drawn = [s.sample(torch.tensor([1] * 4), torch.Generator().manual_seed(0)) for s in ready.statistics]
    for [target], values in zip(drawn, activations(toy_teacher(), images), strict=True):
        np.testing.assert_allclose(target, np.repeat(values[1:2], 4, axis=0), atol=1e-6)


@pytest.mark.parametrize("layers", [["body.9"], ["0", "nowhere"]])
def test_an_unknown_layer_is_refused_with_the_names_there_are(layers):
    with pytest.raises(DfkdError, match=rf"metadata.layers: the teacher has no layer '{layers[-1]}'.*0, 3, 5"):
        Gaussian(layers=layers).collect(toy_teacher(), [toy_images()], INPUTS)


def test_shape_and_range_are_observed_where_they_are_not_given():
    images = torch.stack([torch.full((4, 5), -1.0), torch.full((4, 5), 2.0)]).repeat(3, 1, 1, 1)
    images[1, 1] = 3.0
    spec = observed_inputs([(images[:1], torch.zeros(1)), (images[1:], torch.zeros(2))])
    assert (spec.shape, spec.low, spec.high) == ((2, 4, 5), (-1.0, 2.0), (0.0, 3.0)), "one value alone has a range of 1"
    with pytest.raises(DfkdError, match="no batches"):
        observed_inputs([])


def test_a_generator_of_batches_may_be_read_without_inputs():
    one = AllLayers().collect(toy_teacher(), iter([toy_images()]))
    assert one.counts == [40] * CLASSES
    assert one.inputs.shape == INPUTS.shape


def test_a_teacher_whose_last_module_is_not_a_layer_with_weights_keeps_its_output():
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES), nn.LogSoftmax(1))
    metadata = TopLayer(temperature=1.0).collect(teacher, [toy_images()], INPUTS)
    assert metadata.layer_names == ["output"]
    assert (metadata.statistics[0].summary.mean < 0).all()


def test_whose_activations_are_recorded_is_known_wherever_the_teacher_computes():
    """A GPU divides by 255 by a multiplication, so that inputs differ in the last bit from a processor's."""
    inputs = InputSpec.normalised(INPUTS.shape, [0.3], [0.4])
    pixels = torch.randint(256, (90, *INPUTS.shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels, teacher = torch.arange(90) % CLASSES, toy_teacher()
    exact = inputs.from_pixels(pixels)
    as_on_gpu = (pixels.float() * (1 / 255)) * (1 / 0.4) - 0.3 / 0.4
    assert not torch.equal(as_on_gpu, exact)
    kind = SpectralLayerPairs(fraction=1.0, records_per_class=7)
    collector = kind.collector(teacher, inputs)
    for rows in torch.arange(90).split(40):
        collector.update(as_on_gpu[rows], labels[rows], pixels[rows])
    found = collector.finish().resolved(teacher)
    members = recorded(LabelledImages(pixels, labels), inputs, CLASSES, 7)
    assert members.shape == (CLASSES * 7,)
    scores = metadata_scores(found, teacher, pixels, labels)
    others = torch.ones(90, dtype=torch.bool)
    others[members] = False
    assert attack(scores[members], scores[others]).auc == 1


@pytest.mark.parametrize("kind", [AllLayers(covariance="diagonal"), Channels(covariance="full")])
def test_large_batches_go_through_the_teacher_in_parts(kind, monkeypatch):
    """Of a CPU's cache; the statistics are those of the whole, whatever the order of the classes."""
    teacher, (images, labels) = toy_teacher(), toy_images()
    whole, seen = kind.collect(teacher, [(images, labels)], INPUTS), []
    monkeypatch.setattr("dfkd_exp.metadata.collection.VALUES_AT_ONCE", 75 * 11)
    handle = teacher.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    parts = kind.collect(teacher, [(images, labels)], INPUTS)
    handle.remove()
    assert max(seen) == 11
    for one, other in zip(whole.statistics, parts.statistics, strict=True):
        for name, tensor in one.summary.tensors().items():
            torch.testing.assert_close(other.summary.tensors()[name], tensor, atol=1e-6, rtol=1e-5)
