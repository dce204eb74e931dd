"""Batches of images and labels as people's loaders give them, made the one form in which they are used."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief, in_brief
from dfkd_exp.inputs import require_floating

IMAGES = ("pixel_values", "image", "images", "img", "imgs", "input", "inputs", "data", "x")
LABELS = ("labels", "label", "targets", "target", "y")
"""Keys of a batch that is a dict."""


def images_and_labels(batch: Any) -> tuple[Tensor, Tensor]:
    """The images ``[N, …]`` (float32) and labels, not yet looked at, of a batch: a pair, of which more entries are left out with a warning,
    or a dict with one of `IMAGES` and one of `LABELS`. Raises DfkdError, in one line, for anything else."""
    if isinstance(batch, Mapping):
        images, labels = (_entry(batch, keys) for keys in (IMAGES, LABELS))
    elif isinstance(batch, tuple | list) and len(batch) >= 2:
        images, labels = batch[:2]
        if len(batch) > 2:
            warnings.warn(
                f"batches have {len(batch)} entries; the first is taken for the images, the second for the labels",
                stacklevel=2,
            )
    else:
        raise DfkdError(
            f"a batch must be (images, labels), or a dict of them, got {_described(batch)}; of a data set make batches with "
            "torch.utils.data.DataLoader"
        )
    images, labels = as_images(images), _tensor(labels, "labels")
    if labels.dim() == 0 or not len(images) == len(labels) > 0:
        raise DfkdError(
            f"a batch has images of shape {list(images.shape)} and labels of shape {list(labels.shape)}, which must be as many; of a data "
            "set make batches with torch.utils.data.DataLoader"
        )
    return images, labels


def as_images(images: Any) -> Tensor:
    """Inputs as a network takes them, float32. Raises DfkdError for whole numbers: what the teacher takes for a byte is not known."""
    images = _tensor(images, "images")
    require_floating(images)
    return images.float()


def class_numbers(labels: Any, num_classes: int) -> Tensor:
    """Labels as int64 ``[N]``, on the CPU: of whole numbers of any type, in one column or none, or of one-hot rows ``[N, K]``.

    Raises DfkdError for labels that name no class, or are not 0 to K - 1.
    """
    labels = _tensor(labels, "labels").detach().cpu()
    if labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dim() == 2 and labels.shape[1] == num_classes:
        if not bool(((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all()):
            raise DfkdError(
                f"labels of shape {list(labels.shape)} must have a single 1 in each row, and else 0; images of several classes, or of "
                "shares of them, have no statistics by class: give the class that is largest, labels.argmax(1)"
            )
        labels = labels.long().argmax(1)
    if labels.dim() != 1:
        raise DfkdError(
            f"labels must be a class for each image, [N] or one-hot [N, {num_classes}], got {list(labels.shape)}"
        )
    numbers = labels.long()
    if not torch.equal(numbers.to(labels.dtype), labels):
        raise DfkdError(f"labels must be whole numbers, the classes, got {float(labels[numbers != labels][0]):g}")
    unknown = numbers[(numbers < 0) | (numbers >= num_classes)]
    if len(unknown):
        raise DfkdError(f"labels must be 0 to {num_classes - 1}, the teacher's classes; got {int(unknown[0])}")
    return numbers


def num_classes_seen(labels: list[Tensor]) -> int | None:
    """As many classes as there are at least in batches of labels; None where that cannot be said."""
    one_hot = {part.shape[1] for part in labels if part.dim() == 2 and part.shape[1] > 1}
    if one_hot:
        return one_hot.pop()
    return int(max(part.max() for part in labels)) + 1 if labels else None


def _entry(batch: Mapping[Any, Any], keys: tuple[str, ...]) -> Any:
    found = [key for key in batch if str(key).lower() in keys]
    if len(found) != 1:
        raise DfkdError(
            f"a batch has the keys {brief(', '.join(map(str, batch)))}, of which one must be one of {', '.join(keys)}; give pairs: "
            "((batch[…], batch[…]) for batch in loader)"
        )
    return batch[found[0]]


def _tensor(values: Any, what: str) -> Tensor:
    try:
        if isinstance(values, tuple | list) and values and isinstance(values[0], Tensor):
            return torch.stack(list(values))
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        hint = "all of one size" if what == "images" else "numbers, the classes from 0"
        raise DfkdError(
            f"the {what} of a batch must be a tensor, or what becomes one ({hint}): {in_brief(error)}"
        ) from error


def _described(batch: Any) -> str:
    return f"a single tensor of shape {list(batch.shape)}" if isinstance(batch, Tensor) else type(batch).__name__
