"""Structured damages of a release: every field and tensor of it in turn missing, of another type, not finite, huge, negative, empty, twice.

The sums are made right again each time, as whoever means harm would do. What a damaged release must come to is that it is refused in one
line; unless what it then says is possible (`Damage.possible`), such as another accuracy.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata import AllLayers, BatchNormStatistics, Channels, Spatial, SpectralAllLayers, SpectralLayerPairs
from dfkd_exp.metadata.gaussian import DifferentialPrivacy
from dfkd_exp.models.ours import Ours
from dfkd_exp.release.folder import read_release, write_release
from tests.toy import toy_images

INPUTS = InputSpec((1, 8, 8), (0.0,), (1.0,))

CONFIG, MODEL, METADATA, MANIFEST = "config.json", "model.safetensors", "metadata.safetensors", "manifest.json"

KINDS: dict[str, tuple[str, Any]] = {
    "all layers": ("mlp", AllLayers(covariance="top_only")),
    "private": ("mlp", AllLayers(covariance="top_only", dp=DifferentialPrivacy(epsilon=8.0))),
    "low rank": ("mlp", AllLayers(covariance="low_rank", rank=2, storage="fp16")),
    "spatial": ("cnn", Spatial(rank=2)),
    "channels": ("cnn", Channels(scope="all")),
    "regions": ("cnn", Channels(grid=3)),
    "spectrum": ("cnn", Channels(pixels="spectrum")),
    "styles": ("cnn", Channels(styles=1)),
    "pairs": ("mlp", SpectralLayerPairs(records_per_class=5, graph="coactivation")),
    "chain": ("mlp", SpectralAllLayers(records_per_class=5, storage="int8")),
    "batch norm": ("cnn_bn", BatchNormStatistics()),
}
"""Network and kind of metadata of the releases that are damaged: every form of statistics, and every way to store them."""


def whole_release(folder: Path, kind: str) -> Path:
    """A small release, of an untrained teacher of three classes."""
    (name, metadata), (images, labels) = KINDS[kind], toy_images()
    network = Ours(name=name, kwargs={"width": 4})
    teacher = network.build(INPUTS, 3, seed=0).eval()
    collected = metadata.collect(teacher, [(torch.nn.functional.pad(images, (1, 1, 1, 1)), labels)], INPUTS)
    write_release(folder, teacher, collected, network.architecture(), ["a", "b", "c"], 0.9)
    (folder / "README.md").unlink()
    return folder


class Content:
    """A release's files in memory, to be changed and written somewhere."""

    def __init__(self, folder: Path):
        self.config = json.loads((folder / CONFIG).read_text())
        self.weights = (folder / MODEL).read_bytes()
        self.metadata = (folder / METADATA).read_bytes()

    @property
    def header(self) -> dict[str, Any]:
        """What the metadata file says of itself."""
        return json.loads(_split(self.metadata)[0]["__metadata__"]["dfkd"])

    def files(self, config: str | None = None, header: str | None = None) -> dict[str, bytes]:
        """The three files, of other JSON texts where they are given."""
        metadata = self.metadata
        if header is not None:
            own, data = _split(metadata)
            metadata = _joined(own | {"__metadata__": {"dfkd": header}}, data)
        text = json.dumps(self.config) if config is None else config
        return {CONFIG: text.encode("utf-8", "surrogatepass"), MODEL: self.weights, METADATA: metadata}

    def write(self, folder: Path, manifest: str | None = None, **texts: str) -> None:
        """Write it, with sums that are right; ``config``, ``header`` and ``manifest`` may be given as JSON texts."""
        files = self.files(**texts)
        text = json.dumps(manifest_of(files)) if manifest is None else manifest
        folder.mkdir(exist_ok=True)
        for name, content in {**files, MANIFEST: text.encode("utf-8", "surrogatepass")}.items():
            (folder / name).write_bytes(content)


def manifest_of(files: dict[str, bytes]) -> dict[str, Any]:
    sums = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }
    return {"format": "dfkd-manifest", "format_version": 1, "phase": "release", "files": sums}


@dataclass(frozen=True)
class Damage:
    """``write(folder)`` writes the damaged release; ``possible``: what it then says may be true."""

    title: str
    write: Callable[[Path], None]
    possible: bool = False


def outcome(folder: Path) -> str:
    """``refused`` in one line, ``accepted``, or what else came of reading a release whole."""
    try:
        release = read_release(folder)
        release.metadata()
        release.teacher()
        return "accepted" if release.metadata_bytes < 2**20 and release.metadata_kind else "nothing"
    except DfkdError as error:
        text = str(error)
        fine = text.isprintable() and len(text) < 1000 and str(folder) in text
        return "refused" if fine else f"a message that is no line, too long or without the file: {text[:300]!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]


NAN, INFINITE, ENDLESS = "<NaN>", "<Infinity>", "<1e999>"
"""What JSON has no value for; written without the quotes."""
WRONG: dict[str, Any] = {
    "null": None, "true": True, "text": "text", "empty text": "", "control characters": "a\x1b[2J\nerror: b", "half a character": "\ud800",
    "one": 1, "whole as a fraction": 3.0, "half": 2.5, "zero": 0, "negative": -1, "huge": 10**30, "large": 2**40, "huge fraction": 1e300,
    "tiny": 1e-300, "NaN": NAN, "infinite": INFINITE, "beyond floats": ENDLESS, "empty list": [], "list": [1], "lists": [["a"]],
    "empty object": {}, "object": {"a": 1},
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all that lies in a JSON value; of lists the first and the last."""
    entries: Any = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        entries = {index: value[index] for index in (0, len(value) - 1)}.items() if value else ()
    for key, inner in entries:
        yield (*path, key)
        yield from places(inner, (*path, key))


def _holder(value: Any, path: tuple[Any, ...]) -> Any:
    for part in path[:-1]:
        value = value[part]
    return value


def as_json(value: Any) -> str:
    return re.sub(r'"<(NaN|Infinity|1e999)>"', r"\1", json.dumps(value))


def changed_texts(document: Any) -> Iterator[tuple[str, tuple[Any, ...], Any, str]]:
    """Of a JSON document what was changed, where, to what, and the text."""
    for path in places(document):
        title = ".".join(map(str, path))
        for name, value in WRONG.items():
            other = copy.deepcopy(document)
            now = _holder(other, path)[path[-1]]
            if now == value and (now is True) == (value is True):
                continue
            _holder(other, path)[path[-1]] = value
            yield f"{title} {name}", path, value, as_json(other)
        other = copy.deepcopy(document)
        del _holder(other, path)[path[-1]]
        yield f"{title} missing", path, "missing", as_json(other)
        other = copy.deepcopy(document)
        holder = _holder(other, path)
        if isinstance(holder, list):
            holder.insert(path[-1], holder[path[-1]])
            yield f"{title} twice", path, "twice", as_json(other)
        else:
            holder["<here>"] = "<here>"
            again = f"{json.dumps(path[-1])}: {as_json(holder[path[-1]])}"
            yield f"{title} twice", path, "twice", as_json(other).replace('"<here>": "<here>"', again)
            holder[f"{path[-1]}x"] = holder.pop("<here>")
            yield f"{title} beside an unknown one", path, "unknown", as_json(other)


POSSIBLE: dict[str, dict[str, Callable[[Any], bool]]] = {
    "config": {
        r"test_accuracy": lambda v: v is None or (type(v) in (int, float) and 0 <= v <= 1),
        r"classes\.\d+": lambda v: isinstance(v, str) and not v.startswith("<") and v not in ("\ud800", "missing", "twice"),
    },
    "header": {
        r"temperature": lambda v: type(v) in (int, float) and 1e-6 <= v <= 1e6,
        r"counts": lambda v: v is None,
        r"counts\.\d+": lambda v: type(v) is int and 1 <= v < 2**63,
        r"dropout_masks": lambda v: v is True,
        r"kind\.name": lambda v: v == "text",
        r"kind\.(?!dp\b|name\b)[\w.]+": lambda v: v not in (NAN, INFINITE, ENDLESS, "\ud800", 10**30) and v != "twice",
        r"kind\.[\w.]+": lambda v: v == "unknown",
        r"kind\.dp\.(epsilon|clip|noise_multiplier)": lambda v: type(v) in (int, float) and 0 < v <= 100,
        r"kind\.dp\.(clip|noise_multiplier)": lambda v: type(v) in (int, float) and v in (2**40, 1e300),
        r"layers\.\d+\.shape\.[12]": lambda v: v == 1,  # locations of a statistic of channels; the teacher tells
        r"graph\.rank": lambda v: v == 2**40,  # of so many frequencies there are fewer
        r"kind\.dp": lambda v: v == "missing",  # no claim is made
        r"kind\.dp\.delta": lambda v: v == 1e-300,
        r"kind\.dp\.neighbours": lambda v: v == "text",
        r"layers\.\d+\.name": lambda v: v == "text",
        r"layers\.\d+\.axes\.[12]": lambda v: v == "text",
    },
    "manifest": {r"phase": lambda v: v == "text"},
}  # fmt: skip
"""What a field, by its path, may become without being wrong."""


def is_possible(document: str, path: tuple[Any, ...], value: Any) -> bool:
    title = ".".join(map(str, path))
    return any(re.fullmatch(pattern, title) and fits(value) for pattern, fits in POSSIBLE[document].items())


def of_json(content: Content) -> Iterator[Damage]:
    """Every field of the three JSON documents."""
    documents = {"config": content.config, "header": content.header, "manifest": manifest_of(content.files())}
    for name, document in documents.items():
        for title, path, value, text in changed_texts(document):
            possible = is_possible(name, path, value)
            yield Damage(f"{name}: {title}", lambda folder, n=name, t=text: content.write(folder, **{n: t}), possible)
        whole = as_json(document)
        texts = {
            "empty": "", "null": "null", "a list": f"[{whole}]", "a number": "3", "cut": whole[:-2], "two": whole * 2,
            "endless lists": "[" * 100_000, "deep": whole[:-1] + ', "x": ' + "[" * 500 + "]" * 500 + "}",
            "a long number": whole[:-1] + ', "x": ' + "9" * 5000 + "}", "large": whole[:-1] + ', "x": "' + "x" * 2**25 + '"}',
        }  # fmt: skip
        for title, text in texts.items():
            yield Damage(f"{name}: {title}", lambda folder, n=name, t=text: content.write(folder, **{n: t}))


def of_safetensors(content: Content) -> Iterator[Damage]:
    """Every field of the headers of the two safetensors files, which say where their tensors are."""
    for file in ("weights", "metadata"):
        header, data = _split(getattr(content, file))
        few = {name: header[name] for name in sorted(header.keys() - {"__metadata__"})[:2]}
        for title, path, value, text in changed_texts(few):
            # An empty list is the shape of a number alone, and a 1 need not be said where the sizes' product is the same.
            same = path[-2:-1] == ("shape",) and value in ("missing", "twice", 1) and _holder(few, path)[path[-1]] == 1
            if same:
                continue
            rest = {name: entry for name, entry in header.items() if name not in few}
            joined = text[:-1] + ", " + json.dumps(rest)[1:] if rest else text
            yield Damage(
                f"{file}: {title}",
                lambda folder, f=file, t=joined, d=data: _with(content, **{f: _joined(t, d)}).write(folder),
            )
        whole = getattr(content, file)
        for title, changed in {
            "empty": b"", "eight bytes": whole[:8], "cut": whole[:-4], "longer": whole + bytes(4),
            "endless header": b"\xff" * 8 + whole[8:], "not one": b"not safetensors at all",
        }.items():  # fmt: skip
            yield Damage(f"{file}: {title}", lambda folder, f=file, c=changed: _with(content, **{f: c}).write(folder))


TENSORS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "float64": lambda t: t.double(),
    "float16": lambda t: t.half() if t.dtype != torch.float16 else t.float(),
    "int32": lambda t: t.to(torch.int32),
    "bool": lambda t: t != 0,
    "one shorter": lambda t: t[..., 1:],
    "one row less": lambda t: t[1:],
    "flat": lambda t: t.flatten(),
    "empty": lambda t: t[..., :0],
    "one number": lambda t: t.flatten()[0],
    "one dimension more": lambda t: t[None],
    "NaN": lambda t: torch.full_like(t, torch.nan),
    "infinite": lambda t: torch.full_like(t, torch.inf),
    "one NaN": lambda t: torch.cat([t.flatten()[:-1], t.new_tensor([torch.nan])]).view_as(t),
    "negative": lambda t: -t.abs() - 1,
    "least": lambda t: torch.full_like(t, torch.iinfo(t.dtype).min),
    "most": lambda t: torch.full_like(t, torch.iinfo(t.dtype).max),
}


def of_tensors(content: Content) -> Iterator[Damage]:
    """Every tensor of the two safetensors files. Of changed weights the digests are made right too."""
    for file in ("weights", "metadata"):
        tensors = load(getattr(content, file))
        for name, tensor in tensors.items():
            for title, change in TENSORS.items():
                try:
                    damaged = change(tensor).contiguous()
                except (TypeError, RuntimeError, IndexError):
                    continue  # whole numbers have no NaN, and fractions no least one
                if damaged.dtype == tensor.dtype and torch.equal(damaged, tensor):
                    continue
                yield _of_tensors(
                    content, file, f"{name} {title}", tensors | {name: damaged}, _fits(name, title, tensor)
                )
            rest = {other: value for other, value in tensors.items() if other != name}
            yield _of_tensors(content, file, f"{name} missing", rest)
            yield _of_tensors(content, file, f"{name} renamed", rest | {f"{name}x": tensor})
        yield _of_tensors(content, file, "one more", tensors | {"statistics.9.mean": torch.zeros(1)})
        if tensors:
            yield _of_tensors(content, file, "none", {})


def _fits(name: str, title: str, tensor: torch.Tensor) -> bool:
    """Whether a tensor may be so, in type and shape as it was."""
    if name.endswith("num_batches_tracked"):
        return title in ("negative", "least", "most")
    if name.endswith("indices") and title == "least":
        return tensor.shape[-1] == 1  # the first of the coefficients, which alone is kept
    if title == "one shorter":
        return name.endswith(".factor")  # its rank stands in its shape alone
    if title == "most":
        return not name.endswith("indices")
    never_negative = name.endswith((".variance", ".covariance", ".channels", "running_var", "indices"))
    return title == "negative" and not never_negative


def _of_tensors(
    content: Content, file: str, title: str, tensors: dict[str, torch.Tensor], possible: bool = False
) -> Damage:
    def write(folder: Path) -> None:
        if file == "metadata":
            own, _ = _split(content.metadata)
            _with(content, metadata=save(tensors, metadata=own["__metadata__"])).write(folder)
            return
        digest = _digest(tensors)
        other = _with(content, weights=save(tensors, metadata={"format": "pt"}))
        other.config = other.config | {"teacher_sha256": digest}
        other.write(folder, header=json.dumps(other.header | {"teacher_sha256": digest}))

    return Damage(f"{file}: {title}", write, possible)


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _with(content: Content, **files: bytes) -> Content:
    other = copy.copy(content)
    for name, value in files.items():
        setattr(other, name, value)
    return other


def _split(file: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", file[:8])
    return json.loads(file[8 : 8 + length]), file[8 + length :]


def _joined(header: dict[str, Any] | str, data: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data


def damages(content: Content) -> list[Damage]:
    """All of them."""
    return [*of_json(content), *of_safetensors(content), *of_tensors(content)]
