"""How made images vary beside real ones, layer by layer of the teacher: what statistics did not say shows here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfkd_exp.data.images import LabelledImages
from dfkd_exp.inputs import InputSpec, unit_pixels
from dfkd_exp.models.layers import Layer
from dfkd_exp.models.recording import borrowed, device_of, find_layers, recording
from dfkd_exp.models.styles import FLOOR, Styles
from dfkd_exp.training.transfer_set import TransferSet

FEWEST = 20
"""Images of a class, made and real, by which deviations within it are known at all."""
LEAST = 1e-4
"""A channel that deviates by less is dead: nothing is divided by that."""


@dataclass(frozen=True)
class LayerLikeness:
    """Of one ``layer``, by its title, deviations of made images divided by those of real ones, within classes: medians over channels and
    classes. None for what no channel of the real images has."""

    layer: str
    overall: float | None
    """Of a channel's values, wherever and in whichever image they are: what `channels` keeps."""
    between: float | None
    """Of a channel's mean in an image, from image to image."""
    contrast: float | None
    """Of the logarithm of a channel's deviation within an image, from image to image; None where there are no locations."""

    def plain(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def to_compare(
    transfer_set: TransferSet, training: LabelledImages, most: int, seed: int
) -> tuple[LabelledImages, LabelledImages]:
    """Some images like those that a student is shown, and some ``training`` images; all of one class where the former have no labels."""
    shown = next(transfer_set.sample(most, seed))
    order = torch.randperm(len(training), generator=torch.Generator().manual_seed(seed))
    real = training.select(order[:most])
    if shown.labels is None:
        real = LabelledImages(real.images, torch.zeros_like(real.labels))
    labels = torch.zeros(len(shown), dtype=torch.long) if shown.labels is None else shown.labels
    return LabelledImages(unit_pixels(shown.pixels), labels), real


def likeness(teacher: nn.Module, made: LabelledImages, real: LabelledImages, inputs: InputSpec) -> list[LayerLikeness]:
    """Of each layer with weights but the logits, unless they are the only one; of BatchNorm its input. Images are pixels
    ``[N, *shape]``, on any device.

    Classes of at least FEWEST images, made and real, are compared one by one; where there are none, all images together.
    """
    example = inputs.example().to(device_of(teacher))
    layers = find_layers(teacher, example, batch_norm="input")
    layers = layers[:-1] or layers
    classes = [
        label
        for label in made.labels.unique().tolist()
        if min(int((images.labels == label).sum()) for images in (made, real)) >= FEWEST
    ]
    groups = [[images.labels == label for images in (made, real)] for label in classes]
    groups = groups or [[torch.ones_like(images.labels, dtype=torch.bool) for images in (made, real)]]
    seen = zip(*(_styles(teacher, layers, images.images, inputs) for images in (made, real)), strict=True)
    found = []
    for layer, styles in zip(layers, seen, strict=True):
        pairs = [[_deviations(own[rows], layer) for own, rows in zip(styles, both, strict=True)] for both in groups]
        ratios = [_ratio([(of_made[i], of_real[i]) for of_made, of_real in pairs]) for i in range(3)]
        found.append(LayerLikeness(layer.title, *ratios))
    return found


def _styles(teacher: nn.Module, layers: Sequence[Layer], pixels: Tensor, inputs: InputSpec) -> list[Tensor]:
    """Of each layer the styles of all images, ``[N, 2 C]``; of vectors the values themselves, ``[N, C]``."""
    seen: list[list[Tensor]] = [[] for _ in layers]
    with torch.no_grad(), borrowed(teacher), recording(teacher, layers) as recorder:
        for batch in pixels.split(inputs.images_at_once):
            for own, layer, values in zip(
                seen, layers, recorder(inputs.from_pixels(batch.to(device_of(teacher)))), strict=True
            ):
                found = (
                    Styles(layer).gathered(values.float()).squeeze(1)
                    if _has_locations(layer)
                    else values.flatten(1).float()
                )
                own.append(found.cpu())
    return [torch.cat(own) for own in seen]


def _has_locations(layer: Layer) -> bool:
    return layer.num_units > layer.num_channels


def _deviations(styles: Tensor, layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
    """Overall, between images, and of contrast, ``[C]`` each."""
    if not _has_locations(layer):
        return styles.std(0), styles.std(0), styles.new_zeros(0)
    means, logs = styles.double().chunk(2, 1)
    within = ((2 * logs).exp() - FLOOR).clamp_min(0).mean(0)
    return (within + means.var(0)).sqrt(), means.std(0), logs.std(0)


def _ratio(groups: list[tuple[Tensor, Tensor]]) -> float | None:
    """The median of made by real."""
    ratios = torch.cat([made[real > LEAST] / real[real > LEAST] for made, real in groups])
    return float(ratios.median()) if len(ratios) else None
