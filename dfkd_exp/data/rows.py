"""Images as rows that are taken some at a time, from memory or from files: what a network is trained on may be larger than memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dfkd_exp.errors import DfkdError
from dfkd_exp.files import safetensors_header

DTYPES = {"I64": torch.int64, "U8": torch.uint8, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
"""By the names that safetensors has for them."""
AT_ONCE_BYTES = 2**26
"""Of rows on their way from files to a device."""


@dataclass(frozen=True)
class FileTensor:
    """A tensor ``[N, ...]`` in a safetensors file, of which rows are read when they are taken.

    Not mapped: whoever reads rows here and there of a map has up to 2 MB around each of them in his memory, and the map of every file
    takes one of the descriptors that a process has, often 1,024.
    """

    path: Path
    shape: torch.Size
    dtype: torch.dtype
    offset: int

    @classmethod
    def find(cls, path: Path, name: str) -> FileTensor:
        """The tensor called ``name`` of a file."""
        header, start = safetensors_header(path)
        tensor = header[name]
        return cls(path, torch.Size(tensor["shape"]), DTYPES[tensor["dtype"]], start + tensor["data_offsets"][0])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def take(self, index: Tensor) -> Tensor:
        """Rows ``index[n]``, which ascend; neighbours are read together. Raises DfkdError if the file ends before."""
        taken = torch.empty(len(index), *self.shape[1:], dtype=self.dtype)
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        left = taken.view(-1).view(torch.uint8).numpy().data
        stretches = index.tensor_split((index.diff() != 1).nonzero().squeeze(1) + 1)
        with self.path.open("rb", buffering=0) as file:
            for stretch in stretches:
                file.seek(self.offset + int(stretch[0]) * row_bytes)
                place, left = left[: len(stretch) * row_bytes], left[len(stretch) * row_bytes :]
                if file.readinto(place) != len(place):
                    raise DfkdError(f"{self.path} ends before its tensors do; remove it to have it made again")
        return taken


class Rows:
    """Tensors ``[N, ...]``, in memory or in files, that differ in N alone: one sequence of rows, never made a single tensor."""

    def __init__(self, parts: Sequence[Tensor | FileTensor]):
        self.parts = parts
        self._ends = torch.tensor([len(part) for part in parts]).cumsum(0)

    @classmethod
    def of_files(cls, paths: Sequence[Path], name: str) -> Rows:
        """The tensors called ``name`` of safetensors files."""
        return cls([FileTensor.find(path, name) for path in paths])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def shape(self) -> torch.Size:
        """Of a row."""
        return self.parts[0].shape[1:]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    def take(self, index: Tensor) -> Tensor:
        """Rows ``index[n]``, in that order: a copy. They are read in ascending order, as they lie in the files."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Tensor):
            # Of large images on a CPU, 25 times as fast as tensor[index].
            return self.parts[0].index_select(0, index.to(self.parts[0].device))
        ascending, places = index.sort()
        taken = torch.empty(len(index), *self.shape, dtype=self.parts[0].dtype)
        numbers, counts = torch.bucketize(ascending, self._ends, right=True).unique_consecutive(return_counts=True)
        sections = ascending.split(counts.tolist()), places.split(counts.tolist())
        for number, rows, where in zip(numbers.tolist(), *sections, strict=True):
            part = self.parts[number]
            rows = rows - (int(self._ends[number]) - len(part))
            taken.index_copy_(0, where, part.take(rows) if isinstance(part, FileTensor) else part.index_select(0, rows))
        return taken

    def to(self, device: torch.device) -> Rows:
        """A copy on ``device``, as one tensor."""
        whole = torch.empty(len(self), *self.shape, dtype=self.parts[0].dtype, device=device)
        for index in torch.arange(len(self)).split(max(1, len(self) * AT_ONCE_BYTES // max(1, self.nbytes))):
            whole[index[0] : index[-1] + 1] = self.take(index).to(device)
        return Rows([whole])
