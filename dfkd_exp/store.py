"""Artifacts: content-addressed, atomic, locked, verified.

An artifact is a folder ``STORE/PHASE/KEY/`` with a ``manifest.json``. Its key is the hash of the config that matters to
it, its code version and its inputs' keys. It is built in ``KEY.partial/`` beside its place and renamed in when complete;
a killed build leaves a partial folder that the next one continues or overwrites. A failure is never cached.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfkd_exp import console
from dfkd_exp.damage import move_aside
from dfkd_exp.errors import DfkdError
from dfkd_exp.files import (
    WORK,
    canonical_json,
    read_json,
    regular_size,
    remove_leftovers,
    sync_folder,
    write_atomically,
)
from dfkd_exp.harmless import brief
from dfkd_exp.locks import Timeout, lock
from dfkd_exp.ranks import ALONE, Ranks
from dfkd_exp.schema import require_schema

MANIFEST = "manifest.json"


class _Facts(dict[str, Any]):
    """The facts of a manifest, which no sum vouches for."""

    def __init__(self, facts: dict[str, Any], folder: Path):
        super().__init__(facts)
        self._folder = folder

    def __missing__(self, name: str) -> Any:
        raise DfkdError(
            f"{self._folder / MANIFEST} does not say {name}; remove that folder, and the same command makes it again"
        )


@dataclass(frozen=True)
class Artifact:
    """A finished, verified folder. ``digest``: sha256 over its files' sums, equal for equal content."""

    path: Path
    key: str
    manifest: dict[str, Any]
    reused: bool

    @property
    def digest(self) -> str:
        return _sha256(canonical_json({name: f["sha256"] for name, f in self.manifest["files"].items()}).encode())

    @property
    def seconds(self) -> float:
        """What making it took, when it was made, without other artifacts that were made for it meanwhile; of attempts that were
        interrupted, until what they last wrote."""
        return self.manifest["seconds"]

    @property
    def info(self) -> dict[str, Any]:
        """What the maker said of it beside the files: peak memory, device and the like. DfkdError for a fact that is not there."""
        return _Facts(self.manifest["info"], self.path)

    def file(self, name: str) -> Path:
        return self.path / name


class Store:
    """A folder of artifacts that any number of processes may use at once."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self.inside = 0.0
        """Seconds of the artifacts that were asked for while the one that is being made was made."""

    def get_or_make(
        self,
        phase: str,
        identity: dict[str, Any],
        version: int,
        make: Callable[[Path], dict[str, Any] | None],
        together: Ranks = ALONE,
        prepare: Callable[[], object] = lambda: None,
    ) -> Artifact:
        """The artifact of ``phase`` for ``identity`` (JSON-able), made by ``make(folder)`` if it is not there.

        ``make`` writes files into the folder, which may hold what an interrupted earlier call left, and may return facts
        for the manifest. ``version``: of the code that makes it. ``together``: the processes that all call this at once, and
        make it with one another; the first holds the lock, and its facts are kept. ``prepare()`` is called before anything is made, for
        what is no part of its seconds, such as imports.
        """
        key = _key(phase, version, identity)
        place = self.root / phase / key
        if together.agreed(lambda: _flaw(place) == ""):  # many may read at once, and who may not write reads too
            return Artifact(place, key, _manifest(place), reused=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f"{key}.partial")
        held: AbstractContextManager[Any] = nullcontext()
        if together.first:
            held = _held(place.with_name(f"{key}.lock"), phase)
        with held:
            if together.agreed(lambda: _is_whole(place)):  # another made it meanwhile
                return Artifact(place, key, _manifest(place), reused=True)
            prepare()
            resumed = together.agreed(lambda: _prepared(partial))
            before = _attempted(partial) if together.first else 0.0
            around, self.inside = self.inside, 0.0
            started = time.perf_counter()
            try:
                info = make(partial) or {}
                together.barrier()
            finally:
                took, inside = time.perf_counter() - started, self.inside
                self.inside = around + took
            if together.first:
                seconds = before + took - inside
                shutil.rmtree(partial / WORK, ignore_errors=True)
                facts = {
                    "phase": phase,
                    "key": key,
                    "version": version,
                    "identity": identity,
                    "seconds": seconds,
                    "resumed": resumed,
                    "info": info,
                }
                seal(partial, facts)
                partial.rename(place)
                sync_folder(place.parent)
                verify(place)
            together.barrier()
            return Artifact(place, key, _manifest(place), reused=False)


ATTEMPT = "attempt.txt"
"""Seconds of all attempts before the one that began when this was written."""


def _key(phase: Any, version: Any, identity: Any) -> str:
    return _sha256(canonical_json({"phase": phase, "version": version, "identity": identity}).encode())[:20]


def _flaw(place: Path) -> str | None:
    """What is wrong with the artifact that is there: nothing, if it is sound; None if there is none."""
    if not os.path.lexists(place):
        return None
    try:
        manifest = verify(place)
        made_of = [manifest.get(name) for name in ("phase", "version", "identity")]
        if not manifest.get("key") == place.name == _key(*made_of):
            raise DfkdError(f"{place / MANIFEST} is another artifact's")
    except DfkdError as error:
        return str(error)
    return ""


def _is_whole(place: Path) -> bool:
    """Whether a sound artifact is there; one that is not is moved aside."""
    flaw = _flaw(place)
    if flaw:
        move_aside(place, flaw)
    return flaw == ""


def _prepared(partial: Path) -> bool:
    """Make the folder to build in; whether an interrupted call left something there. What no call leaves is moved aside: whoever opened
    a pipe would wait for ever."""
    if os.path.lexists(partial) and (not partial.is_dir() or _has_odd_files(partial)):
        move_aside(partial, f"{partial} has something else than files and folders in it")
    resumed = partial.exists()
    partial.mkdir(exist_ok=True)
    remove_leftovers(partial)
    return resumed


def _attempted(partial: Path) -> float:
    """Seconds that earlier attempts at what is in the folder took, each until it last wrote something that is still there; and note that
    another begins. The clock of the files is asked, whichever that is."""
    note = partial / WORK / ATTEMPT
    seconds = 0.0
    if note.is_file():
        with suppress(OSError, ValueError):  # killed as it was written
            seconds = float(note.read_text("utf-8"))
            began = note.stat().st_mtime
            seconds += max(0.0, max(path.stat().st_mtime for path in partial.rglob("*") if path.is_file()) - began)
    note.parent.mkdir(exist_ok=True)
    write_atomically(note, repr(seconds).encode())
    return seconds


def _has_odd_files(folder: Path) -> bool:
    return (folder / WORK).is_file() or any(
        path.is_symlink() or not (path.is_file() or path.is_dir()) for path in folder.rglob("*")
    )


def _held(path: Path, phase: str) -> AbstractContextManager[Any]:
    """The lock, held. The operating system drops that of a killed process, so none is left behind."""
    held = lock(path)
    try:
        return held.acquire(timeout=1)
    except Timeout:
        console.note(f"another run is making this {phase}; waiting for it")
        return held.acquire()


def seal(folder: Path, facts: dict[str, Any]) -> None:
    """Write the manifest: ``facts`` and the size and sha256 of every file; all of it flushed to disk."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST):
        with path.open("rb") as file:
            files[path.relative_to(folder).as_posix()] = {
                "bytes": path.stat().st_size,
                "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            }
            os.fsync(file.fileno())
    manifest = {"format": "dfkd-manifest", "format_version": 1, **facts, "files": files}
    write_atomically(folder / MANIFEST, (json.dumps(manifest, indent=2, allow_nan=False) + "\n").encode())
    sync_folder(folder)


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of a folder whose files are all as it says; else a DfkdError that names the file."""
    manifest = _manifest(folder)
    for name, expected in manifest["files"].items():
        # A link is followed: the Hub's cache keeps a repository as links to files beside it. It can show nothing that is not known already,
        # since the sum must be right. What it leads to must be a regular file: a device has no end, and a pipe makes one wait. Paths with
        # `..` or from the root are refused by the manifest's schema.
        path = folder / name
        try:
            size = regular_size(path)
        except (OSError, ValueError) as error:
            raise DfkdError(f"{path} is missing or not a regular file") from error
        if size != expected["bytes"]:
            raise DfkdError(f"{path} is truncated or altered: {size:,} bytes, not {expected['bytes']:,}")
        if _sha256_of(path, size) != expected["sha256"]:
            raise DfkdError(f"{path} is altered: its sha256 is not the manifest's")
    return manifest


def _sha256_of(path: Path, size: int) -> str:
    """Of a file's first ``size`` bytes, all that it has: a file of the system may be called regular and empty, and never end."""
    digest, left = hashlib.sha256(), size
    with path.open("rb") as file:
        while left and (read := file.read(min(left, 2**20))):
            digest.update(read)
            left -= len(read)
    return digest.hexdigest()


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = read_json(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else brief(str(error))
        raise DfkdError(f"{path} is missing or unreadable ({why})") from error
    kind = [manifest.get(name) for name in ("format", "format_version")] if isinstance(manifest, dict) else []
    if kind != ["dfkd-manifest", 1]:
        raise DfkdError(f"{path} is of an unknown format or version ({brief(', '.join(map(repr, kind)))})")
    try:
        require_schema(manifest, "manifest-v1")
    except ValueError as error:
        raise DfkdError(f"{path} is not a manifest ({error})") from error
    return manifest


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
