"""Somebody's own images: one folder per class, or ``train/`` and ``test/`` of such."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.data.decoded import DecodedData, Part
from dfkd_exp.data.files import MODES, read_image, to_tensor
from dfkd_exp.errors import DfkdError

if TYPE_CHECKING:
    from torch import Tensor

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}


@dataclass
class ImageFolder(DecodedData):
    """``path/CLASS/*.png`` (a share is held out for testing) or ``path/train/CLASS/*`` and ``path/test/CLASS/*``.

    Images are turned as their EXIF says, of several frames the first is taken, and 16 bits become 8. One that is transparent anywhere, uses
    fewer than 15 of its 16 bits, or has more than 67 megapixels is refused by name.
    """

    ephemeral: ClassVar[tuple[str, ...]] = ("path",)

    path: str = ""
    """The folder."""
    size: int | None = None
    """Resize to size x size pixels; empty: all images must already have one size."""
    channels: int = 3
    """1 (grey) or 3 (colour); images are converted."""
    test_fraction: float = 0.2
    """Share of each class held out for testing, where the folder has no test/. Chosen by the file's name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("path", bool(self.path), "a folder (data.path=…)")
        self.require("channels", self.channels in MODES, "1 or 3")
        self.require_size()
        self.require("test_fraction", 0 < self.test_fraction < 1, "between 0 and 1")

    def fingerprint(self) -> dict[str, Any]:
        files = [path for group in self._files().values() for _, path in group]
        root = Path(self.path)
        rows = [f"{path.relative_to(root)} {about.st_size} {about.st_mtime_ns}" for path, about in _looked_up(files)]
        return {**self.identity(), "files": hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()}

    def find(self) -> tuple[list[str], dict[str, Part]]:
        return self._classes(), {part: self._part(files) for part, files in self._files().items()}

    def _part(self, files: list[tuple[int, Path]]) -> Part:
        def read(index: int) -> Tensor:
            return read_image(files[index][1], lambda image: to_tensor(image, self.channels, self.size))

        return Part([label for label, _ in files], read, lambda index: str(files[index][1]))

    def _roots(self) -> dict[str, Path]:
        root = Path(self.path)
        if not root.is_dir():
            raise DfkdError(f"data.path={self.path} is not a folder")
        if (root / "train").is_dir() and (root / "test").is_dir():
            return {"train": root / "train", "test": root / "test"}
        return {"all": root}

    def _classes(self) -> list[str]:
        roots = self._roots()
        first = roots.get("train") or roots["all"]
        classes = _subfolders(first)
        if len(classes) < 2:
            raise DfkdError(
                f"data.path={self.path} must hold one folder per class, at least two; it has {len(classes)}"
            )
        return classes

    def _files(self) -> dict[str, list[tuple[int, Path]]]:
        """``train`` and ``test`` as (label, file), in a fixed order."""
        found: dict[str, list[tuple[int, Path]]] = {"train": [], "test": []}
        classes = self._classes()
        for part, root in self._roots().items():
            if part == "test" and (unknown := sorted(set(_subfolders(root)) - set(classes))):
                raise DfkdError(f"{root} has classes that train/ has not: {', '.join(unknown)}; add or remove them")
            for label, name in enumerate(classes):
                folder = root / name
                files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS) if folder.is_dir() else []
                if not files:
                    raise DfkdError(
                        f"{folder} holds no images ({', '.join(sorted(ENDINGS))}); add some or remove the class"
                    )
                if part != "all":
                    found[part] += [(label, path) for path in files]
                    continue
                # By the hash of its name, an image stays on its side when others are added.
                ranked = sorted(files, key=lambda p: hashlib.sha256(p.name.encode()).hexdigest())
                held_out = max(1, round(len(files) * self.test_fraction))
                if held_out >= len(files):
                    raise DfkdError(
                        f"{folder} holds {len(files)} image; a class needs at least two, to train and to test"
                    )
                found["test"] += [(label, path) for path in sorted(ranked[:held_out])]
                found["train"] += [(label, path) for path in sorted(ranked[held_out:])]
        return found


def _looked_up(files: list[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    """Each file and what the system says of it. Raises DfkdError for a link that leads nowhere."""
    for path in files:
        try:
            yield path, path.stat()
        except OSError as error:
            raise DfkdError(f"{path} cannot be read ({error.strerror}); repair or remove it") from error


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
