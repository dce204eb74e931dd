"""A prior of images from the teacher's weights: latents, which become pixels through the directions that these prefer."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from dfkd_exp.console import Progress
from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec, Shape
from dfkd_exp.metadata.fourier import leading_triplets
from dfkd_exp.metadata.graph import Block, NetworkBlock
from dfkd_exp.metadata.metadata import ResolvedMetadata
from dfkd_exp.models.layers import Layer
from dfkd_exp.models.recording import borrowed, device_of, find_layers, frozen, recording, weights_digest

SPREAD = 0.3
"""Standard deviation, root mean square over the pixels, of the prior's images; MNIST's own is 0.31."""

MOST_DIRECTIONS = 256
"""Of the weights' map at most so many are kept,"""
LARGEST_MATRIX = 2**27
"""and where it has more elements than this, only the leading ones are computed, by Lanczos iterations:"""
LANCZOS = 4
"""so many times the effective number asked for."""
PRODUCTS = 2.5
"""So many products with the matrix they take for each of them, about, for the estimate of the time left."""


@dataclass(frozen=True)
class WeightsPrior:
    """Images ``mean + latents @ basis``, a Gaussian process of pixels for standard normal latents: ``basis[D, pixels]``,
    ``mean`` of each channel or of all, ``[C, 1, …]``."""

    basis: Tensor
    mean: Tensor
    shape: Shape

    def to(self, device: torch.device) -> WeightsPrior:
        return replace(self, basis=self.basis.to(device), mean=self.mean.to(device))

    def __call__(self, latents: Tensor) -> Tensor:
        """Pixels ``[N, *shape]`` of ``latents[N, D]``, some of them beyond black and white."""
        return self.mean + (latents @ self.basis).view(-1, *self.shape)


def weights_prior(teacher: nn.Module, inputs: InputSpec, directions: float, mean: tuple[float, ...]) -> WeightsPrior:
    """The prior that a teacher's weights give: they were trained on what the images have in common.

    Gradient descent changes the weights of a first layer by multiples of its inputs, so that the directions in which the
    weights are large are those in which the training images vary. With ``J`` the linear map from the pixels to the first
    dense layer (activations as the identity, max- as average-pooling) and ``J = U diag(s) V^T``, pixels are given the
    covariance ``V diag(s^2p) V^T``, scaled to `SPREAD`. ``p`` is what makes the effective number of directions, the exponential of
    the variances' entropy, the ``directions`` asked for.

    ``mean``: of the pixels of each channel, or of all. Source: ours. Raises DfkdError if the teacher has no dense layer before its
    logits, or the map to it is not affine.
    """
    return _prior(weights_digest(teacher), teacher, inputs, directions, mean)


@lru_cache(maxsize=1)
def _prior(
    _digest: str, teacher: nn.Module, inputs: InputSpec, directions: float, mean: tuple[float, ...]
) -> WeightsPrior:
    """Kept, since it takes seconds and the choice of the engine asks for it again and again."""
    block = first_dense_block(teacher, inputs)
    low, high = inputs.bounds(torch.zeros(1, dtype=torch.float64))
    scale = (high - low).expand(inputs.shape).flatten()  # the block's inputs are the network's, not pixels
    singular, vectors = _leading(block, scale, math.ceil(LANCZOS * directions))
    variances = _tempered(singular, directions)
    basis = variances.sqrt()[:, None] * vectors * math.sqrt(vectors.shape[1]) * SPREAD
    return WeightsPrior(basis.float(), torch.tensor(mean).view(-1, *[1] * (len(inputs.shape) - 1)), inputs.shape)


def first_dense_block(teacher: nn.Module, inputs: InputSpec) -> NetworkBlock:
    """The linear map from a network's inputs to its first dense layer, in float64. Raises DfkdError, as `weights_prior` does."""
    network = frozen(copy.deepcopy(teacher)).cpu().double()
    dense, *others = find_layers(network, inputs.example().double(), "dense")
    if not others:  # the logits alone
        raise DfkdError(
            "the teacher has no dense layer before its logits, whose weights could say how images look; set parametrisation=pixels"
        )
    seen = nn.Sequential(nn.Identity(), network)
    try:
        return NetworkBlock(seen, Layer("0", inputs.shape), Layer(f"1.{dense.name}", dense.shape), inputs.shape)
    except DfkdError as error:
        raise DfkdError(
            f"the map from the pixels to the teacher's layer {dense.name!r} is not affine, even without its activations; "
            "set parametrisation=pixels"
        ) from error


def sees_first_layer(teacher: nn.Module, metadata: ResolvedMetadata) -> bool:
    """Whether the metadata says anything of the teacher's first layer, and so of how images look."""
    example = metadata.inputs.example().to(device_of(teacher))
    first = find_layers(teacher, example)[0]
    if any((layer.name, layer.side) == (first.name, first.side) for layer in metadata.layers):
        return True
    behind = next((layer for layer in metadata.layers if layer.side == "input"), None)
    if behind is None:
        return False
    with torch.no_grad(), borrowed(teacher), recording(teacher, [first, behind]) as recorder:
        output, taken = recorder(example)
    return torch.equal(output, taken)  # as BatchNorm's input the first layer's output is recorded too


def gives_prior(teacher: nn.Module, inputs: InputSpec, directions: float, mean: tuple[float, ...]) -> bool:
    """Whether there is a `weights_prior`."""
    try:
        weights_prior(teacher, inputs, directions, mean)
    except DfkdError:
        return False
    return True


def _leading(block: Block, scale: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Singular values ``[D]``, descending, and right singular vectors ``[D, pixels]`` of the block on pixels; ``count`` if it is large."""
    shape = (block.num_outputs, block.num_inputs)
    if math.prod(shape) <= LARGEST_MATRIX:
        _, singular, vectors = torch.linalg.svd(block.matrix() * scale, full_matrices=False)
    else:
        rank = min(count, MOST_DIRECTIONS, min(shape) - 1)
        with Progress("directions of the teacher's weights", math.ceil(PRODUCTS * rank)) as progress:

            def apply(pixels: Tensor) -> Tensor:
                progress.advance(len(pixels))
                return block.apply(pixels * scale)

            _, singular, vectors = leading_triplets(
                apply, lambda units: block.apply_transpose(units) * scale, shape, rank
            )
    return singular[:MOST_DIRECTIONS], vectors[:MOST_DIRECTIONS]


def _tempered(singular: Tensor, directions: float) -> Tensor:
    """Variances ``s^2p``, summing to 1, whose effective number is ``directions``, or as near as it can be."""
    logs = 2 * (singular / singular[0]).clamp_min(1e-12).log()

    def variances(power: float) -> Tensor:
        return (power * logs).softmax(0)

    low, high = 0.0, 64.0
    for _ in range(50):
        power = (low + high) / 2
        if effective_number(variances(power)) > directions:
            low = power
        else:
            high = power
    return variances(high)


def effective_number(variances: Tensor) -> float:
    """The exponential of the entropy of ``variances`` that sum to 1: D where all are alike, 1 where there is but one."""
    return math.exp(torch.special.entr(variances).sum().item())
