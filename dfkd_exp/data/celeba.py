"""CelebA: faces of celebrities, two classes by one attribute."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.data.decoded import DecodedData, Part, require_size
from dfkd_exp.data.files import read_image, to_tensor
from dfkd_exp.errors import DfkdError
from dfkd_exp.files import open_regular, regular_size

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

IMAGES, ATTRIBUTES, PARTITION = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"
FOLDERS = ("", "Img", "Anno", "Eval")
"""Where they lie below the root: as torchvision puts them, or as the official archive has them."""
PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
MOST_BALANCED = "most_balanced"
SIZE, CROP = (178, 218), (0, 20, 178, 198)
"""Width and height of the aligned images; the square in their middle: left, top, right, bottom."""


@dataclass(frozen=True)
class Lists:
    """What the lists say: the attribute, its share in the whole training part, and per part the files and their labels."""

    attribute: str
    share: float
    parts: dict[str, list[tuple[str, int]]]


@dataclass
class CelebA(DecodedData):
    """CelebA (Liu et al. 2015), aligned and cropped, as the official page has it: 162,770 training and 19,962 test images of two
    classes, without and with one attribute. The official validation part, 19,867 images, is left out."""

    ephemeral: ClassVar[tuple[str, ...]] = ("root",)

    root: str | None = None
    """Folder with img_align_celeba/, list_attr_celeba.txt and list_eval_partition.txt; empty: $DFKD_DATA_DIR/celeba."""
    attribute: str = MOST_BALANCED
    """The attribute that makes the classes, such as Smiling; most_balanced: that whose share in the training part is closest to a half."""
    size: int = 224
    """The images' middle square of 178 pixels is resized to size x size."""
    max_images: int | None = None
    """Use only the first so many training images; the attribute is chosen on all of them, and the test part stays whole."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size(self, self.size)
        self.require("max_images", self.max_images is None or self.max_images >= 2, "at least 2, or empty")

    def fingerprint(self) -> dict[str, Any]:
        sizes = self._sizes()
        rows = [f"{file} {label} {sizes[file]}" for part in self._listing.parts.values() for file, label in part]
        digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()
        return {**self.identity(), "attribute": self._listing.attribute, "files": digest}

    def find(self) -> tuple[list[str], dict[str, Part]]:
        from dfkd_exp import console

        name = self._listing.attribute
        console.note(f"attribute {name}: {self._listing.share:.1%} of the training part have it")
        return [f"not {name}", name], {part: self._part(files) for part, files in self._listing.parts.items()}

    def _part(self, files: list[tuple[str, int]]) -> Part:
        folder = self._find(IMAGES)

        def read(index: int) -> Tensor:
            path = folder / files[index][0]

            def prepare(image: Image) -> Tensor:
                if image.size != SIZE:
                    raise DfkdError(
                        f"{path} is {image.width}x{image.height} pixels; CelebA's aligned images, which are needed, are 178x218"
                    )
                return to_tensor(image, 3, self.size, CROP)

            return read_image(str(path), lambda: open_regular(path), prepare)

        return Part([label for _, label in files], read, lambda index: files[index][0])

    def _find(self, name: str) -> Path:
        base = os.environ.get("DFKD_DATA_DIR")
        root = Path(self.root) if self.root is not None else Path(base, "celeba") if base else None
        way_out = f"get CelebA from {PAGE} (there is no automatic download) and set data.root to its folder"
        if root is None or not root.is_dir():
            raise DfkdError(f"data=celeba: {root or 'data.root'} is not a folder; {way_out}")
        for folder in FOLDERS:
            if (root / folder / name).exists():
                return root / folder / name
        raise DfkdError(f"data=celeba: {root} has no {name}; {way_out}, unpacked")

    def _sizes(self) -> dict[str, int]:
        """Bytes of each file. Raises DfkdError if listed ones are missing."""
        folder = self._find(IMAGES)
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
        listed = [file for part in self._listing.parts.values() for file, _ in part]
        missing = [file for file in listed if file not in sizes]
        if missing:
            raise DfkdError(
                f"{folder} lacks {len(missing):,} of {len(listed):,} listed images, the first of them {missing[0]}; "
                "unpack img_align_celeba.zip again"
            )
        return sizes

    @cached_property
    def _listing(self) -> Lists:
        import numpy

        names, flags = read_attributes(self._find(ATTRIBUTES))
        parts = read_partition(self._find(PARTITION))
        if odd := sorted(flags.keys() ^ parts.keys()):
            raise DfkdError(f"{odd[0]} stands in only one of {ATTRIBUTES} and {PARTITION}; download both again")
        files = {part: [file for file, number in parts.items() if number == part] for part in ("0", "2")}
        if not all(files.values()):
            raise DfkdError(f"{self._find(PARTITION)} has no training or no test images; download it again")
        has = numpy.frombuffer(b"".join(flags[file] for file in files["0"]), numpy.uint8).reshape(-1, len(names))
        shares = dict(zip(names, has.mean(0).tolist(), strict=True))
        self.require_choice("attribute", [MOST_BALANCED, *names])
        name = min(names, key=lambda n: abs(shares[n] - 0.5)) if self.attribute == MOST_BALANCED else self.attribute
        column = names.index(name)
        train, test = ([(file, flags[file][column]) for file in files[part]] for part in ("0", "2"))
        train = train[: self.max_images]
        if len({label for _, label in train}) < 2:
            raise DfkdError(
                f"all {len(train):,} training images are of one class of {name}; change data.attribute or data.max_images"
            )
        return Lists(name, shares[name], {"train": train, "test": test})


def _text(path: Path) -> str:
    try:
        regular_size(path)
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError) as error:
        raise DfkdError(f"{path} cannot be read ({error}); download it again") from error


def read_attributes(path: Path) -> tuple[list[str], dict[str, bytes]]:
    """The attributes' names, and for each file a byte per attribute, 1 where it has it."""
    lines = _text(path).strip().splitlines()
    names = lines[1].split() if len(lines) > 1 else []
    flags = {}
    for number, line in enumerate(lines[2:], start=3):
        file, *values = line.split() or [""]
        if len(values) != len(names) or not set(values) <= {"1", "-1"}:
            raise DfkdError(f"{path}, line {number}, is not a file and {len(names)} times 1 or -1; download it again")
        flags[file] = bytes(value == "1" for value in values)
    if not names or not flags or lines[0].strip() != str(len(lines) - 2) or len(flags) != len(lines) - 2:
        raise DfkdError(
            f"{path} lists {len(flags):,} images but says {lines[0][:20] if lines else 'nothing'}; download it again"
        )
    return names, flags


def read_partition(path: Path) -> dict[str, str]:
    """For each file its part: 0 train, 1 validation, 2 test."""
    parts = {}
    for number, line in enumerate(_text(path).strip().splitlines(), start=1):
        file, *part = line.split() or [""]
        if part not in (["0"], ["1"], ["2"]):
            raise DfkdError(f"{path}, line {number}, is not a file and 0, 1 or 2; download it again")
        parts[file] = part[0]
    return parts
