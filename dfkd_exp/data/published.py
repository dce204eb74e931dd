"""Data sets whose files others publish: found on disk, or downloaded once into the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dfkd_exp.data.base import Data
from dfkd_exp.errors import DfkdError
from dfkd_exp.files import write_atomically


@dataclass
class PublishedData(Data):
    """Looks in ``data.root``, or else in ``$DFKD_DATA_DIR`` and then in the cache, and downloads what is in neither.

    In each folder the files may lie directly, or in one of the sub-folders in which people keep them.
    """

    ephemeral: ClassVar[tuple[str, ...]] = ("root", "download")
    folders: ClassVar[tuple[str, ...]] = ()
    """Sub-folders in which the files may lie; the cache has them in the first."""
    url: ClassVar[str] = ""
    """Where the files are, with a slash at its end."""
    files: ClassVar[str] = ""
    """What they are, for people."""

    root: str | None = None
    """Folder with the published files; empty: $DFKD_DATA_DIR, then the cache, then a download."""
    download: bool = True
    """Whether missing files may be downloaded."""

    def fetch(self, name: str) -> None:
        """Download the file ``name`` into the `cache`."""
        raise NotImplementedError

    def find(self, name: str, endings: Sequence[str] = ("",)) -> Path:
        """Where the file ``name`` is, with one of ``endings``; it is downloaded if it may be. DfkdError if it cannot be had."""
        if self.root is not None and not Path(self.root).is_dir():
            raise DfkdError(f"data.root={self.root} is not a folder")
        roots = [self.root] if self.root is not None else [os.environ.get("DFKD_DATA_DIR"), str(self.cache.parent)]
        tried = []
        for root in filter(None, roots):
            for folder in ("", *self.folders):
                for ending in endings:
                    path = Path(root, folder, name + ending)
                    if path.is_file():
                        return path
            tried.append(str(root))
        if self.download and self.root is None:
            self.fetch(name)
            return self.cache / name
        raise DfkdError(
            f"{name} of {type(self).__name__} is not in {' or '.join(tried)}; set data.root or DFKD_DATA_DIR to the "
            f"folder that holds {self.files}, or leave data.root empty and set data.download=true"
        )

    @property
    def cache(self) -> Path:
        """The folder for what this data set downloads."""
        import pooch

        return Path(os.environ.get("DFKD_CACHE_DIR") or pooch.os_cache("dfkd_exp"), self.folders[0])

    def downloaded(self, remote: str, unpacked: Callable[[Path], dict[str, bytes]]) -> None:
        """Put what ``unpacked(download)`` makes of the file ``remote``, by name, into the cache; nothing is kept if it raises."""
        import pooch

        pooch.get_logger().setLevel("WARNING")  # it would print a hash to paste into our code
        try:
            path = Path(
                pooch.retrieve(
                    self.url + remote,
                    known_hash=None,  # checked by who unpacks it, where the message is ours
                    fname=f"{remote}.download",
                    path=self.cache,
                    progressbar=_RichBar(remote),
                )
            )
        except OSError as error:
            raise DfkdError(
                f"{remote} could not be downloaded from {self.url} ({type(error).__name__}); put {self.files} into a "
                "folder and set data.root or DFKD_DATA_DIR to it"
            ) from error
        try:
            contents = unpacked(path)
        finally:
            path.unlink()
        for name, content in contents.items():
            write_atomically(self.cache / name, content)


class _RichBar:
    """pooch's progress-bar protocol (``total``, ``update``, ``reset``, ``close``) on the project's own progress bar."""

    def __init__(self, name: str):
        self.name, self.total = name, 0
        self._bar: Any = None

    def update(self, amount: int) -> None:
        from dfkd_exp.console import Progress

        self._bar = self._bar or Progress(f"download {self.name}", self.total)
        self._bar.advance(amount)

    def reset(self) -> None:
        """pooch resets the bar just before it closes it."""

    def close(self) -> None:
        if self._bar:
            self._bar.close()
