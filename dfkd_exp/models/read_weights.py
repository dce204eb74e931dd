"""Files of trained weights: what they hold, told by their content, and what they are if they cannot be read as such."""

from __future__ import annotations

import argparse
import collections
import warnings
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief
from dfkd_exp.models.weight_files import files_of, is_index

HARMLESS: list[Any] = [
    argparse.Namespace, collections.defaultdict, dict, numpy.dtype, numpy.float64(0).__reduce__()[0],
    *(type(numpy.dtype(name)) for name in ("bool", "float16", "float32", "float64", "int32", "int64", "uint8")),
]  # fmt: skip
"""What people keep beside weights, and loading may make: it runs no code of theirs."""
CONVERT = "convert its weights to a torch state_dict"
NOT_WEIGHTS = {
    b"version https://git-lfs": "is a pointer of Git LFS and not the file; fetch it with git lfs pull",
    b"<!doctype html": "is a web page and not the file; download the file that the page shows",
    b"<html": "is a web page and not the file; download the file that the page shows",
    b"\x89hdf": f"is an HDF5 file, as Keras writes it; {CONVERT}",
    b"gguf": f"is a GGUF file, of a language model; {CONVERT}",
    b"\x93numpy": "is one array of numpy's; save all weights by name, with numpy.savez(…) or torch.save(model.state_dict(), …)",
}
"""How files begin that people take for weights."""
NOT_TORCH = {
    ".onnx": "ONNX", ".pb": "TensorFlow", ".tflite": "TensorFlow Lite", ".mlmodel": "Core ML", ".caffemodel": "Caffe",
}  # fmt: skip
"""Other libraries' files, by their endings, where the content of some does not say."""

WEIGHTS_OF = (
    "w = lambda c: w(c.state_dict()) if hasattr(type(c), 'state_dict') "
    "else {k: v for k, v in zip(c, map(w, c.values())) if v is not None} if isinstance(c, dict) "
    "else torch.as_tensor(c) if hasattr(type(c), 'shape') and re.search('float|int|bool', str(c.dtype)) else None"
)
"""Makes of a network its weights, of numbers a tensor, and of a dict, at any depth, what is left without all else: a line of Python that
people run where the classes of their objects are."""


def read_weights(path: Path, source: str) -> Any:
    """What a file holds: safetensors, one file or an index of several, numpy's ``.npz``, or what ``torch.save`` wrote. DfkdError names
    ``source`` and says what the file is instead, or that it is damaged, and what to do with it."""
    if is_index(path):
        tensors: dict[str, Tensor] = {}
        for shard in files_of(path)[1:]:
            tensors |= read_weights(shard, source)
        return tensors
    with path.open("rb") as file:
        start = file.read(64)
    for beginning, what in NOT_WEIGHTS.items():
        if start.lower().startswith(beginning):
            raise DfkdError(f"{source} {what}")
    try:
        if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size:
            return load_file(path)
        require_undamaged(path, source)
        if _is_npz(path):
            with numpy.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TorchScript and old pickles, of which more is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except DfkdError:
        raise
    except Exception as error:  # the unpickler raises whatever the bytes lead it to
        raise DfkdError(f"{source} {_why_not(path, start)}") from error


def read_safetensors(path: Path, source: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, and of nothing else. DfkdError names ``source`` if it is none."""
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise DfkdError(f"{source} is no safetensors file, or is damaged; fetch it again") from error


def require_undamaged(path: Path, source: str) -> None:
    """DfkdError names the part of a zip, as torch and numpy write them, that does not have the sum that was written of it. torch reads it
    without a look at the sum."""
    if not zipfile.is_zipfile(path):
        return
    part = "its table of contents"
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                part = member.filename
                if member.CRC:  # torch.serialization.set_crc32_options(False) writes zeros in their place
                    with archive.open(member) as file:
                        while file.read(2**20):
                            pass
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DfkdError(
            f"{source} is damaged ({brief(part)} is not as it was written); fetch or save it again"
        ) from error


def _is_npz(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def _why_not(path: Path, start: bytes) -> str:
    """What a file is that cannot be read as weights, and what to do with it."""
    if not start:
        return "is empty; fetch it again"
    if path.suffix.lower() in NOT_TORCH:
        return f"is a file of {NOT_TORCH[path.suffix.lower()]}, by its ending; {CONVERT}"
    if zipfile.is_zipfile(path):
        with suppress(Exception):  # whatever the damage leads the readers of archives to
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
            if any(name.endswith("constants.pkl") for name in names):
                command = _take_out(f"torch.jit.load('{path}', map_location='cpu')")
                return f"is TorchScript, a program; {command}"
            if not any(name.endswith("data.pkl") for name in names):
                return f"is an archive of {brief(', '.join(names)) or 'nothing'}; unpack it, and name the file of weights in it"
            foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            if foreign:
                command = _take_out(f"torch.load('{path}', map_location='cpu', weights_only=False)")
                return f"holds objects of {brief(', '.join(foreign))}, whose code would run when it is read; if you trust it, {command}"
    elif start.startswith(b"\x80"):  # what a pickle begins with
        command = _take_out(f"pickle.load(open('{path}', 'rb'))")
        return f"is a Python pickle, whose code would run when it is read, or is damaged; if you trust it, {command}"
    return (
        "is neither safetensors nor a plain torch state_dict, or is damaged; save it with "
        "safetensors.torch.save_file(model.state_dict(), …) or torch.save(model.state_dict(), …)"
    )


def _take_out(loaded: str) -> str:
    return f"take its weights out: python -c \"import pickle, re, torch; {WEIGHTS_OF}; torch.save(w({loaded}), 'weights.pt')\""
