"""Artifacts: content-addressed, atomic, locked, verified.

An artifact is a folder ``STORE/PHASE/KEY/`` with a ``manifest.json``. Its key is the hash of the config that matters to
it, its code version and its inputs' keys. It is built in ``KEY.partial/`` beside its place and renamed in when complete;
a killed build leaves a partial folder that the next one continues or overwrites. A failure is never cached.
"""

from __future__ import annotations

import hashlib
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
    remove_leftovers,
    sync_folder,
    write_atomically,
)
from dfkd_exp.locks import Timeout, lock
from dfkd_exp.manifest import MANIFEST, read_manifest, seal, verify
from dfkd_exp.ranks import ALONE, Ranks


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
        """Seconds that other artifacts took which were asked for while the one that is being made was made."""
        self._partial: Path | None = None
        """The folder of that one."""

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
        began, around, within = time.perf_counter(), self.inside, self._partial
        self.inside, self._partial = 0.0, None
        try:
            return self._got_or_made(phase, identity, version, make, together, prepare)
        finally:
            self.inside, self._partial = around + time.perf_counter() - began, within
            if within is not None:
                write_atomically(within / WORK / INSIDE, repr(self.inside).encode())

    def _got_or_made(
        self,
        phase: str,
        identity: dict[str, Any],
        version: int,
        make: Callable[[Path], dict[str, Any] | None],
        together: Ranks,
        prepare: Callable[[], object],
    ) -> Artifact:
        key = _key(phase, version, identity)
        place = self.root / phase / key
        if together.agreed(lambda: _flaw(place) == ""):  # many may read at once, and who may not write reads too
            return Artifact(place, key, read_manifest(place), reused=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f"{key}.partial")
        held: AbstractContextManager[Any] = nullcontext()
        if together.first:
            held = _held(place.with_name(f"{key}.lock"), phase)
        with held:
            if together.agreed(lambda: _is_whole(place)):  # another made it meanwhile
                return Artifact(place, key, read_manifest(place), reused=True)
            prepare()
            resumed = together.agreed(lambda: _prepared(partial))
            before = _attempted(partial) if together.first else 0.0
            self._partial = partial if together.first else None
            started = time.perf_counter()
            info = make(partial) or {}
            together.barrier()
            if together.first:
                seconds = before + time.perf_counter() - started - self.inside
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
            return Artifact(place, key, read_manifest(place), reused=False)


ATTEMPT = "attempt.txt"
"""Seconds of all attempts before the one that began when this was written."""
INSIDE = "inside.txt"
"""Seconds that other artifacts took within that one."""


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
    note, inside = (partial / WORK / name for name in (ATTEMPT, INSIDE))
    seconds = 0.0
    with suppress(OSError, ValueError):  # there was none, or it was killed as it was written
        seconds = float(note.read_text("utf-8"))
        began = note.stat().st_mtime
        seconds += max(0.0, max(path.stat().st_mtime for path in partial.rglob("*") if path.is_file()) - began)
    with suppress(OSError, ValueError):
        seconds = max(0.0, seconds - float(inside.read_text("utf-8")))
        inside.unlink()
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


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
