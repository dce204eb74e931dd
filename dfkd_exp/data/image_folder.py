"""Somebody's own images: one folder per class, or ``train/`` and ``test/`` of such."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.data.base import Data
from dfkd_exp.errors import DfkdError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from dfkd_exp.data.images import ImageData, LabelledImages

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
MODES = {1: "L", 3: "RGB"}


@dataclass
class ImageFolder(Data):
    """``path/CLASS/*.png`` (a share is held out for testing) or ``path/train/CLASS/*`` and ``path/test/CLASS/*``."""

    ephemeral: ClassVar[tuple[str, ...]] = ("path",)
    decode_once: ClassVar[bool] = True

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
        self.require("size", self.size is None or self.size > 0, "positive")
        self.require("test_fraction", 0 < self.test_fraction < 1, "between 0 and 1")

    def fingerprint(self) -> dict[str, Any]:
        files = [path for group in self._files().values() for _, path in group]
        root = Path(self.path)
        rows = [f"{p.relative_to(root)} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files]
        return {**self.identity(), "files": hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()}

    def load(self) -> ImageData:
        from dfkd_exp.data.images import ImageData

        classes = self._classes()
        parts = {part: self._decode(part, group) for part, group in self._files().items()}
        channels, height, width = parts["train"].images.shape[1:]
        return ImageData(
            parts["train"].padded(self.pad), parts["test"].padded(self.pad), classes, channels * height * width
        )

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

    def _decode(self, part: str, files: list[tuple[int, Path]]) -> LabelledImages:
        import torch
        from PIL import Image, UnidentifiedImageError

        from dfkd_exp.console import Progress
        from dfkd_exp.data.images import LabelledImages

        images: list[Tensor] = []
        with Progress(f"decoding {part} images", len(files)) as progress:
            for _, path in files:
                try:
                    with Image.open(path) as image:
                        pixels = to_tensor(image, self.channels, self.size)
                except (UnidentifiedImageError, OSError) as error:
                    raise DfkdError(f"{path} is not a readable image; repair or remove it") from error
                if images and pixels.shape != images[0].shape:
                    raise DfkdError(
                        f"{path} is {pixels.shape[2]}x{pixels.shape[1]} pixels but the first image is "
                        f"{images[0].shape[2]}x{images[0].shape[1]}; set data.size=N to resize all to NxN"
                    )
                images.append(pixels)
                progress.advance()
        return LabelledImages(torch.stack(images), torch.tensor([label for label, _ in files]))


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def to_tensor(image: Image, channels: int, size: int | None) -> Tensor:
    """A PIL image as uint8 ``[C, H, W]``, converted and resized. Raises DfkdError for pixels of unknown range."""
    import numpy
    import torch
    from PIL.Image import Resampling, fromarray

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        image = fromarray((numpy.asarray(image) >> 8).astype(numpy.uint8))  # Pillow would clip 16 bits at 255
    if image.mode in ("I", "F"):
        name = getattr(image, "filename", "") or "an image"
        raise DfkdError(f"{name} has pixels of unknown range (mode {image.mode}); convert it to 8 bits")
    image = image.convert(MODES[channels])
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Resampling.BILINEAR)
    pixels = torch.from_numpy(numpy.array(image))
    return pixels.unsqueeze(0) if channels == 1 else pixels.permute(2, 0, 1).contiguous()
