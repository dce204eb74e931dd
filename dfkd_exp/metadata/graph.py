"""The graph of a network's recorded units: the weights between consecutive layers, applied and not stored."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.layers import Layer, main_output, with_main_output
from dfkd_exp.models.recording import frozen, recording

T = TypeVar("T")

ELEMENTS_AT_ONCE = 2**22
"""Inputs and outputs that a block works on at a time where it forms its matrix: 32 MiB."""

NON_AFFINE = 1e-4
"""A map whose values differ by more than so much, relatively, from those of its derivative is not affine."""

ACTIVATIONS = (
    *("relu", "relu6", "hardtanh", "clamp", "clip", "clamp_min", "clamp_max", "threshold", "leaky_relu", "prelu"),
    *("rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "softplus", "softsign", "tanh", "tanhshrink", "sigmoid"),
    *("logsigmoid", "hardswish", "hardsigmoid", "hardshrink", "softshrink", "dropout", "dropout1d", "dropout2d"),
    *("dropout3d", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"),
)


def _identity(input: Tensor, *_arguments: Any, **_options: Any) -> Tensor:
    return input


def _averaging(average: Callable[..., Tensor], largest: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``average``-pooling with the arguments and windows of ``largest``, a max-pooling, which never chooses from its padding."""

    def pool(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        if torch.tensor(dilation).ne(1).any():  # there is no dilated average; left as it is, it is not affine
            return largest(input, kernel_size, stride, padding, dilation, ceil_mode)
        return average(input, kernel_size, stride or kernel_size, padding, ceil_mode, count_include_pad=False)

    return pool


REPLACEMENTS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    **{
        getattr(home, name + ending): _identity
        for home in (torch, F, Tensor)
        for name in ACTIVATIONS
        for ending in ("", "_")
        if hasattr(home, name + ending)
    },
    **{largest: _averaging(F.avg_pool1d, largest) for largest in (F.max_pool1d, torch.max_pool1d)},
    **{largest: _averaging(F.avg_pool2d, largest) for largest in (F.max_pool2d, torch.max_pool2d)},
}


class Linearised(TorchFunctionMode):
    """Within it, activations and dropout are the identity and max-pooling is average-pooling, in modules and functions.

    Only for what gradients flow through; what does not depend on the layer in question is computed as ever.
    Source: docs/method.md, "Graph Fourier transform"; the paper does not say what joins two units across them.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is Tensor.float:  # the network's copy computes in float64
            return args[0].double()
        if function in REPLACEMENTS and (args[0] if args else kwargs["input"]).requires_grad:
            return REPLACEMENTS[function](*args, **kwargs)
        return function(*args, **kwargs)


class Block:
    """The linear map from one layer's units to the next one's: ``W[num_outputs, num_inputs]``, in float64 on the CPU."""

    num_inputs: int
    num_outputs: int

    def apply(self, inputs: Tensor) -> Tensor:
        """``W`` times each row of ``inputs[N, num_inputs]``: ``[N, num_outputs]``."""
        raise NotImplementedError

    def apply_transpose(self, outputs: Tensor) -> Tensor:
        """``W^T`` times each row of ``outputs[N, num_outputs]``: ``[N, num_inputs]``."""
        raise NotImplementedError

    def matrix(self) -> Tensor:
        """``W[num_outputs, num_inputs]`` itself, from the unit vectors of its smaller side."""
        ahead = self.num_inputs <= self.num_outputs
        units = torch.eye(min(self.num_inputs, self.num_outputs), dtype=torch.float64)
        at_once = max(1, ELEMENTS_AT_ONCE // (self.num_inputs + self.num_outputs))
        parts = [self.apply(part) if ahead else self.apply_transpose(part) for part in units.split(at_once)]
        return torch.cat(parts).T if ahead else torch.cat(parts)


class NetworkBlock(Block):
    """The map that a network computes between two of its recorded layers, for `Linearised` activations.

    The network runs once, on one blank image and with the earlier layer's output replaced. The recorded derivative is W^T;
    the derivative of that, W. Raises DfkdError if the map is not affine.
    """

    def __init__(self, network: nn.Module, earlier: Layer, later: Layer, image_shape: Sequence[int]):
        self.num_inputs, self.num_outputs = earlier.num_units, later.num_units
        origin = torch.zeros(self.num_inputs, dtype=torch.float64, requires_grad=True)
        probe = torch.randn(self.num_inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

        def run(values: Tensor) -> Tensor:
            blank = torch.zeros(1, *image_shape, dtype=torch.float64)

            def replaced(_module: nn.Module, _inputs: object, output: object) -> object:
                shape = main_output(output, earlier.name).shape
                return with_main_output(output, values.view(shape).clone())  # since what follows may work in place

            handle = network.get_submodule(earlier.name).register_forward_hook(replaced)
            # Of other kernels of attention there is no second derivative.
            exact = sdpa_kernel(SDPBackend.MATH)
            try:
                with torch.enable_grad(), Linearised(), exact, recording(network, [later.name]) as recorder:
                    # A layer that does not see the earlier one has a derivative too: zero.
                    return recorder(blank)[0].flatten() + 0 * values.sum()
            finally:
                handle.remove()

        self._input, self._output = origin, run(origin)
        self._cotangent = torch.zeros(self.num_outputs, dtype=torch.float64, requires_grad=True)
        [self._derivative] = torch.autograd.grad(self._output, origin, self._cotangent, create_graph=True)
        expected = self.apply(probe[None])[0]
        actual = (run(probe.requires_grad_(True)) - self._output).detach()
        if not (actual - expected).norm() <= NON_AFFINE * expected.norm():
            raise DfkdError(
                f"the map from layer {earlier.name!r} to layer {later.name!r} is not affine, even without its activations, so the graph "
                "has no weights between them; set metadata.graph=coactivation, or name other layers in metadata.layers"
            )

    def apply(self, inputs: Tensor) -> Tensor:
        return _vector_products(self._derivative, self._cotangent, inputs)

    def apply_transpose(self, outputs: Tensor) -> Tensor:
        return _vector_products(self._output, self._input, outputs)


class FactorBlock(Block):
    """``W = left^T right``, from ``left[R, num_outputs]`` and ``right[R, num_inputs]``."""

    def __init__(self, left: Tensor, right: Tensor):
        self.left, self.right = (factor.detach().cpu().double() for factor in (left, right))
        self.num_inputs, self.num_outputs = right.shape[1], left.shape[1]

    def apply(self, inputs: Tensor) -> Tensor:
        return inputs @ self.right.T @ self.left

    def apply_transpose(self, outputs: Tensor) -> Tensor:
        return outputs @ self.left.T @ self.right


def weight_blocks(teacher: nn.Module, layers: Sequence[Layer], image_shape: Sequence[int]) -> list[Block]:
    """The blocks between consecutive ``layers`` of a teacher that takes images of ``image_shape``, which is ``(C, H, W)``.

    A copy of the teacher does the work. Raises DfkdError for a single layer, or a map between two that is not affine.
    """
    network = frozen(copy.deepcopy(teacher)).cpu().double()
    return [NetworkBlock(network, one, two, image_shape) for one, two in _pairs(layers)]


def coactivation_blocks(means: Sequence[Tensor]) -> list[Block]:
    """The blocks between consecutive layers from their class means ``means[l][K, U_l]``: ``1/K sum_c mu_{l+1,c} mu_{l,c}^T``.

    Source: the authors' public code, which joins units by the outer products of their mean activations.
    Raises DfkdError for a single layer.
    """
    return [FactorBlock(later / len(later), earlier) for earlier, later in _pairs(means)]


def _pairs(layers: Sequence[T]) -> list[tuple[T, T]]:
    if len(layers) < 2:
        raise DfkdError(
            "a graph joins consecutive recorded layers, and there is only one; name more in metadata.layers"
        )
    return list(itertools.pairwise(layers))


def _vector_products(outputs: Tensor, inputs: Tensor, vectors: Tensor) -> Tensor:
    """Each row of ``vectors[N, outputs]`` times the derivative of ``outputs`` by ``inputs``: ``[N, inputs]``."""
    return torch.autograd.grad(outputs, inputs, vectors, retain_graph=True, is_grads_batched=True)[0]
