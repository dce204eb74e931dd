"""The manifest of a folder: what made it, and the size and sum of every file in it, by which it is verified."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from dfkd_exp.errors import DfkdError
from dfkd_exp.files import read_json, regular_size, sync_folder, write_atomically
from dfkd_exp.harmless import brief
from dfkd_exp.schema import require_schema

MANIFEST = "manifest.json"


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
    manifest = read_manifest(folder)
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


def read_manifest(folder: Path) -> dict[str, Any]:
    """A folder's manifest, its files not looked at; DfkdError if it has none that is one."""
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
