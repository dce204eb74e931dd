"""As if on a GPU, on a machine without one: tensors that say they lie on ``cuda:0`` and hold a CPU's values.

Operations that mix devices raise an error, as they would there; what waits for the device (copies to the host and from it, ``item``, masks
as indices) is counted, with the lines of ours that do it. Kernels are a CPU's, so nothing is learned of rounding or speed.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda:0")
CPU = torch.device("cpu")
aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten._unique2, aten.unique_dim, aten.bincount, aten.equal,
}  # fmt: skip
"""Operations whose result, or its size, the host waits for."""
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
"""Operations that take indices of the CPU beside values of the GPU."""
LIFTING = {aten.lift, aten.lift_fresh, aten.lift_fresh_copy}
LINES = 2
"""Of our lines, the innermost so many say where something waits."""


class MixedDevices(RuntimeError):
    """An operation on tensors of two devices."""


class OnCuda(Tensor):
    """A tensor that says it lies on the GPU; ``held`` has its values."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnCuda:
        self = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",
        )
        self.held = held
        return self

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    def new_tensor(self, data: Any, dtype: torch.dtype | None = None, device: Any = None, **_: Any) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype).to(device or CUDA)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _active().__torch_dispatch__(func, types, args, kwargs)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnCuda({self.held})"

    def tolist(self) -> Any:
        _active().wait("tolist")
        return self.held.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


class AsIfCuda(TorchDispatchMode):
    """The device; ``waits`` counts what the host waited for, by where in our code and what."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: collections.Counter[tuple[str, str]] = collections.Counter()

    def wait(self, what: str) -> None:
        self.waits[_where(), what] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.prim.device.default:
            return args[0].device
        flat = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor | torch.Generator)]
        held = [value for value in flat if isinstance(value, OnCuda)]
        plain = [value for value in flat if isinstance(value, Tensor) and not isinstance(value, OnCuda)]
        on_gpu = bool(held)
        if (device := kwargs.get("device")) is not None:
            on_gpu = torch.device(device).type in ("cuda", "meta")
            kwargs["device"] = CPU
        on_gpu = self._check(func, args, device is not None, held, plain, on_gpu)
        if on_gpu and any(isinstance(value, torch.Generator) for value in flat):
            raise MixedDevices(f"{func}: a CPU's generator for the GPU, at {_where()}")
        with _disable_current_modes():
            own = tree_map(lambda value: value.held if isinstance(value, OnCuda) else value, (args, kwargs))
            result = func(*own[0], **own[1])
        if not on_gpu:
            return result
        known = {id(value.held): value for value in held}  # operations in place give what they were given

        def shown(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return known[id(value)] if id(value) in known else OnCuda(value)

        return tree_map(shown, result)

    def _check(self, func: Any, args: Any, placed: bool, held: list[Any], plain: list[Any], on_gpu: bool) -> bool:
        """Whether the result is on the GPU. Counts what waits; MixedDevices for what a GPU would refuse."""
        packet = func.overloadpacket
        if packet is aten._to_copy:
            if placed and (held and not on_gpu):
                self.wait("copy to the CPU")
            if plain and on_gpu:
                self.wait("copy to the GPU")
        elif packet is aten.copy_:
            target, source = args[0], args[1]
            on_gpu = isinstance(target, OnCuda)
            if isinstance(source, OnCuda) is not on_gpu:
                self.wait("copy to the GPU" if on_gpu else "copy to the CPU")
        elif held and packet not in LIFTING:
            arrays = [value for value in plain if value.dim()]  # a number of the CPU's may stand beside a GPU's tensors
            if packet in INDEXING:
                indices = [index for index in args[1] if index is not None]
                arrays = [value for value in arrays if not any(value is index for index in indices)]
                if not isinstance(args[0], OnCuda):
                    raise MixedDevices(f"{func} at {_where()}")
                if any(not isinstance(index, OnCuda) for index in indices):
                    self.wait("index of the CPU")
                if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                    self.wait("mask as an index")
            if arrays:
                raise MixedDevices(f"{func} of {[tuple(value.shape) for value in arrays]} on the CPU, at {_where()}")
            if packet in WAITING or func is aten.repeat_interleave.Tensor:
                self.wait(str(packet))
        return on_gpu


def _active() -> AsIfCuda:
    assert _devices, "a tensor of the GPU outside `as_cuda`"
    return _devices[-1]


_devices: list[AsIfCuda] = []


def _where() -> str:
    lines: list[str] = []
    frame: Any = sys._getframe()
    while frame is not None and len(lines) < LINES:
        _, ours, path = frame.f_code.co_filename.rpartition("/dfkd_exp/")
        if ours:
            lines.append(f"{path}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(lines) or "?"


MEMORY = 10**9
"""Bytes that are free on the GPU; 900 kB are taken at the peak."""


class Driver:
    """What ``torch.cuda`` says of a GPU. Some of it raises an error until it has been initialised."""

    started = False

    def init(self) -> None:
        self.started = True

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        if not self.started:
            raise RuntimeError("Invalid device argument 0: did you call init?")

    def memory_allocated(self, device: Any = None) -> int:
        return 100_000

    def max_memory_allocated(self, device: Any = None) -> int:
        return 1_000_000

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return MEMORY, 2 * MEMORY

    def get_device_name(self, device: Any = None) -> str:
        return "as if"

    def empty_cache(self) -> None:
        pass

    def _lazy_init(self) -> None:
        pass


@contextmanager
def as_cuda() -> Iterator[AsIfCuda]:
    """Within the context ``cuda:0`` exists, for tensors and modules."""
    future, driver = torch.__future__, Driver()
    names = [name for name in vars(Driver) if callable(getattr(driver, name)) and hasattr(torch.cuda, name)]
    before = future.get_swap_module_params_on_conversion(), torch._C._only_lift_cpu_tensors()
    functions = {name: getattr(torch.cuda, name) for name in names}
    future.set_swap_module_params_on_conversion(
        True
    )  # else a module's parameters could not become others when it moves
    torch._C._set_only_lift_cpu_tensors(True)
    device = AsIfCuda()
    _devices.append(device)
    try:
        for name in names:
            setattr(torch.cuda, name, getattr(driver, name))
        with device:
            yield device
    finally:
        _devices.pop()
        for name, function in functions.items():
            setattr(torch.cuda, name, function)
        future.set_swap_module_params_on_conversion(before[0])
        torch._C._set_only_lift_cpu_tensors(before[1])
