"""Arrays in files, by name: npz, npy and safetensors, told apart by their content. Nothing is unpickled; what can be is mapped."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from dfkd_exp.errors import DfkdError
from dfkd_exp.files import regular_size, safetensors_header
from dfkd_exp.harmless import brief, in_brief

ByName = dict[str, np.ndarray]

DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8", "I64": "<i8",
    "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
"""Of numpy, by the names that safetensors has for them."""
SAVE = "np.savez('FILE.npz', x_train=…, y_train=…, x_test=…, y_test=…)"
OTHERS = (
    (b"\x89HDF", "HDF5"), (b"PAR1", "Parquet"), (b"MATLAB", "a MATLAB file"), (b"\x80", "a pickle, which runs what it holds"),
    (b"\x89PNG", "an image"), (b"\xff\xd8\xff", "an image"), (b"\x1f\x8b", "gzipped"),
)  # fmt: skip
"""How files begin that hold arrays too, but are not read, and what they are."""


def files_at(path: Path, flag: str) -> dict[str, Path]:
    """The files that ``path`` stands for, by their names without ending: itself, or the .npy files of a folder and those in it. Raises
    DfkdError, which names the ``flag``, if there are none."""
    if path.is_file():
        return {path.stem: path}
    if not path.is_dir():
        raise DfkdError(f"{flag}={path} is not there; give a file (npz, npy, safetensors) or a folder of .npy files")
    found = {str(file.relative_to(path).with_suffix("")): file for file in sorted(path.rglob("*.npy"))}
    if not found:
        raise DfkdError(
            f"{flag}={path} holds no .npy files; give a file of arrays, or of image files data=image_folder"
        )
    return found


def read_arrays(path: Path, flag: str) -> ByName:
    """The arrays at ``path``, by name; those of npy and safetensors are views of the file, which nobody may write to.

    Raises DfkdError for what cannot be read without running what it holds, is damaged, or holds no arrays.
    """
    return {
        name: array for stem, file in files_at(path, flag).items() for name, array in _read_file(file, stem).items()
    }


def digests(path: Path, flag: str) -> dict[str, str]:
    """The sha256 of each file at ``path``, by its name without ending."""
    found = {}
    for name, file in files_at(path, flag).items():
        with file.open("rb") as content:
            found[name] = hashlib.file_digest(content, "sha256").hexdigest()
    return found


def _read_file(path: Path, stem: str) -> ByName:
    try:
        regular_size(path)
        with path.open("rb") as file:
            start = file.read(256)
        if start.startswith(b"\x93NUMPY"):
            return {stem: np.load(path, mmap_mode="r", allow_pickle=False)}
        if start.startswith(b"PK\x03\x04"):
            return _of_npz(path)
        if start[8:9] == b"{":
            return _of_safetensors(path)
    except DfkdError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        if "allow_pickle" in str(error):
            raise _objects(str(path)) from error
        raise DfkdError(
            f"{path} cannot be read ({in_brief(error)}); it is damaged or incomplete: fetch it again"
        ) from error
    text = start.isascii() and not start.startswith(b"\x00")
    kind = next((what for begin, what in OTHERS if start.startswith(begin)), "a text" if text else "of no known kind")
    raise DfkdError(
        f"{path} is {kind}; arrays are read of npz, npy and safetensors: read it in Python and write {SAVE}"
    )


def _of_npz(path: Path) -> ByName:
    found: ByName = {}
    with zipfile.ZipFile(path) as archive:
        if not any(name.endswith(".npy") for name in archive.namelist()):
            raise DfkdError(
                f"{path} is a zip without arrays, as torch.save writes it; read it in Python and write {SAVE}"
            )
    with np.load(path, allow_pickle=False) as content:
        for name in content.files:
            try:
                found[name] = content[name]
            except ValueError as error:
                raise _objects(f"{name} of {path}") if "allow_pickle" in str(error) else error from error
    return {name: array for name, array in found.items() if isinstance(array, np.ndarray)}


def _objects(name: str) -> DfkdError:
    return DfkdError(
        f"{name} holds Python objects, which are pickled and never read; write it with a type of its own, such as x.astype('float32') or "
        "y.astype(str)"
    )


def _of_safetensors(path: Path) -> ByName:
    header, start = safetensors_header(path)
    header.pop("__metadata__", None)
    if unknown := next((name for name, entry in header.items() if entry["dtype"] not in DTYPES), None):
        raise DfkdError(f"{path}: {brief(unknown)} is of type {brief(str(header[unknown]['dtype']))}; write it as F32")

    def mapped(entry: dict[str, Any]) -> np.ndarray:
        shape, (begin, _) = tuple(entry["shape"]), entry["data_offsets"]
        if not all(shape):
            return np.empty(shape, DTYPES[entry["dtype"]])
        return np.memmap(path, DTYPES[entry["dtype"]], "r", start + begin, shape)

    return {name: mapped(entry) for name, entry in header.items()}
