"""What docs/metadata-format.md promises: its reader reads, its sizes are right, its rules are kept by ours."""

import json
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
from dfkd_exp.config import PACKAGE
from dfkd_exp.metadata import Composed, Spatial, SpectralAllLayers, SpectralLayerPairs
from dfkd_exp.metadata.covariance import Diagonal, Full, LowRank, unpack_symmetric
from dfkd_exp.metadata.metadata import Metadata
from dfkd_exp.metadata.records import Records
from dfkd_exp.metadata.separable import Separable
from dfkd_exp.store import seal
from tests.toy import INPUTS, toy_images, toy_teacher

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
    assert {s.form for s in metadata.statistics} == {"full", "low_rank", "diagonal"}
    architecture = {"kind": "ours", "name": "lenet5", "kwargs": {}}
    return write_release(tmp_path_factory.mktemp("r") / "r", teacher, metadata, architecture, CLASSES, 0.5).folder


@pytest.fixture
def reader():
    [block] = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    names = {}
    exec(block, names)
    return names


def dense(statistics, label):
    if isinstance(statistics, Full):
        return statistics.matrix(label)
    if isinstance(statistics, LowRank):
        return statistics.factor[label] @ statistics.factor[label].T + statistics.variance[label].diag()
    if isinstance(statistics, Separable):
        channels = unpack_symmetric(statistics.channels[label], statistics.num_channels)
        factor = statistics.factor[label]
        return torch.kron(channels, factor @ factor.T + statistics.variance[label].diag())
    assert isinstance(statistics, Diagonal)
    return statistics.variance[label].diag()


def test_the_reader_reads_what_ours_reads(folder, reader):
    config, weights, header, tensors = reader["read_release"](folder)
    release = read_release(folder)
    assert config == release.config
    for name, value in release.teacher().state_dict().items():
        assert np.array_equal(weights[name], value.numpy())
    metadata = release.metadata()
    assert [layer["name"] for layer in header["layers"]] == metadata.layer_names
    for index, statistics in enumerate(metadata.statistics):
        mean, covariance = reader["gaussian"](header, tensors, index, 3)
        assert np.array_equal(mean, statistics.mean[3].numpy())
        np.testing.assert_allclose(covariance, dense(statistics, 3).numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "metadata.safetensors"])
def test_the_reader_refuses_what_is_damaged(folder, reader, tmp_path, name):
    copy = shutil.copytree(folder, tmp_path / "copy")
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    with pytest.raises(ValueError, match=f"{name} is damaged|Expecting|Extra data|delimiter"):
        reader["read_release"](copy)


KINDS = {
    "spatial": lambda storage: Spatial(rank=3, storage=storage),
    "low rank": lambda storage: AllLayers(covariance="low_rank", rank=2, storage=storage),
    "records": lambda storage: SpectralAllLayers(records_per_class=5, storage=storage),
    "pairs": lambda storage: SpectralLayerPairs(
        records_per_class=5, storage=storage, graph="coactivation", graph_rank=2
    ),
    "gaussian pairs": lambda storage: Composed(basis="layer_pairs", covariance="diagonal", storage=storage),
    "records of units": lambda storage: Composed(summary="records", records_per_class=5, storage=storage),
}


@pytest.fixture(
    params=[(kind, storage) for kind in KINDS for storage in ("fp32", "fp16", "bf16", "int8")], ids="-".join
)
def path(request, tmp_path):
    """A file of every summary, in every type of numbers."""
    kind, storage = request.param
    metadata = KINDS[kind](storage).collect(toy_teacher(), [toy_images()], INPUTS)
    metadata.save(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def header_of(path):
    with safe_open(str(path), "pt") as file:
        return json.loads(file.metadata()["dfkd"])


def test_the_reader_reads_every_summary(path, reader):
    ours = Metadata.load(path)
    if ours.storage == "bf16":
        return  # numpy has no bfloat16, as the text says
    header, tensors = reader["read_metadata"](path)
    for index, block in enumerate(ours.blocks):
        if isinstance(block.summary, Records):
            assert np.array_equal(reader["records"](header, tensors, index, 1), block.summary.dense()[1].numpy())
        else:
            mean, covariance = reader["gaussian"](header, tensors, index, 1)
            assert np.array_equal(mean, block.summary.mean[1].numpy())
            np.testing.assert_allclose(covariance, dense(block.summary, 1).numpy(), rtol=1e-5, atol=1e-7)
    for index, mean in enumerate(ours.graph.means if ours.graph else []):
        assert np.array_equal(reader["numbers"](tensors, f"graph.{index}.mean"), mean.numpy())


def test_headers_follow_the_schema(path):
    schema = json.loads((PACKAGE / "schemas" / "metadata-v2.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    header = header_of(path)
    validator.validate(header)
    if any(block["summary"] == "records" for block in header["blocks"]):
        del header["blocks"][0]["num_coefficients"]
    else:
        header["blocks"][0]["num_coefficients"] = 3
    assert not validator.is_valid(header)


FORMULAS = {
    form: (compile(numbers, form, "eval"), compile(rows, form, "eval"))
    for form, numbers, rows in re.findall(r"^\| `(\w+)` \| `([^`]+)` \| `([^`]+)` \|$", TEXT, re.MULTILINE)
}


def stated_bytes(form, storage, **values):
    numbers, rows = (eval(formula, values) for formula in FORMULAS[form])
    each = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}[storage]
    if form == "records":
        each += 2 if values["F"] <= 2**16 else 4
    return each * numbers + (4 * rows if storage == "int8" else 0)


def test_sizes_follow_the_formulas(path):
    metadata = Metadata.load(path)
    total = 0
    for block in metadata.blocks:
        tensors = block.summary.tensors()
        values = {"K": CLASSES_OF_TOY, "F": metadata.units_of(block)}
        if "factor" in tensors:
            values["R"] = tensors["factor"].shape[2]
        if "channels" in tensors:
            values |= {"C": 4, "L": 16}
        if "values" in tensors:
            values |= {"N": tensors["values"].shape[1], "k": tensors["values"].shape[2]}
        total += stated_bytes(block.summary.form, metadata.storage, **values)
    if metadata.graph and metadata.graph.means:
        each = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}[metadata.storage]
        total += CLASSES_OF_TOY * (64 + 8 + 3) * each + (4 * CLASSES_OF_TOY * 3 if metadata.storage == "int8" else 0)
    assert metadata.num_bytes == total


def test_the_sizes_it_states_are_those_of_the_formulas():
    assert FORMULAS.keys() == {"diagonal", "full", "low_rank", "separable", "records"}
    maps, records = {"C": 6, "L": 784, "R": 32}, {"F": 6518, "N": 100, "k": 652}
    for form, values, stated in [
        ("diagonal", {"F": 128}, "10,240"), ("full", {"F": 128}, "335,360"), ("diagonal", {"F": 4704}, "376,320"),
        ("low_rank", {"F": 4704, "R": 32}, "6,397,440"), ("full", {"F": 4704}, "442,834,560"),
        ("separable", {"F": 4704, **maps}, "1,223,880"), ("records", records, "3,912,000"),
    ]:  # fmt: skip
        assert f"{stated_bytes(form, 'fp32', K=10, **values):,}" == stated
        assert stated in TEXT
    assert f"{stated_bytes('records', 'int8', K=10, **records):,}" == "1,960,000"
    assert "1,960,000" in TEXT


SCHEMAS = ["release-config-v2", "metadata-v2", "manifest-v1", "result-v1"]


@pytest.mark.parametrize("name", SCHEMAS[:2])
def test_every_field_of_the_schemas_is_described(name):
    schema = json.loads((PACKAGE / "schemas" / f"{name}.schema.json").read_text())
    for field, rule in schema["properties"].items():
        inner = (
            rule.get("items", rule).get("properties", {})
            if field in ("layers", "blocks", "graph", "architecture")
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
    return read_release(copy)


@pytest.mark.parametrize(
    ("change_header", "change_tensors", "message"),
    [
        (lambda h: h.update(version=1), None, "schema version 1, this program reads 2"),
        (lambda h: h.update(format="other"), None, "not a dfkd-metadata file"),
        (lambda h: h.pop("temperature"), None, "does not hold what"),
        (lambda h: h["inputs"].update(shape=[1, 16]), None, "does not hold what"),
        (lambda h: h["inputs"].update(low=[-1.0]), None, "differ in classes or inputs"),
        (lambda h: h.update(counts=h["counts"][:-1]), None, "not the logits of 9 classes"),
        (lambda h: h["layers"].pop(0), None, "does not hold what"),
        (lambda h: h["blocks"][0].update(summary="spherical"), None, "does not hold what"),
        (lambda h: h["layers"][0].update(shape=[5]), None, "not torch.float32"),
        (None, lambda t: t.pop("blocks.0.mean"), "does not hold what"),
        (None, lambda t: t.update({"blocks.9.mean": torch.zeros(1)}), "unknown tensor blocks.9.mean"),
        (None, lambda t: t.update({"other": torch.zeros(1)}), "unknown tensor other"),
        (None, lambda t: t.update({"blocks.0.mean": t["blocks.0.mean"].double()}), "torch.float64"),
        (None, lambda t: t["blocks.0.mean"].fill_(float("nan")), "NaN or infinite"),
        (None, lambda t: t["blocks.0.variance"].fill_(-1), "negative"),
    ],
)
def test_our_reader_checks_what_a_reader_must(folder, tmp_path, change_header, change_tensors, message):
    with pytest.raises(DfkdError, match=re.escape(message)):
        rewritten(folder, tmp_path / "copy", change_header, change_tensors).metadata()


def test_rewriting_alone_is_not_what_is_refused(folder, tmp_path):
    rewritten(folder, tmp_path / "copy").metadata()
