"""How images are made from metadata: what is matched, the budget, and the priors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from dfkd_exp.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from dfkd_exp.metadata.metadata import Metadata
    from dfkd_exp.reconstruction.losses import Targets

SCHEDULES = ("constant", "cosine")
STARTS = ("noise", "metadata")
OPTIMISED = ("pixels", "latents", "auto")


@dataclass
class Reconstruction(Settings):
    """Images that make the teacher's activations fit its metadata, optimised in groups of one class each."""

    flag: ClassVar[str] = "reconstruction"
    images_per_class: int = 500
    """How many images of each class; a multiple of group_size."""
    group_size: int = 100
    """Images per group: the atom of reconstruction, whose result depends on nothing but the seed and its index."""
    steps: int = 200
    """Optimiser steps per group, at most."""
    tolerance: float = 0.0
    """A group is done when its loss has fallen by no more than this share; 0: after all steps. For schedule=constant: a rate
    that falls is converging by itself."""
    patience: int = 20
    """within so many steps, looked at as often."""
    schedule: str = "cosine"
    """Learning rate over the steps: constant, or cosine (falling to zero)."""
    start: str = "noise"
    """noise: Gaussian, the paper's; metadata: the class's mean image, as far as the first layer's statistics give it, and noise."""
    init_mean: float = 0.15
    """Mean of the Gaussian noise that the pixels start from (paper: 0.15 for MNIST, 0.44 for CelebA),"""
    init_std: float = 0.1
    """and its standard deviation (paper: 0.1 and 0.29)."""
    optimise: str = "pixels"
    """pixels: each by itself, the paper's; latents: those of a Gaussian of images that the teacher's weights give, wherever they
    start; auto: latents where the metadata says nothing of the first layer, and pixels otherwise."""
    directions: float = 24.0
    """How many directions images vary in, effectively; with optimise=latents."""
    clamp: bool = True
    """Keep pixels in the data's range, after each step."""
    total_variation: float = 0.0
    """Weight of the mean absolute difference of neighbouring pixels."""
    l2: float = 0.0
    """Weight of the mean squared pixel."""
    blur_sigma: float = 0.0
    """Blur the images with a Gaussian of so many pixels,"""
    blur_every: int = 10
    """every so many steps."""

    def __post_init__(self) -> None:
        for name in ("images_per_class", "group_size", "steps", "patience", "blur_every"):
            self.require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("init_std", "total_variation", "l2", "blur_sigma"):
            self.require(name, getattr(self, name) >= 0, "at least 0")
        self.require(
            "images_per_class",
            self.images_per_class % self.group_size == 0,
            f"a multiple of reconstruction.group_size={self.group_size}",
        )
        self.require("tolerance", 0 <= self.tolerance < 1, "at least 0 and below 1")
        self.require_choice("schedule", SCHEDULES)
        self.require_choice("start", STARTS)
        self.require_choice("optimise", OPTIMISED)
        self.require("directions", self.directions > 1, "above 1")
        self.require(
            "blur_sigma",
            not self.blur_sigma or self.optimise == "pixels",
            "0 unless reconstruction.optimise=pixels: latents cannot be blurred",
        )

    def identity(self) -> dict[str, Any]:
        fields = super().identity()
        if self.optimise == "pixels":  # as they were before there was a choice
            del fields["optimise"], fields["directions"]
        return fields

    def chosen_for(self, teacher: nn.Module, metadata: Metadata) -> Self:
        """The settings with ``optimise: auto`` decided."""
        if self.optimise != "auto":
            return self
        from dfkd_exp.reconstruction.prior import gives_prior, sees_first_layer

        latents = not sees_first_layer(teacher, metadata) and gives_prior(
            teacher, metadata.inputs, self.directions, self.init_mean
        )
        return replace(self, optimise="latents" if latents else "pixels")

    @property
    def groups_per_class(self) -> int:
        return self.images_per_class // self.group_size

    def masks_dropout(self, metadata: Metadata) -> bool:
        """Whether the teacher's units are dropped out by one frozen mask per image."""
        return False

    def draw_targets(self, metadata: Metadata, label: int, generator: torch.Generator) -> Targets:
        """What one group of class ``label`` is to match, per layer; the loop stacks the groups' along a new first dimension."""
        raise NotImplementedError

    def loss(self, activations: list[Tensor], targets: Targets, metadata: Metadata) -> Tensor:
        """Loss per group ``[G]`` of ``activations``, each ``[G, N, *U]``, against the stacked targets."""
        raise NotImplementedError


@dataclass
class Sample(Reconstruction):
    """``match: sample``, the paper's: each image fits its own random draw from the class's Gaussians."""

    relu: bool | None = None
    """Compare after a ReLU; empty: as the paper does, which is with Gaussians, and not with records."""
    normalise: bool = False
    """Divide each layer's error by its mean variance (the paper does not)."""

    def masks_dropout(self, metadata: Metadata) -> bool:
        return metadata.dropout_masks

    def draw_targets(self, metadata: Metadata, label: int, generator: torch.Generator) -> Targets:
        draws: list[list[Tensor]] = [[] for _ in metadata.layers]
        for block, draw in zip(metadata.blocks, metadata.targets(label, self.group_size, generator), strict=True):
            parts = draw.split([metadata.layers[index].num_units for index in block.layers], 1)
            for index, part in zip(block.layers, parts, strict=True):
                draws[index].append(part)
        return [tuple(layer) for layer in draws]

    def loss(self, activations: list[Tensor], targets: Targets, metadata: Metadata) -> Tensor:
        from dfkd_exp.reconstruction.losses import sample_loss

        if self.normalise:
            weights = [1 / max(float(std.square().mean()), 1e-8) for _, std in metadata.layer_moments()]
        else:  # METHOD's table: the mean over a layer's units, or with records the sum
            weights = [float(layer.num_units) if metadata.has_records else 1.0 for layer in metadata.layers]
        return sample_loss(activations, targets, not metadata.has_records if self.relu is None else self.relu, weights)


@dataclass
class Moments(Reconstruction):
    """``match: moments``: a group's means and deviations fit the class's, and its logits fit random draws."""

    logits_weight: float = 1.0
    """Weight of the sampled logits."""
    shrinkage: float = 0.01
    """A unit's error is divided by its own variance in the class, shrunk this far towards its layer's mean: 1 is METHOD's formula."""

    covariance_weight: float = 0.0
    """Weight of the covariances within each layer, where the metadata knows them,"""
    covariance_directions: int = 32
    """along so many directions, those in which the class varies most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("covariance_weight", self.covariance_weight >= 0, "at least 0")
        self.require("covariance_directions", self.covariance_directions >= 1, "at least 1")
        self.require("group_size", self.group_size >= 2, "at least 2: one image has no deviation")
        self.require("logits_weight", self.logits_weight >= 0, "at least 0")
        self.require("shrinkage", 0 < self.shrinkage <= 1, "above 0 and at most 1")

    def draw_targets(self, metadata: Metadata, label: int, generator: torch.Generator) -> Targets:
        logits = metadata.draw_logits(label, self.group_size, generator)
        layers: Targets = [(mean[label], std[label]) for mean, std in metadata.layer_moments()]
        if self.covariance_weight:
            directions = metadata.layer_whitening(self.covariance_directions)
            layers = [(*layer, rows[label]) for layer, rows in zip(layers, directions, strict=True)]
        return [*layers[:-1], (*layers[-1], logits)]

    def loss(self, activations: list[Tensor], targets: Targets, metadata: Metadata) -> Tensor:
        from dfkd_exp.reconstruction.losses import covariance_loss, moment_loss

        means, deviations = [layer[0] for layer in targets], [layer[1] for layer in targets]
        loss = moment_loss(activations, means, deviations, targets[-1][-1], self.logits_weight, self.shrinkage)
        if self.covariance_weight:
            loss = loss + self.covariance_weight * covariance_loss(activations, [layer[2] for layer in targets])
        return loss

    def identity(self) -> dict[str, Any]:
        fields = super().identity()
        if not self.covariance_weight:  # as they were before there was a choice
            del fields["covariance_weight"], fields["covariance_directions"]
        return fields


MATCHES: dict[str, type[Reconstruction]] = {"sample": Sample, "moments": Moments}
