"""A data set in CelebA's layout, small enough for any test."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

NAMES = ["Bald", "Smiling", "Young"]
TRAIN, VALID, TEST = 30, 6, 12


def attributes_of(number: int) -> list[bool]:
    """Bald: one in ten; Smiling: every other; Young: two in three."""
    return [number % 10 == 0, number % 2 == 1, number % 3 != 0]


def make_celeba(root: Path) -> Path:
    """48 faces: a middle square that is bright where they smile, between stripes that the crop leaves out."""
    (root / "img_align_celeba").mkdir(parents=True)
    rows, parts = [], []
    for number in range(TRAIN + VALID + TEST):
        flags = attributes_of(number)
        face = Image.new("RGB", (178, 218), (255, 0, 0))
        face.paste((0, 200 if flags[1] else 50, number), (0, 20, 178, 198))
        file = f"{number + 1:06d}.jpg"
        face.save(root / "img_align_celeba" / file, quality=95, subsampling=0)
        rows.append(f"{file} " + " ".join(" 1" if flag else "-1" for flag in flags))
        parts.append(f"{file} {(number >= TRAIN) + (number >= TRAIN + VALID)}")
    (root / "list_attr_celeba.txt").write_text("\n".join([str(len(rows)), " ".join(NAMES) + " ", *rows]) + "\n")
    (root / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return root
