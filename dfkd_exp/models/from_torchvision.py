"""Networks of torchvision, by name (extra: ``torchvision``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.published import Published, Wanted

if TYPE_CHECKING:
    from torch import Tensor, nn

TRANSFORMING = ("googlenet", "inception_v3")
"""Networks that normalise once more within themselves if they have the published weights, which no weight of theirs says."""


@dataclass
class Torchvision(Published):
    """A classifier of ``torchvision.models``: ``model=resnet18``; with a release travels its name, which is looked up there alone."""

    kind: ClassVar[str] = "torchvision"
    of_weights: ClassVar[tuple[str, ...]] = (*Published.of_weights, "version")

    version: str = "DEFAULT"
    """Which of the weights that are published for it, such as IMAGENET1K_V1; DEFAULT are the best."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the network, besides the number of classes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        of_weights = {"weights", "weights_backbone", "pretrained", "progress", "num_classes"}
        self.require(
            "kwargs",
            isinstance(self.kwargs, dict) and not of_weights & set(self.kwargs),
            "arguments of an architecture",
        )
        if self.pretrained and self.model in TRANSFORMING:
            self.kwargs = {"transform_input": True, **self.kwargs}

    def _models(self) -> Any:
        """``torchvision.models``, once it is known that it has the network."""
        self.imported()
        from torchvision import models

        names = models.list_models(module=models)
        self.require_known(self.model in names, lambda: names, "a classifier of torchvision")
        return models

    def _weights(self) -> Any:
        """An entry of torchvision's enumeration of weights for it."""
        of = self._models().get_model_weights(self.model)
        self.require_choice("version", of.__members__)
        return getattr(of, self.version)

    def wanted(self, inputs: InputSpec) -> Wanted:
        weights = self._weights()
        shown, labels = weights.transforms(), list(weights.meta["categories"])
        size = self.kwargs.get("image_size", shown.crop_size[0])
        return Wanted(len(labels), (3, size, size), self._sized, list(shown.mean), list(shown.std), labels)

    @property
    def _sized(self) -> bool:
        """Whether it is made for one size of images."""
        return self.model.startswith("vit_")

    def make(self, inputs: InputSpec, num_classes: int) -> nn.Module:
        return self._models().get_model(
            self.model, weights=None, num_classes=num_classes, **{**self._of_size(inputs), **self.kwargs}
        )

    def _of_size(self, inputs: InputSpec) -> dict[str, Any]:
        return {"image_size": inputs.shape[1]} if self._sized else {}

    def published(self, inputs: InputSpec) -> Mapping[str, Tensor]:
        network = self._models().get_model(self.model, weights=self._weights(), progress=False, **self.kwargs)
        return network.state_dict()
