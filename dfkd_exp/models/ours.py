"""The networks that come with the project, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.kind import Network
from dfkd_exp.settings import under_flag

if TYPE_CHECKING:
    from torch import nn

BUILDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("networks.mlp", {}),
    "cnn": ("networks.Cnn", {}),
    "cnn_half": ("networks.Cnn", {"width": 16}),
    "cnn_bn": ("networks.CnnBatchNorm", {}),
    "cnn_bn_half": ("networks.CnnBatchNorm", {"width": 16}),
    "hinton_net": ("networks.HintonNet", {}),
    "hinton_net_800": ("networks.HintonNet800", {}),
    "lenet5": ("networks.LeNet5", {}),
    "lenet5_half": ("networks.LeNet5Half", {}),
    "lenet5_half_dafl": ("networks.LeNet5HalfDafl", {}),
    "alexnet": ("alexnet.AlexNet", {}),
    "alexnet_half": ("alexnet.AlexNet", {"widths": (32, 96, 192, 192, 128, 2048, 2048)}),
    "resnet8": ("resnet.SmallResNet", {"blocks": 1}),
    "resnet18": ("resnet.ResNet", {}),
    "resnet18_half": ("resnet.ResNet", {"widths": (32, 64, 128, 256)}),
    "resnet20": ("resnet.SmallResNet", {"blocks": 3}),
    "resnet32": ("resnet.SmallResNet", {"blocks": 5}),
    "resnet34": ("resnet.ResNet", {"blocks": (3, 4, 6, 3)}),
    "resnet56": ("resnet.SmallResNet", {"blocks": 9}),
    "wrn_16_1": ("wide_resnet.WideResNet", {"depth": 16, "width": 1}),
    "wrn_16_2": ("wide_resnet.WideResNet", {"depth": 16, "width": 2}),
    "wrn_40_1": ("wide_resnet.WideResNet", {"depth": 40, "width": 1}),
    "wrn_40_2": ("wide_resnet.WideResNet", {"depth": 40, "width": 2}),
    "vgg11": ("vgg.Vgg11", {}),
    "mobilenet_v2": ("mobilenet.MobileNetV2", {}),
}
"""Of each name the class or function in this folder, and the arguments that make it this network. As text, so that a wrong name is answered
before torch is loaded."""


def builder(name: str) -> Callable[..., nn.Module]:
    """What makes the network called ``name``: ``builder(name)(image_shape, num_classes, **kwargs)``."""
    place, arguments = BUILDERS[name]
    module, _, attribute = place.partition(".")
    return partial(getattr(import_module(f"dfkd_exp.models.{module}"), attribute), **arguments)


@dataclass
class Ours(Network):
    """One of the project's networks. A release that names one needs nothing else to be read."""

    kind: ClassVar[str] = "ours"

    name: str = "mlp"
    """Which of the project's networks."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the network, besides the shape of the inputs and the number of classes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("name", BUILDERS)

    @property
    def title(self) -> str:
        return self.name

    def make(self, inputs: InputSpec, num_classes: int) -> nn.Module:
        return builder(self.name)(inputs.shape, num_classes, **self.kwargs)

    def architecture(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.name, "kwargs": self.kwargs}

    def completed(self, architecture: dict[str, Any]) -> Ours | None:
        """The network that the release names, if it is one of the project's."""
        if architecture["kind"] != self.kind or architecture["name"] not in BUILDERS:
            return None
        with under_flag(self.flag):
            return Ours(name=architecture["name"], kwargs=architecture["kwargs"])
