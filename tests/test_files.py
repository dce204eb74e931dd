"""JSON that is read strictly, and files that are regular."""

import json
import struct

import pytest

from dfkd_exp.files import MOST_JSON, read_json, safetensors_header, strict_json


@pytest.mark.parametrize("value", [None, True, 3, -2.5, "é \U0001f600", [1, [2]], {"a": {"b": []}}, 2**63 - 1, -0.0])
def test_what_json_can_say_is_read_as_it_is(value):
    assert strict_json(json.dumps(value)) == value
    assert strict_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NaN", "NaN is not a finite number"),
        ("[-Infinity]", "-Infinity is not a finite number"),
        ("1e999", "1e999 is not a finite number"),
        ("1" + "0" * 30, "a whole number of 31 digits"),
        ("1" * 5000, "limit"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
        ('["\\ud800"]', "surrogates"),
        ("[" * 40 + "]" * 40, "more than 32 lists or objects"),
        ("[" * 200_000, "without end"),
        ("", "Expecting value"),
        ("[1]]", "Extra data"),
        ("\ufeff[]", "BOM"),
        (b"\xff\xfe[\x00]\x00", "codec"),
    ],
)
def test_what_json_cannot_say_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        strict_json(text)


def test_no_more_is_read_than_json_may_have(tmp_path):
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=f"more than the {MOST_JSON:,} that are read"):
        read_json(path)
    path.write_bytes(struct.pack("<Q", 2**39) + bytes(100))
    with pytest.raises(ValueError, match="its header is said to have"):
        safetensors_header(path)


@pytest.mark.parametrize("header", ["[]", '{"a": 1}', '{"a": {"dtype": "F32"}}'])
def test_a_header_that_does_not_say_where_its_tensors_are_is_refused(tmp_path, header):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    with pytest.raises(ValueError, match="does not say of each tensor"):
        safetensors_header(path)
