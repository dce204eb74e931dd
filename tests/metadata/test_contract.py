"""What every kind of metadata must do; a kind is tested from the moment it is registered."""

import hashlib
from dataclasses import replace
from operator import attrgetter

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dfkd_exp.config.groups import kinds
from dfkd_exp.errors import DfkdError
from dfkd_exp.evaluation.attacks import attack, metadata_scores
from dfkd_exp.metadata import AllLayers, BatchNormStatistics, Channels, Composed, Spatial, SpectralLayerPairs, TopLayer
from dfkd_exp.metadata.card import what_it_holds, what_it_may_reveal
from dfkd_exp.metadata.nothing import Nothing
from dfkd_exp.models.recording import frozen, weights_digest
from dfkd_exp.reconstruction.loop import reconstruct
from tests.toy import CLASSES, INPUTS, normalised_teacher, toy_images, toy_teacher

OPTIONS = {
    "covariance": ("full", "low_rank", "diagonal", "top_only"),
    "storage": ("fp16", "bf16", "int8"),
    "signal": ("after_relu",),
    "graph": ("coactivation",),
    "scope": ("all",),
}
STORED = ("all_layers", "spatial", "spectral_layer_pairs", "channels", "batch_norm", "composed")
"""Kinds of every form of summary, which storage is tried with; others have the same forms."""
FEW = {"rank": 4, "records_per_class": 7}
SCHEMAS = kinds("metadata")
KINDS = {name: schema() for name, schema in SCHEMAS.items()}
for name, schema in SCHEMAS.items():
    few = {field: value for field, value in FEW.items() if field in schema.__dataclass_fields__}
    KINDS |= {
        f"{name}-{value}": schema(**few, **{option: value})
        for option, values in OPTIONS.items()
        for value in values
        if option in schema.__dataclass_fields__
        and not (option == "storage" and name not in STORED)
        and not (schema is Composed and option == "graph")
        and not (schema is BatchNormStatistics and option != "storage")
    }
KINDS |= {
    "pairs-gaussian": Composed(basis="layer_pairs", covariance="diagonal"),
    "chain-gaussian": Composed(basis="all_layers", covariance="low_rank", rank=4),
    "units-records": Composed(summary="records", fraction=0.5, records_per_class=7),
    "leading": SpectralLayerPairs(graph_rank=5, fraction=0.5),
    "channels-composed": Composed(basis="channels", covariance="full"),
    "regions": Channels(grid=3),
    "spectrum": Channels(pixels="spectrum"),
    "spectrum-all": Channels(pixels="spectrum", scope="all", storage="int8"),
    "spectrum-spatial": Spatial(rank=4, pixels="spectrum"),
    "pixels-spatial": Spatial(rank=4, pixels="moments"),
    "spectrum-top": TopLayer(pixels="spectrum"),
    "styles-grid": Channels(styles=2, grid=2, pixels="moments", storage="fp16"),
    "styles": Channels(styles=1, scope="all", pixels="moments"),
    "shared": Channels(class_rank=1, styles=1, pixels="moments"),
    "shared-fp16": AllLayers(covariance="diagonal", class_rank=1, storage="fp16"),
    "pixels": AllLayers(pixels="moments"),
    "pixels-rectified": Channels(pixels="moments", grid=2, signal="after_relu"),
    "regions-all-int8": Channels(grid=2, scope="all", storage="int8"),
}


drawable = attrgetter("drawable")


@pytest.fixture(params=KINDS, name="kind")
def every_kind(request):
    return KINDS[request.param]


@pytest.fixture(params=[name for name, kind in KINDS.items() if kind.needs_images], name="collected_kind")
def every_kind_that_is_collected(request):
    return KINDS[request.param]


def teacher_for(kind, seed=0):
    """The toy, or where a kind asks for BatchNorm the toy with two of them."""
    return toy_teacher(seed) if kind.needs_images else normalised_teacher(seed)


WHOLE = {}
"""What `collect` has made of the toy's images and teacher: the basis of a graph takes a while."""


def collect(kind, *parts, teacher=None):
    """Metadata from batches, in one pass."""
    if parts or teacher:
        return kind.collect(teacher or teacher_for(kind), parts or [toy_images()], INPUTS)
    if repr(kind) not in WHOLE:
        WHOLE[repr(kind)] = kind.collect(teacher_for(kind), [toy_images()], INPUTS)
    return WHOLE[repr(kind)]


def written(metadata, path):
    metadata.save(path)
    return load_file(path)


def assert_same(one, two):
    assert one.keys() == two.keys()
    one, two = (
        {n: t @ t.mT if n.endswith(".factor") and t.dtype == torch.float32 else t for n, t in x.items()}
        for x in (one, two)
    )  # the vectors of close singular values may turn, what they span may not
    for name in one:
        # A number may be rounded to the next one of its type; a whole number is exact, but for int8's.
        rough = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(one[name].dtype, 1e-4)
        steps = 1 if one[name].dtype == torch.int8 else 1e-5
        torch.testing.assert_close(
            one[name], two[name], rtol=rough, atol=steps, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_batches_of_any_size_give_what_one_batch_gives(kind, tmp_path):
    images, labels = toy_images()
    sizes = [1, 1, 7, 7, 40]
    sizes.append(len(labels) - sum(sizes))
    parts = zip(images.split(sizes), labels.split(sizes), strict=True)
    whole = written(collect(kind, (images, labels)), tmp_path / "whole")
    assert_same(written(collect(kind, *parts), tmp_path / "parts"), whole)


def test_two_halves_merged_are_the_whole(kind, tmp_path):
    images, labels = toy_images()
    teacher = teacher_for(kind)
    halves = [kind.collector(teacher, INPUTS) for _ in range(2)]
    # The first half has no image of the last class, which must not disturb the sums.
    first = (torch.arange(len(labels)) < 50) & (labels != CLASSES - 1)
    for half, rows in zip(halves, (first, ~first), strict=True):
        half.update(images[rows], labels[rows])
    halves[0].merge(halves[1])
    assert_same(written(halves[0].finish(), tmp_path / "merged"), written(collect(kind), tmp_path / "whole"))


def test_collections_of_two_teachers_do_not_merge(kind):
    with pytest.raises(DfkdError, match="one teacher"):
        kind.collector(teacher_for(kind, 0), INPUTS).merge(kind.collector(teacher_for(kind, 1), INPUTS))


def test_it_reads_back_as_it_was_written(kind, tmp_path):
    metadata = collect(kind)
    metadata.save(tmp_path / "one")
    again = type(metadata).load(tmp_path / "one")
    again.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert again.counts == metadata.counts == ([40] * CLASSES if kind.needs_images else None)
    assert again.num_classes == CLASSES
    assert again.kind["name"] == type(kind.suited_to(teacher_for(kind), INPUTS)).__name__
    assert (again.inputs, again.layers) == (INPUTS, metadata.layers)
    again.check_teacher(teacher_for(kind))


def test_it_says_its_exact_size(kind, tmp_path):
    metadata = collect(kind)
    metadata.save(tmp_path / "file")
    header = int.from_bytes((tmp_path / "file").read_bytes()[:8], "little")
    assert (tmp_path / "file").stat().st_size == 8 + header + metadata.num_bytes


def test_draws_depend_on_class_and_generator_alone(kind):
    metadata = collect(kind).resolved(teacher_for(kind))

    def draw(statistic, label, seed):
        return statistic.sample(torch.tensor([label] * 5), torch.Generator().manual_seed(seed))

    for statistic in filter(drawable, metadata.statistics):
        assert [tuple(d.shape) for d in draw(statistic, 0, 1)] == [(5, layer.num_units) for layer in statistic.recorded]
        first, again, other_seed, other_class = (
            torch.cat(draw(statistic, *args), 1) for args in ((0, 1), (0, 1), (0, 2), (1, 1))
        )
        assert torch.equal(first, again)
        assert not torch.allclose(first, other_seed)
        assert torch.equal(first, other_class) == (statistic.scope == "all")


def test_a_group_of_several_classes_has_the_moments_of_their_mixture(kind):
    """Those of as many draws of each; of one class alone, the class's own."""
    metadata = collect(kind).resolved(teacher_for(kind))
    labels = torch.arange(6_000) % CLASSES
    for statistic in filter(drawable, metadata.statistics):
        draws = statistic.sample(labels, torch.Generator().manual_seed(0))
        for layer, own, (mean, std) in zip(statistic.recorded, draws, statistic.moments(labels), strict=True):
            view, units = statistic.view, own.view(-1, *layer.shape)
            values = view.gathered(units).flatten(0, 1) if view else own
            scale = values.std(0).max().clamp_min(1e-6)  # of a layer whose coefficients were not kept it is zero
            torch.testing.assert_close(values.mean(0) / scale, mean / scale, atol=0.1, rtol=0.02)
            torch.testing.assert_close(values.std(0) / scale, std / scale, atol=0.15, rtol=0.08)


@pytest.mark.parametrize("match", ["moments", "sample"])
def test_images_can_be_made_to_match_it(kind, match):
    teacher = teacher_for(kind, seed=4)
    if kind.dropout_masks and match == "sample":
        return  # the toy has no dropout: tests/reconstruction/test_masks.py
    if match == "sample" and not kind.drawable:
        with pytest.raises(DfkdError, match=r"none follow from a spectrum .*; choose reconstruction=moments"):
            reconstruct(teacher, collect(kind, teacher=teacher), 8, match, steps=10, group_size=8)
        return
    images = reconstruct(teacher, collect(kind, teacher=teacher), 8, match, steps=10, group_size=8)
    assert images.losses[-1].mean() < images.losses[0].mean()
    assert images.inputs.isfinite().all()


def test_an_image_that_it_is_of_fits_better_than_noise(kind):
    """The attack's scores, whatever the kind."""
    if isinstance(kind, Nothing):
        pytest.skip("nothing is of no image")
    teacher = frozen(teacher_for(kind))
    metadata, (images, labels) = collect(kind, teacher=teacher).resolved(teacher), toy_images()
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) * 3 - 1
    inside, outside = (metadata_scores(metadata, teacher, shown, labels) for shown in (images, noise))
    assert inside.isfinite().all()
    assert attack(inside, outside).auc > 0.9


def test_two_processes_collect_what_one_does(kind, tmp_path):
    """Through the state that one sends to the other."""
    (images, labels), teacher = toy_images(), teacher_for(kind)
    first, second = (kind.collector(teacher, INPUTS) for _ in range(2))
    first.update(images[:50], labels[:50])
    second.update(images[50:], labels[50:])
    first.merge_state({name: tensor.clone() for name, tensor in second.state().items()})
    assert_same(written(first.finish(), tmp_path / "merged"), written(collect(kind), tmp_path / "whole"))


def test_its_card_says_what_it_holds(kind):
    metadata = collect(kind)
    table = what_it_holds(metadata)
    if isinstance(kind, Nothing):
        assert table == "Nothing: no statistics are published beside the network."
        return
    assert table.count("\n| ") == 1 + len(metadata.statistics)
    assert f"{metadata.bytes_of(metadata.statistics[-1]):,}" in table
    assert "weights of the network" in what_it_may_reveal(metadata)


def test_a_class_without_images_is_refused(collected_kind):
    kind = collected_kind
    images, labels = toy_images()
    with pytest.raises(DfkdError, match="class 1 has no images"):
        collect(kind, (images[labels != 1], labels[labels != 1]))


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_that_is_no_class_of_the_teacher_is_refused(kind, label):
    images, labels = toy_images()
    labels[3] = label
    with pytest.raises(DfkdError, match=f"labels must be 0 to 2.*got {label}"):
        kind.collector(teacher_for(kind), INPUTS).update(images, labels)


def test_statistics_that_are_not_numbers_are_refused(collected_kind):
    kind = collected_kind
    images, labels = toy_images()
    images[5] = float("nan")
    with pytest.raises(DfkdError, match="NaN or infinite"):
        collect(kind, (images, labels))


def test_it_belongs_to_one_teacher(kind):
    metadata, other = collect(kind), teacher_for(kind)
    with torch.no_grad():
        other[-1].bias[0] += 1e-6
    with pytest.raises(DfkdError, match="belongs to another teacher"):
        metadata.check_teacher(other)


def test_layers_that_are_not_the_teachers_are_refused(kind):
    metadata, teacher = collect(kind), teacher_for(kind)
    metadata.check_layers(teacher)
    *hidden, last = metadata.layers
    wrong = [[*hidden, replace(last, shape=(2,))]]
    if hidden:
        first, *others = hidden
        wrong += [[replace(first, name=last.name), *others, last], [first, last, *others], [*others, first, last]]
    for layers in wrong:
        if layers != metadata.layers:
            with pytest.raises(DfkdError, match=r"this metadata's layer"):
                replace(metadata, layers=layers).resolved(teacher)


def test_a_truncated_file_is_refused(kind, tmp_path):
    metadata = collect(kind)
    metadata.save(tmp_path / "file")
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:-4])
    with pytest.raises(DfkdError, match=r"file cannot be read as metadata"):
        type(metadata).load(tmp_path / "file")


def test_the_teacher_is_left_as_it_was(kind):
    teacher = teacher_for(kind)
    before = weights_digest(teacher)
    collect(kind, teacher=teacher)
    assert weights_digest(teacher) == before
    assert sum(len(module._forward_hooks) for module in teacher.modules()) == 0


def test_dropout_is_off_while_it_is_collected(collected_kind, tmp_path):
    kind = collected_kind
    layers = [nn.Linear(36, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, CLASSES)]
    teacher = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), *layers).train()
    first, second = (written(collect(kind, teacher=teacher), tmp_path / str(i)) for i in range(2))
    digests = {
        hashlib.sha256(b"".join(t.contiguous().view(torch.uint8).numpy().tobytes() for t in x.values())).hexdigest()
        for x in (first, second)
    }
    assert len(digests) == 1


def test_a_graph_without_leading_frequencies_is_refused():
    teacher = toy_teacher()
    nn.init.zeros_(teacher[-1].weight)
    with pytest.raises(DfkdError, match=r"no two units of 3 to 5 are joined.*graph_rank"):
        collect(SpectralLayerPairs(layers=["3", "5"], graph_rank=2), teacher=teacher)
