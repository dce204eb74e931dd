"""What docs/metadata-format.md promises: its reader reads, its sizes are right, its rules are kept by ours."""

import json
import re
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from dfkd_exp import AllLayers, DfkdError, InputSpec, LeNet5, read_release, write_release
from dfkd_exp.config import PACKAGE
from dfkd_exp.metadata.covariance import Diagonal, Full, LowRank
from dfkd_exp.store import seal

TEXT = (Path(__file__).parents[2] / "docs" / "metadata-format.md").read_text()
CLASSES = [str(label) for label in range(10)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A release with all three forms of covariance."""
    torch.manual_seed(0)
    teacher = LeNet5((1, 16, 16))
    kind = AllLayers(full_up_to=100, low_rank_up_to=120, rank=3)
    batches = [(torch.rand(60, 1, 16, 16), torch.arange(60) % 10)]
    metadata = kind.collect(teacher, batches, InputSpec((1, 16, 16), (0.0,), (1.0,)))
    assert {s.form for s in metadata.statistics} == {"full", "low_rank", "diagonal"}
    architecture = {"name": "lenet5", "target": "", "kwargs": {}}
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


def test_sizes_follow_the_formulas(folder):
    formulas = dict(re.findall(r"^\| `(diagonal|full|low_rank)` \| `([^`]+)` \|$", TEXT, re.MULTILINE))
    assert len(formulas) == 3
    metadata = read_release(folder).metadata()
    for statistics in metadata.statistics:
        num_bytes = sum(tensor.nbytes for tensor in statistics.tensors().values())
        values = {"K": 10, "U": statistics.mean.shape[1], "R": 3}
        assert num_bytes == eval(formulas[statistics.form], values)
    for form, units, rank, stated in [
        ("diagonal", 128, 0, "10,240"), ("full", 128, 0, "335,360"), ("diagonal", 4704, 0, "376,320"),
        ("low_rank", 4704, 32, "6,397,440"), ("full", 4704, 0, "442,834,560"),
    ]:  # fmt: skip
        assert f"{eval(formulas[form], {'K': 10, 'U': units, 'R': rank}):,}" == stated
        assert stated in TEXT


def test_every_field_of_the_schemas_is_described():
    for name in ("release-config", "metadata"):
        schema = json.loads((PACKAGE / "schemas" / f"{name}-v1.schema.json").read_text())
        for field, rule in schema["properties"].items():
            inner = rule.get("items", rule).get("properties", {}) if field in ("layers", "architecture") else {}
            for path in (field, *inner):
                assert re.search(rf"`([a-z\[\]]+\.)?{path}(\.\w+)?`", TEXT), f"{name}: {path}"


@pytest.mark.parametrize("name", ["release-config", "metadata", "manifest", "result"])
def test_the_schemas_are_schemas_and_closed(name):
    schema = json.loads((PACKAGE / "schemas" / f"{name}-v1.schema.json").read_text())
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
    from safetensors import safe_open

    copy = shutil.copytree(folder, target)
    path = copy / "metadata.safetensors"
    with safe_open(str(path), "pt") as file:
        header = json.loads(file.metadata()["dfkd"])
    tensors = load_file(path)
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
        (lambda h: h.update(version=2), None, "schema version 2"),
        (lambda h: h.update(format="other"), None, "not a dfkd-metadata file"),
        (lambda h: h.pop("temperature"), None, "does not hold what"),
        (lambda h: h["inputs"].update(shape=[1, 16]), None, "does not hold what"),
        (lambda h: h["inputs"].update(low=[-1.0]), None, "differ in classes or inputs"),
        (lambda h: h.update(counts=h["counts"][:-1]), None, "not the logits of 9 classes"),
        (lambda h: h["layers"].pop(0), None, "does not hold what"),
        (lambda h: h["layers"][0].update(covariance="spherical"), None, "does not hold what"),
        (lambda h: h["layers"][0].update(shape=[5]), None, "not torch.float32"),
        (None, lambda t: t.pop("layers.0.mean"), "does not hold what"),
        (None, lambda t: t.update({"layers.9.mean": torch.zeros(1)}), "unknown tensor layers.9.mean"),
        (None, lambda t: t.update({"other": torch.zeros(1)}), "unknown tensor other"),
        (None, lambda t: t.update({"layers.0.mean": t["layers.0.mean"].double()}), "torch.float64"),
        (None, lambda t: t["layers.0.mean"].fill_(float("nan")), "NaN or infinite"),
        (None, lambda t: t["layers.0.variance"].fill_(-1), "negative"),
    ],
)
def test_our_reader_checks_what_a_reader_must(folder, tmp_path, change_header, change_tensors, message):
    with pytest.raises(DfkdError, match=re.escape(message)):
        rewritten(folder, tmp_path / "copy", change_header, change_tensors).metadata()


def test_rewriting_alone_is_not_what_is_refused(folder, tmp_path):
    rewritten(folder, tmp_path / "copy").metadata()
