"""How exactly a device multiplies float32 numbers: a GPU's TF32 keeps 10 of 23 bits of them, and is what its convolutions use unasked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch


def _places() -> list[Any]:
    """Where PyTorch keeps it, for each library and operation."""
    backends: Any = torch.backends
    return [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul]


@contextmanager
def exact() -> Iterator[None]:
    """Within the context float32 products and convolutions, and their gradients, are IEEE's on every device: for what is solved, tested
    or kept, and compared with what another machine computes."""
    with multiplied_as(tf32=False):
        yield


@contextmanager
def multiplied_as(tf32: bool) -> Iterator[None]:
    """Within the context a GPU multiplies float32 numbers in TF32, or exactly. It is a setting of the process: of all its threads.

    PyTorch has two interfaces to it, which refuse to be read where they disagree. The older sets both, so it is used; what either said is
    restored.
    """
    before = [place.fp32_precision for place in _places()]
    products, convolutions = "highest", True  # PyTorch's own, if the older one cannot be read: then nobody has used it
    with suppress(RuntimeError):
        products = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        convolutions = torch.backends.cudnn.allow_tf32
    try:
        _set("high" if tf32 else "highest", tf32)
        for place in _places()[:3]:  # what is not said there is inherited from what is said for all
            place.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        _set(products, convolutions)
        for place, precision in zip(_places(), before, strict=True):
            place.fp32_precision = precision


def _set(products: str, convolutions: bool) -> None:
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions
