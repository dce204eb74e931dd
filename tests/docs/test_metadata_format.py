"""What docs/metadata-format.md promises: its reader reads, its sizes are right, its rules are kept by ours."""

import json
import math
import re
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from dfkd_exp import AllLayers, DfkdError, InputSpec, LeNet5, read_release, write_release
from dfkd_exp.config.groups import PACKAGE, kinds
from dfkd_exp.manifest import seal
from dfkd_exp.metadata import (
    AllLayersDropout,
    BatchNormStatistics,
    Channels,
    Composed,
    Spatial,
    SpectralAllLayers,
    SpectralLayerPairs,
    TopLayer,
)
from dfkd_exp.metadata.auto import Auto
from dfkd_exp.metadata.choices import BASES, SCOPES
from dfkd_exp.metadata.covariance import Diagonal, Full, LowRank, unpack_symmetric
from dfkd_exp.metadata.forms import forms
from dfkd_exp.metadata.metadata import Metadata
from dfkd_exp.metadata.nothing import Nothing
from dfkd_exp.metadata.records import Records
from dfkd_exp.metadata.separable import Separable
from dfkd_exp.metadata.shared import Shared
from dfkd_exp.models.layers import Layer
from dfkd_exp.models.regions import Regions
from tests.toy import INPUTS, normalised_teacher, toy_images

TEXT = (Path(__file__).parents[2] / "docs" / "metadata-format.md").read_text()
CLASSES = [str(label) for label in range(10)]
CLASSES_OF_TOY = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A release with all three forms of covariance."""
    torch.manual_seed(0)
    teacher = LeNet5((1, 16, 16))
    kind = AllLayers(full_up_to=100, low_rank_up_to=120, rank=3)
    batches = [(torch.rand(60, 1, 16, 16), torch.arange(60) % 10)]
    metadata = kind.collect(teacher, batches, InputSpec((1, 16, 16), (0.0,), (1.0,)))
    assert {s.summary.form for s in metadata.statistics} == {"full", "low_rank", "diagonal"}
    architecture = {"kind": "ours", "name": "lenet5", "kwargs": {}}
    return write_release(tmp_path_factory.mktemp("r") / "r", teacher, metadata, architecture, CLASSES, 0.5).folder


@pytest.fixture
def reader():
    [block] = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    names = {}
    exec(block, names)
    return names


def dense(gaussian, row):
    """Its covariance [F, F] of one row."""
    if isinstance(gaussian, Full):
        return gaussian.matrix(row)
    if isinstance(gaussian, LowRank):
        return gaussian.factor[row] @ gaussian.factor[row].T + gaussian.variance[row].diag()
    if isinstance(gaussian, Separable):
        channels = unpack_symmetric(gaussian.channels[row], gaussian.num_channels)
        factor = gaussian.factor[row]
        return torch.kron(channels, factor @ factor.T + gaussian.variance[row].diag())
    assert isinstance(gaussian, Diagonal)
    return gaussian.variance[row].diag()


def check_gaussian(reader, header, tensors, weights, index, label, statistic, ours):
    """That the reader finds the Gaussian ``ours`` of a statistic."""
    row = label if statistic.scope == "class" else 0
    ours = ours.diagonal() if isinstance(ours, Shared) else ours
    mean, covariance = reader["gaussian"](header, tensors, weights, index, label)
    np.testing.assert_allclose(mean, ours.mean[row].numpy(), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(covariance, dense(ours, row).numpy(), rtol=1e-5, atol=1e-7)


def test_the_reader_reads_what_ours_reads(folder, reader):
    config, weights, header, tensors = reader["read_release"](folder)
    release = read_release(folder)
    assert config == release.config
    for name, value in release.teacher().state_dict().items():
        assert np.array_equal(weights[name], value.numpy())
    metadata = release.metadata()
    assert [layer["name"] for layer in header["layers"]] == metadata.layer_names
    for index, statistic in enumerate(metadata.statistics):
        check_gaussian(reader, header, tensors, weights, index, 3, statistic, statistic.summary)


def test_the_reader_reads_the_statistics_that_a_release_s_teacher_carries(reader, tmp_path):
    teacher = normalised_teacher()
    metadata = BatchNormStatistics().collect(teacher, [], INPUTS)
    architecture = {"kind": "mine", "name": "normalised", "kwargs": {}}
    folder = write_release(tmp_path / "r", teacher, metadata, architecture, ["a", "b", "c"], 0.5).folder
    _, weights, header, tensors = reader["read_release"](folder)
    assert (header["counts"], tensors) == (None, {})
    for index, module in enumerate((teacher[1], teacher[4])):
        mean, covariance = reader["gaussian"](header, tensors, weights, index, 2)
        assert np.array_equal(mean, module.running_mean.numpy())
        assert np.array_equal(covariance, np.diag(module.running_var.numpy()))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "metadata.safetensors"])
def test_the_reader_refuses_what_is_damaged(folder, reader, tmp_path, name):
    copy = shutil.copytree(folder, tmp_path / "copy")
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    with pytest.raises(ValueError, match=f"{name} is damaged|Expecting|Extra data|delimiter"):
        reader["read_release"](copy)


KINDS = {
    "spatial": lambda storage: Spatial(rank=3, storage=storage),
    "full": lambda storage: AllLayers(storage=storage),
    "low rank": lambda storage: AllLayers(covariance="low_rank", rank=2, storage=storage),
    "top": lambda storage: TopLayer(storage=storage),
    "dropout": lambda storage: AllLayersDropout(covariance="top_only", signal="after_relu", storage=storage),
    "channels": lambda storage: Channels(storage=storage),
    "regions": lambda storage: Channels(grid=3, storage=storage),
    "spectrum": lambda storage: Channels(pixels="spectrum", storage=storage),
    "styles": lambda storage: Channels(styles=1, storage=storage),
    "shared": lambda storage: Channels(class_rank=1, styles=1, storage=storage),
    "full channels of all": lambda storage: Channels(covariance="full", scope="all", storage=storage),
    "batch norm": lambda storage: BatchNormStatistics(storage=storage),
    "records": lambda storage: SpectralAllLayers(records_per_class=5, storage=storage),
    "pairs": lambda storage: SpectralLayerPairs(
        records_per_class=5, storage=storage, graph="coactivation", graph_rank=2
    ),
    "gaussian pairs": lambda storage: Composed(basis="layer_pairs", covariance="diagonal", storage=storage),
    "records of units": lambda storage: Composed(summary="records", records_per_class=5, storage=storage),
}
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
WRITTEN = [
    (kind, storage) for kind in KINDS for storage in BYTES if (kind, storage) != ("shared", "int8")
]  # which of three classes would be more bytes


@pytest.fixture(scope="module", params=WRITTEN, ids="-".join)
def path(request, tmp_path_factory):
    """A file of every kind of metadata, in every type of numbers."""
    kind, storage = request.param
    metadata = KINDS[kind](storage).collect(normalised_teacher(), [toy_images()], INPUTS)
    path = tmp_path_factory.mktemp("m") / "m.safetensors"
    metadata.save(path)
    return path


def header_of(path):
    with safe_open(str(path), "pt") as file:
        return json.loads(file.metadata()["dfkd"])


def test_no_kind_and_no_summary_is_left_out():
    of_something = {type(kind("fp32")) for kind in KINDS.values()}
    assert set(kinds("metadata").values()) == of_something | {Nothing, Auto}  # which is one of the others
    ours = {form for form, summary in forms().items() if summary.__module__.startswith("dfkd_exp.")}
    assert ours == set(FORMULAS)
    schema = json.loads((PACKAGE / "schemas" / "metadata-v4.schema.json").read_text())
    fields = schema["properties"]["statistics"]["items"]["properties"]
    assert ours == set(fields["summary"]["enum"])
    assert (set(fields["basis"]["enum"]), set(fields["scope"]["enum"])) == (set(BASES), set(SCOPES))


def test_metadata_of_nothing_is_a_file_without_statistics(tmp_path):
    teacher = normalised_teacher()
    metadata = Nothing().collect(teacher, [], INPUTS)
    metadata.save(tmp_path / "metadata.safetensors")
    read = Metadata.load(tmp_path / "metadata.safetensors")
    assert (read.statistics, read.num_bytes, [layer.shape for layer in read.layers]) == ([], 0, [(CLASSES_OF_TOY,)])
    resolved = read.resolved(teacher)
    assert resolved.logits is None
    assert resolved.group_labels(0, 4).tolist() == [0, 1, 2, 0], "all classes in turn, as nothing is said of any"


def test_the_reader_reads_every_summary(path, reader):
    ours = Metadata.load(path)
    if ours.storage == "bf16":
        return  # numpy has no bfloat16, as the text says
    teacher = normalised_teacher()
    weights = {name: value.numpy() for name, value in teacher.state_dict().items()}
    header, tensors = reader["read_metadata"](path)
    for index, statistic in enumerate(ours.statistics):
        summary = statistic.summary
        if isinstance(summary, Records):
            assert np.array_equal(reader["records"](header, tensors, index, 1), summary.dense()[1].numpy())
        else:
            found = (
                statistic.matchable(teacher, ours.layers).distribution
                if statistic.summary.origin == "teacher"
                else summary
            )
            check_gaussian(reader, header, tensors, weights, index, 1, statistic, found)
    for index, mean in enumerate(ours.graph.means if ours.graph else []):
        assert np.array_equal(reader["numbers"](tensors, f"graph.{index}.mean"), mean.numpy())


@pytest.mark.parametrize("scope", ["class", "all"])
@pytest.mark.parametrize("grid", [1, 2, 3])
def test_statistics_of_channels_are_of_what_the_reader_takes_for_a_channel_or_region(reader, tmp_path, scope, grid):
    teacher, (images, labels) = normalised_teacher(), toy_images()
    kind = Channels(covariance="full" if grid == 1 else "diagonal", grid=grid, scope=scope)
    kind.collect(teacher, [(images, labels)], INPUTS).save(tmp_path / "m.safetensors")
    header, tensors = reader["read_metadata"](tmp_path / "m.safetensors")
    with torch.no_grad():
        outputs = teacher[0](images if scope == "all" else images[labels == 1]).numpy()
    entry = header["statistics"][0]
    assert (entry["basis"], entry.get("grid", 1)) == ("channels" if grid == 1 else "regions", grid)
    values = reader["by_region"](header["layers"][0], outputs, grid).reshape(-1, 4 * grid**2)
    mean, covariance = reader["gaussian"](header, tensors, {}, 0, 1)
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-4, atol=1e-6)
    expected = np.cov(values.T) if grid == 1 else np.diag(values.var(0, ddof=1))
    np.testing.assert_allclose(covariance, expected, rtol=1e-4, atol=1e-7)


def test_a_spectrum_is_what_the_reader_takes_for_one(reader, tmp_path):
    images, labels = toy_images()
    Channels(pixels="spectrum").collect(normalised_teacher(), [(images, labels)], INPUTS).save(
        tmp_path / "m.safetensors"
    )
    header, tensors = reader["read_metadata"](tmp_path / "m.safetensors")
    assert (header["layers"][0]["name"], header["layers"][0]["side"]) == ("", "input")
    assert header["statistics"][0]["basis"] == "spectrum"
    values = reader["log_power"](header["layers"][0], images[labels == 1].numpy().astype(np.float64))
    mean, covariance = reader["gaussian"](header, tensors, {}, 0, 1)
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(np.diag(covariance), values.var(0, ddof=1), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("grid", [1, 2])
def test_styles_are_what_the_reader_takes_for_them(reader, tmp_path, grid):
    teacher, (images, labels) = normalised_teacher(), toy_images()
    Channels(styles=grid).collect(teacher, [(images, labels)], INPUTS).save(tmp_path / "m.safetensors")
    header, tensors = reader["read_metadata"](tmp_path / "m.safetensors")
    assert [(entry["layers"], entry["basis"]) for entry in header["statistics"]][:2] == [
        ([0], "channels"),
        ([0], "styles"),
    ]
    with torch.no_grad():
        outputs = teacher[0](images[labels == 1]).double().numpy()
    values = reader["styles"](header["layers"][0], outputs, header["statistics"][1]["grid"])
    mean, covariance = reader["gaussian"](header, tensors, {}, 1, 1)
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.diag(covariance), values.var(0, ddof=1), rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((5,), ("unit",)), ((3, 2, 4), ("channel", "height", "width")), ((6, 3), ("token", "feature"))],
)
def test_the_reader_finds_the_axis_of_channels(reader, shape, axes):
    values = torch.rand(2, *shape)
    for grid in (1, 2, 3, 4):
        found = torch.from_numpy(reader["by_region"]({"axes": list(axes)}, values.numpy(), grid))
        assert torch.equal(found, Regions(Layer("0", shape, axes), grid).gathered(values))


def test_headers_follow_the_schema(path):
    schema = json.loads((PACKAGE / "schemas" / "metadata-v4.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    header = header_of(path)
    validator.validate(header)
    first = header["statistics"][0]
    extra = {"records": "coefficients", "carried": "channels"}.get(first["summary"])
    for name in ("coefficients", "channels"):
        other = {key: value for key, value in first.items() if key != name}
        if name != extra:
            other[name] = 3
        assert not validator.is_valid({**header, "statistics": [other]}), name


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("channels", lambda h, layer, entry: h.update(version=2)),
        ("channels", lambda h, layer, entry: h.update(blocks=h.pop("statistics"))),
        ("channels", lambda h, layer, entry: h.update(more=1)),
        ("channels", lambda h, layer, entry: h.pop("num_classes")),
        ("channels", lambda h, layer, entry: h.update(counts=[])),
        ("channels", lambda h, layer, entry: h.update(counts=[40, 0, 40])),
        ("channels", lambda h, layer, entry: layer.update(side="left")),
        ("channels", lambda h, layer, entry: layer.update(axes=["row", "height", "width"])),
        ("channels", lambda h, layer, entry: layer.pop("axes")),
        ("channels", lambda h, layer, entry: entry.update(scope="some")),
        ("channels", lambda h, layer, entry: entry.update(origin="teacher")),
        ("channels", lambda h, layer, entry: entry.update(layers=[0, 1])),
        ("channels", lambda h, layer, entry: entry.update(summary="separable")),
        ("channels", lambda h, layer, entry: entry.update(summary="spherical")),
        ("channels", lambda h, layer, entry: entry.update(basis="graph")),
        ("channels", lambda h, layer, entry: entry.update(grid=2)),
        ("regions", lambda h, layer, entry: entry.pop("grid")),
        ("spectrum", lambda h, layer, entry: entry.update(layers=[0, 1])),
        ("spectrum", lambda h, layer, entry: entry.update(summary="full")),
        ("spectrum", lambda h, layer, entry: entry.update(grid=2)),
        ("spectrum", lambda h, layer, entry: layer.update(side="output")),
        ("styles", lambda h, layer, entry: h["statistics"][1].update(layers=[0, 1])),
        ("styles", lambda h, layer, entry: h["statistics"][1].update(summary="full")),
        ("styles", lambda h, layer, entry: h["statistics"][1].pop("grid")),
        ("regions", lambda h, layer, entry: entry.update(grid=1)),
        ("regions", lambda h, layer, entry: entry.update(layers=[0, 1])),
        ("regions", lambda h, layer, entry: entry.update(summary="full")),
        ("batch norm", lambda h, layer, entry: entry.update(origin="data")),
        ("batch norm", lambda h, layer, entry: entry.update(scope="class")),
        ("batch norm", lambda h, layer, entry: entry.update(basis="units")),
        ("batch norm", lambda h, layer, entry: entry.update(layers=[0, 1])),
        ("records", lambda h, layer, entry: entry.update(basis="channels")),
        ("records", lambda h, layer, entry: h["graph"].update(more=1)),
        ("spatial", lambda h, layer, entry: entry.update(layers=[0, 1])),
    ],
)
def test_the_schema_refuses_what_the_text_does(tmp_path, kind, change):
    schema = json.loads((PACKAGE / "schemas" / "metadata-v4.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    path = tmp_path / "m.safetensors"
    KINDS[kind]("fp32").collect(normalised_teacher(), [toy_images()], INPUTS).save(path)
    header = header_of(path)
    validator.validate(header)
    change(header, header["layers"][0], header["statistics"][0])
    assert not validator.is_valid(header)


FORMULAS = {
    form: [compile(count, form, "eval") for count in counts]
    for form, *counts in re.findall(r"^\| `(\w+)` \| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \|$", TEXT, re.MULTILINE)
}


def stated_bytes(form, storage, **values):
    numbers, rows, columns = (eval(formula, values) for formula in FORMULAS[form])
    each = BYTES[storage]
    if form == "records":
        each += 2 if values["F"] <= 2**16 else 4
    return each * numbers + (rows + columns if storage == "int8" else 0)


def test_sizes_follow_the_formulas(path):
    metadata = Metadata.load(path)
    total = 0
    for statistic in metadata.statistics:
        tensors = statistic.summary.tensors()
        values = {"R": CLASSES_OF_TOY if statistic.scope == "class" else 1, "F": statistic.summary.num_coefficients}
        if "factor" in tensors:
            values["r"] = tensors["factor"].shape[2]
        if "directions" in tensors:
            values["r"] = len(tensors["directions"])
        if "channels" in tensors:
            channels, *locations = metadata.layers[statistic.layers[0]].shape
            values |= {"C": channels, "L": math.prod(locations)}
        if "values" in tensors:
            values |= {"N": tensors["values"].shape[1], "k": tensors["values"].shape[2]}
        stated = stated_bytes(statistic.summary.form, metadata.storage, **values)
        assert metadata.bytes_of(statistic) == stated
        total += stated
    if metadata.graph and metadata.graph.means:
        units = sum(layer.num_units for layer in metadata.layers)
        total += CLASSES_OF_TOY * units * BYTES[metadata.storage]
        total += units + CLASSES_OF_TOY * len(metadata.layers) if metadata.storage == "int8" else 0
    assert metadata.num_bytes == total


def test_the_sizes_it_states_are_those_of_the_formulas():
    assert FORMULAS.keys() == {"diagonal", "shared", "full", "low_rank", "separable", "records", "carried"}
    maps, records = {"C": 6, "L": 784, "r": 32}, {"F": 6518, "N": 100, "k": 652}
    for form, values, stated in [
        ("diagonal", {"F": 128}, "10,240"), ("diagonal", {"F": 128, "R": 1}, "1,024"), ("full", {"F": 128}, "335,360"),
        ("diagonal", {"F": 4704}, "376,320"), ("low_rank", {"F": 4704, "r": 32}, "6,397,440"), ("full", {"F": 4704}, "442,834,560"),
        ("separable", {"F": 4704, **maps}, "1,223,880"), ("records", records, "3,912,000"),
        ("diagonal", {"F": 128, "R": 100}, "102,400"), ("shared", {"F": 128, "R": 100, "r": 16}, "23,808"),
    ]:  # fmt: skip
        assert f"{stated_bytes(form, 'fp32', **({'R': 10} | values)):,}" == stated
        assert re.search(rf"(?<![\d,]){stated}(?![\d,]*\d)", TEXT)
    assert f"{stated_bytes('records', 'int8', R=10, **records):,}" == "1,957,652"
    assert "1,957,652" in TEXT
    assert stated_bytes("carried", "fp32", R=1, F=64) == 0


SCHEMAS = ["release-config-v3", "metadata-v4", "manifest-v1", "result-v1"]


@pytest.mark.parametrize("name", SCHEMAS[:2])
def test_every_field_of_the_schemas_is_described(name):
    schema = json.loads((PACKAGE / "schemas" / f"{name}.schema.json").read_text())
    for field, rule in schema["properties"].items():
        inner = (
            rule.get("items", rule).get("properties", {})
            if field in ("layers", "statistics", "graph", "architecture")
            else {}
        )
        for path in (field, *inner):
            assert re.search(rf"`([a-z\[\]]+\.)?{path}(\.\w+)?`", TEXT), f"{name}: {path}"


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schemas_are_schemas_and_closed(name):
    schema = json.loads((PACKAGE / "schemas" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert schema["title"]


def test_a_manifest_may_not_name_files_outside_its_folder():
    schema = json.loads((PACKAGE / "schemas" / "manifest-v1.schema.json").read_text())
    entry = {"bytes": 1, "sha256": "0" * 64}
    for name, fine in [("a/b.json", True), ("..a", True), ("../a", False), ("a/../../b", False), ("/etc/a", False)]:
        manifest = {"format": "dfkd-manifest", "format_version": 1, "phase": "release", "files": {name: entry}}
        assert jsonschema.Draft202012Validator(schema).is_valid(manifest) == fine, name


def rewritten(folder, target, change_header=None, change_tensors=None):
    """A copy whose metadata is changed and whose manifest is right again."""
    copy = shutil.copytree(folder, target)
    path = copy / "metadata.safetensors"
    header, tensors = header_of(path), load_file(path)
    if change_header:
        change_header(header)
    if change_tensors:
        change_tensors(tensors)
    path.write_bytes(save(tensors, metadata={"dfkd": json.dumps(header)}))
    (copy / "README.md").unlink()
    (copy / "manifest.json").unlink()
    seal(copy, {"phase": "release"})
    return copy


def renumbered(tensors):
    """The last statistic's tensors as those of the first, and so on."""
    last = max(int(name.split(".")[1]) for name in tensors)
    for name in [*tensors]:
        _, index, own = name.split(".")
        tensors[f"{last - int(index)}.{own}"] = tensors.pop(name)
    for name in [*tensors]:
        tensors[f"statistics.{name}"] = tensors.pop(name)


@pytest.mark.parametrize(
    ("change_header", "change_tensors", "message"),
    [
        (lambda h: h.update(version=1), None, "schema version 1, this program reads 4"),
        (lambda h: h.update(version=3), None, "schema version 3, this program reads 4"),
        (lambda h: h.update(format="other"), None, "not a dfkd-metadata file"),
        (lambda h: h.pop("temperature"), None, "does not hold what"),
        (lambda h: h["inputs"].update(shape=[1, 1, 1, 1, 16]), None, "does not hold what"),
        (lambda h: h["inputs"].update(low=[-1.0]), None, "differ in classes or inputs"),
        (lambda h: h.update(counts=h["counts"][:-1]), None, "not of 10 classes"),
        (lambda h: h.update(counts=h["counts"][:-1], num_classes=9), None, "differ in classes or inputs"),
        (lambda h: h["layers"].pop(0), None, "does not hold what"),
        (lambda h: h["layers"][0].update(side="left"), None, "layers[0].side: 'left' is not one of"),
        (lambda h: h["layers"][0].update(shape=[5]), None, "with the axes"),
        (lambda h: h["layers"][0].update(shape=[5], axes=["unit"]), None, "which have 5 units"),
        (lambda h: h["statistics"].pop(), None, "do not cover the layers"),
        (lambda h: h["statistics"].reverse(), renumbered, "does not end with the last layer"),
        (lambda h: h["statistics"][0].update(layers=[0, 2]), None, "not consecutive"),
        (lambda h: h["statistics"][0].update(basis="graph"), None, "statistics[0].layers: [0] is too short"),
        (lambda h: h["statistics"][0].update(origin="teacher"), None, "statistics[0].origin: 'data' was expected"),
        (lambda h: h["statistics"][0].update(scope="all"), None, "not torch.float32"),
        (lambda h: h["statistics"][0].update(summary="spherical"), None, "does not hold what"),
        (lambda h: h.update(graph={"edges": "weights", "rank": None}), None, "a graph without a statistic"),
        (None, lambda t: t.pop("statistics.0.mean"), "does not hold what"),
        (None, lambda t: t.update({"statistics.9.mean": torch.zeros(1)}), "unknown tensor statistics.9.mean"),
        (None, lambda t: t.update({"other": torch.zeros(1)}), "unknown tensor other"),
        (None, lambda t: t.update({"statistics.0.mean": t["statistics.0.mean"].double()}), "torch.float64"),
        (None, lambda t: t["statistics.0.mean"].fill_(float("nan")), "NaN or infinite"),
        (None, lambda t: t["statistics.0.variance"].fill_(-1), "negative"),
    ],
)
def test_our_reader_checks_what_a_reader_must(folder, tmp_path, change_header, change_tensors, message):
    with pytest.raises(DfkdError, match=re.escape(message)) as error:
        read_release(rewritten(folder, tmp_path / "copy", change_header, change_tensors)).metadata()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [{"version": 2}, {"format": "other"}])
def test_the_reader_refuses_another_version_or_format(folder, reader, tmp_path, change):
    rewritten(folder, tmp_path / "copy", lambda header: header.update(change))
    with pytest.raises(ValueError, match="unknown version"):
        reader["read_release"](tmp_path / "copy")


def test_rewriting_alone_is_not_what_is_refused(folder, tmp_path):
    read_release(rewritten(folder, tmp_path / "copy")).metadata()


def test_a_summary_that_inherits_a_form_is_not_what_a_file_is_read_as():
    class Alike(Diagonal):
        pass

    assert Alike.form == Diagonal.form
    assert forms()[Diagonal.form] is Diagonal
