"""Metadata files that are not what they should be are refused in one line."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata import AllLayers
from dfkd_exp.metadata.metadata import Metadata
from tests.toy import INPUTS, toy_images, toy_teacher


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
        (lambda h: h | {"version": 99}, "schema version 99, this program reads 2; update"),
        (lambda h: h | {"format": "pictures"}, "is not a dfkd-metadata file"),
        (lambda h: [h], "is not a dfkd-metadata file"),
        (without("layers"), "does not hold what"),
        (without("temperature"), "does not hold what"),
        (lambda h: h | {"inputs": {**h["inputs"], "shape": [6, 6]}}, "does not hold what"),
        (
            lambda h: h | {"blocks": [{**x, "summary": "__import__('os')"} for x in h["blocks"]]},
            "does not hold what",
        ),
    ],
)
def test_a_header_that_is_not_as_promised_is_refused(file, header, message):
    rewrite(file, header)
    with pytest.raises(DfkdError, match=message):
        Metadata.load(file)


@pytest.mark.parametrize(
    "tensors", [without("blocks.1.mean"), lambda t: t | {"blocks.1.more": torch.zeros(3)}], ids=["missing", "extra"]
)
def test_statistics_that_are_missing_or_unknown_are_refused(file, tensors):
    rewrite(file, tensors=tensors)
    with pytest.raises(DfkdError, match="does not hold what"):
        Metadata.load(file)


def test_statistics_that_are_not_numbers_are_refused_by_name(file):
    rewrite(file, tensors=lambda t: t | {"blocks.1.variance": t["blocks.1.variance"] / 0})
    with pytest.raises(DfkdError, match=r"m.safetensors: the variance of layer 3 holds NaN or infinite"):
        Metadata.load(file)


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


def test_moving_keeps_everything(file):
    metadata = Metadata.load(file)
    moved = metadata.to("cpu")
    assert moved.num_bytes == metadata.num_bytes
    assert (moved.layers, moved.counts, moved.kind) == (metadata.layers, metadata.counts, metadata.kind)
