"""Metadata files that are not what they should be are refused in one line."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata import AllLayers, BatchNormStatistics, Channels, Spatial, SpectralAllLayers, SpectralLayerPairs
from dfkd_exp.metadata.metadata import Metadata
from tests.toy import INPUTS, normalised_teacher, toy_images, toy_teacher


@pytest.fixture
def file(tmp_path):
    AllLayers(covariance="top_only").collect(toy_teacher(), [toy_images()], INPUTS).save(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def rewrite(path, header=lambda h: h, tensors=lambda t: t):
    """The file with another header or other tensors."""
    with safe_open(str(path), framework="pt") as opened:
        text = json.loads(opened.metadata()["dfkd"])
    content = tensors(load_file(path))
    save_file(content, path, metadata={"dfkd": json.dumps(header(text))})


def without(name):
    return lambda mapping: {key: value for key, value in mapping.items() if key != name}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (lambda h: h | {"version": 3}, "schema version 3, this program reads 4; have it collected again"),
        (lambda h: h | {"version": 99}, "schema version 99, this program reads 4; update"),
        (lambda h: h | {"format": "pictures"}, "is not a dfkd-metadata file"),
        (lambda h: [h], "is not a dfkd-metadata file"),
        (without("layers"), "does not hold what"),
        (
            lambda h: (
                h | {"layers": [{**h["layers"][0], "axes": ["row"] * len(h["layers"][0]["shape"])}, *h["layers"][1:]]}
            ),
            r"layers\[0\].axes: .*does not contain",
        ),
        (without("temperature"), "does not hold what"),
        (lambda h: h | {"inputs": {**h["inputs"], "shape": [6, 6]}}, "does not hold what"),
        (
            lambda h: h | {"statistics": [{**x, "summary": "__import__('os')"} for x in h["statistics"]]},
            "does not hold what",
        ),
    ],
)
def test_a_header_that_is_not_as_promised_is_refused(file, header, message):
    rewrite(file, header)
    with pytest.raises(DfkdError, match=message):
        Metadata.load(file)


@pytest.mark.parametrize(
    "tensors",
    [without("statistics.1.mean"), lambda t: t | {"statistics.1.more": torch.zeros(3)}],
    ids=["missing", "extra"],
)
def test_statistics_that_are_missing_or_unknown_are_refused(file, tensors):
    rewrite(file, tensors=tensors)
    with pytest.raises(DfkdError, match="does not hold what"):
        Metadata.load(file)


def test_statistics_that_are_not_numbers_are_refused_by_name(file):
    rewrite(file, tensors=lambda t: t | {"statistics.1.variance": t["statistics.1.variance"] / 0})
    with pytest.raises(DfkdError, match=r"m.safetensors: the variance of layer 3 holds NaN or infinite"):
        Metadata.load(file)


KINDS = {
    "spatial": Spatial(rank=2),
    "pairs": SpectralLayerPairs(records_per_class=5, graph="coactivation"),
    "chain": SpectralAllLayers(records_per_class=5, storage="int8"),
    "leading": SpectralAllLayers(records_per_class=5, graph_rank=4),
}


def changed(name, change):
    """A function of a file's tensors that changes one of them."""
    return lambda tensors: tensors | {name: change(tensors[name])}


def in_block(index, **changes):
    """A function of a header that changes one of its statistics."""
    return lambda h: h | {"statistics": [b | changes if i == index else b for i, b in enumerate(h["statistics"])]}


def same(content):
    return content


@pytest.mark.parametrize(
    ("kind", "header", "tensors", "message"),
    [
        ("pairs", same, changed("statistics.0.indices", lambda t: t.int().fill_(72).to(torch.uint16)), "indices from 72 to 72 of 72"),
        ("pairs", same, changed("statistics.0.indices", lambda t: t.int().flip(2).to(torch.uint16)), "not ascending"),
        ("pairs", same, changed("statistics.0.indices", lambda t: t.int()), r"not torch.uint16 \[3, 5, 7\]"),
        ("pairs", same, changed("statistics.0.indices", lambda t: t[:, :, 1:].contiguous()), "the indices of layers 0 to 3 is"),
        ("pairs", same, changed("statistics.0.values", lambda t: t[0]), "not enough values to unpack"),
        ("pairs", same, lambda t: {n: x[:, :, :0] if n.startswith("statistics.0") else x for n, x in t.items()}, "without a value"),
        ("pairs", same, changed("statistics.1.values", lambda t: t.half()), "the values of layers 3 to 5 is torch.float16"),
        ("pairs", same, changed("statistics.1.values", lambda t: t / 0), "the values of layers 3 to 5 holds NaN or infinite"),
        ("pairs", same, without("statistics.0.indices"), "does not hold what"),
        ("pairs", in_block(0, coefficients=71), same, "71 coefficients of layers 0 to 3, which have 72 units"),
        ("pairs", in_block(0, coefficients="72"), same, "does not hold what"),
        ("pairs", in_block(0, basis="wavelets"), same, r"statistics\[0\].basis: 'wavelets' is not one of"),
        ("pairs", in_block(0, layers=[0, 2]), same, r"layers \[0, 2\], which are not consecutive"),
        ("pairs", in_block(0, layers=[1, 2]), same, "do not cover the layers"),
        ("pairs", in_block(1, layers=[0, 1]), same, "do not cover the layers"),
        ("pairs", lambda h: h | {"statistics": h["statistics"][::-1]}, same, "does not end with the last layer"),
        ("pairs", lambda h: h | {"graph": None}, same, "without its graph"),
        ("pairs", without("graph"), same, "does not hold what"),
        ("pairs", lambda h: h | {"graph": {"edges": "friends", "rank": None}}, same, "graph.edges: 'friends' is not one of"),
        ("pairs", lambda h: h | {"graph": {"edges": "coactivation", "rank": 0}}, same, "graph.rank: 0 is less than the minimum"),
        ("pairs", lambda h: h | {"graph": {"edges": "weights", "rank": None}}, same, "unknown tensor graph.0.mean"),
        ("pairs", same, without("graph.1.mean"), "graph.1.mean"),
        ("pairs", same, changed("graph.1.mean", lambda t: t[:, 1:].contiguous()), r"graph.1.mean is torch.float32 \[3, 7\]"),
        ("pairs", same, changed("graph.1.mean", lambda t: t / 0), "of the graph holds NaN or infinite"),
        ("pairs", lambda h: h | {"signal": "after_sigmoid"}, same, "signal: 'after_sigmoid' is not one of"),
        ("pairs", lambda h: h | {"storage": "int4"}, same, "storage: 'int4' is not one of"),
        ("pairs", lambda h: h | {"storage": "int8"}, same, "does not hold what"),
        ("pairs", lambda h: h | {"counts": [40, 0, 40]}, same, r"counts\[1\]: 0 is less than the minimum"),
        ("pairs", lambda h: h | {"temperature": 0}, same, "temperature: 0 is less than the minimum"),
        ("pairs", lambda h: h | {"dropout_masks": "no"}, same, "dropout_masks: 'no' is not of type 'boolean'"),
        ("leading", lambda h: h | {"graph": {"edges": "weights", "rank": 2}}, same, "8 coefficients of .* at a rank of 2"),
        ("chain", same, without("statistics.0.values.row_exponents"), "statistics.0.values.row_exponents"),
        ("chain", same, changed("statistics.0.values.row_exponents", lambda t: t[:, :1].contiguous()), "not of its shape"),
        ("chain", same, changed("statistics.0.values.column_exponents", lambda t: t[:-1].contiguous()), "not of its shape"),
        ("chain", same, changed("statistics.0.values.column_exponents", lambda t: t - 128), "holds -128"),
        ("chain", same, lambda t: t | {n: v * 0 + 127 for n, v in t.items() if "exponents" in n}, "NaN or infinite"),
        ("chain", same, changed("statistics.0.values", lambda t: t.float()), r"not torch.int8"),
        ("spatial", same, changed("statistics.0.channels", lambda t: t[:, :6].contiguous()), "3 channels of layer 0, which has 4"),
        ("spatial", same, changed("statistics.0.channels", lambda t: t[:, :0].contiguous()), "0 channels of layer 0"),
        ("spatial", same, changed("statistics.0.factor", lambda t: t[:, 1:].contiguous()), r"the factor of layer 0 is"),
        ("spatial", same, changed("statistics.0.factor", lambda t: t[0].contiguous()), "does not hold what"),
        ("spatial", same, changed("statistics.0.variance", lambda t: t - 9), "the variance of layer 0 is negative"),
        ("spatial", same, changed("statistics.0.mean", lambda t: t[0]), "the mean of layer 0 is"),
        ("spatial", in_block(0, basis="graph"), same, r"statistics\[0\].layers: \[0\] is too short"),
        ("spatial", lambda h: h | {"graph": {"edges": "weights", "rank": None}}, same, "a graph without a statistic"),
    ],
)  # fmt: skip
def test_damaged_files_of_every_kind_are_refused_in_one_line(tmp_path, kind, header, tensors, message):
    path = tmp_path / "m.safetensors"
    KINDS[kind].collect(toy_teacher(), [toy_images()], INPUTS).save(path)
    Metadata.load(path)
    rewrite(path, header, tensors)
    with pytest.raises(DfkdError, match=message) as error:
        Metadata.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_a_file_that_is_missing_or_something_else_is_refused(tmp_path, content):
    path = tmp_path / "m.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DfkdError, match="cannot be read as metadata"):
        Metadata.load(path)


def test_an_unmarked_safetensors_file_is_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "m.safetensors")
    with pytest.raises(DfkdError, match="is not a dfkd-metadata file"):
        Metadata.load(tmp_path / "m.safetensors")


def test_the_same_metadata_is_the_same_bytes(file, tmp_path):
    Metadata.load(file).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


CHANNELS = {
    "channels": Channels(),
    "regions": Channels(grid=2),
    "all": Channels(scope="all"),
    "carried": BatchNormStatistics(),
}


@pytest.mark.parametrize(
    ("kind", "header", "tensors", "message"),
    [
        ("channels", in_block(0, basis="units"), same, "4 coefficients of layer 0, which have 64 units"),
        ("channels", in_block(0, scope="all"), same, r"the mean of layer 0 is torch.float32 \[3, 4\], not torch.float32 \[1, 4\]"),
        ("channels", in_block(0, scope="some"), same, r"statistics\[0\].scope: 'some' is not one of"),
        ("channels", in_block(0, origin="teacher"), same, r"statistics\[0\].origin: 'data' was expected"),
        ("channels", in_block(0, more=1), same, r"statistics\[0\]: Additional properties are not allowed"),
        ("channels", lambda h: h | {"counts": [40, 40]}, same, "not of 3 classes"),
        ("channels", lambda h: h | {"num_classes": 0}, same, "num_classes: 0 is less than the minimum"),
        ("channels", lambda h: h | {"layers": [{**h["layers"][0], "axes": ["channel"]}, *h["layers"][1:]]}, same, "with the axes"),
        ("channels", lambda h: h["layers"][0].update(side="left") or h, same, r"layers\[0\].side: 'left' is not one of"),
        ("regions", in_block(0, grid=3), same, "16 coefficients of layer 0, which have 36 regions"),
        ("regions", in_block(0, grid=1), same, r"statistics\[0\].grid: 1 is less than the minimum"),
        ("regions", in_block(0, grid=10**15), same, "16 coefficients of layer 0, which have 64 regions"),
        ("regions", in_block(0, basis="channels"), same, "does not hold what"),
        ("channels", in_block(0, basis="regions"), same, "does not hold what"),
        ("channels", in_block(0, grid=2), same, "does not hold what"),
        ("all", in_block(0, scope="class"), same, r"is torch.float32 \[1, 4\], not torch.float32 \[3, 4\]"),
        ("carried", in_block(0, channels=5), same, "5 coefficients of .*, which have 4 channels"),
        ("carried", same, lambda t: {"statistics.0.mean": torch.zeros(1, 4)}, "does not hold what"),
        ("carried", in_block(0, summary="diagonal"), same, "does not hold what"),
    ],
)  # fmt: skip
def test_damaged_statistics_of_channels_are_refused_in_one_line(tmp_path, kind, header, tensors, message):
    path = tmp_path / "m.safetensors"
    teacher = normalised_teacher() if kind == "carried" else toy_teacher()
    CHANNELS[kind].collect(teacher, [toy_images()], INPUTS).save(path)
    Metadata.load(path)
    rewrite(path, header, tensors)
    with pytest.raises(DfkdError, match=message) as error:
        Metadata.load(path)
    assert "\n" not in str(error.value)


def test_a_teacher_without_the_named_batch_norm_is_refused_in_one_line():
    metadata, without = BatchNormStatistics().collect(normalised_teacher(), [], INPUTS), normalised_teacher()
    without[1] = torch.nn.Identity()
    with pytest.raises(DfkdError, match=r"has no BatchNorm layer '1' of 4 channels.*same release"):
        metadata.resolved(without)


def test_a_teacher_without_any_batch_norm_is_refused_with_the_way_out():
    with pytest.raises(DfkdError, match=r"metadata=batch_norm: the teacher has no BatchNorm.*choose metadata=channels"):
        BatchNormStatistics().collect(toy_teacher(), [], INPUTS)
