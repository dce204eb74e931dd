"""Networks of timm, by name (extra: ``timm``)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.published import Published, Wanted
from dfkd_exp.models.weight_files import Loaded

if TYPE_CHECKING:
    from torch import Tensor, nn

OF_THE_BUILDER = {
    "num_classes", "features_only", "feature_cfg", "feature_cls", "out_indices", "model_cls", "model_cfg", "variant", "kwargs_filter",
    "pretrained_strict", "pretrained_filter_fn", "pretrained_model_args",
}  # fmt: skip
"""Arguments that timm passes on to what builds any network, beside those of its ``create_model``: no part of an architecture."""
USED_AT_IMPORT = (
    "torchvision", "torchvision.datasets", "torchvision.ops", "torchvision.ops.misc", "torchvision.transforms",
    "torchvision.transforms.functional",
)  # fmt: skip
"""What timm takes names from while it is imported: for loading images, which is not used here, and to tell layers apart."""


@dataclass
class Timm(Published):
    """A network of timm's registry: ``model=resnet18.a1_in1k``; with a release travels its name, which is looked up there and nowhere
    else."""

    kind: ClassVar[str] = "timm"

    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the network, besides the number of classes; in_chans, and img_size where it is fixed, are otherwise the data's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("kwargs", isinstance(self.kwargs, dict), "arguments by name")

    def imported(self) -> Any:
        with _without_torchvision():
            return super().imported()

    def _registry(self) -> Any:
        """timm, once it is known that it has the network."""
        timm = self.imported()
        name, _, tag = self.model.partition(".")
        known = not set(self.model) & set("/\\:") and timm.is_model(name)
        tags = [*timm.models.get_arch_pretrained_cfgs(name)] if known else []
        self.require_known(
            known and (not tag or self.model in tags), lambda: tags or timm.list_models(), "a network of timm"
        )
        return timm

    def _description(self) -> Any:
        """timm's own, of the published weights."""
        found = self._registry().get_pretrained_cfg(self.model)
        if self.pretrained and self.checkpoint is None and not (found and found.has_weights):
            raise DfkdError(
                f"{self.named('model')}={self.model}: timm has no weights for it; {self.named('pretrained')}=false trains fresh ones"
            )
        return found

    def wanted(self, inputs: InputSpec) -> Wanted:
        of = self._description()
        if of is None:
            return Wanted(0, inputs.shape, False, [], [])
        channels, *size = of.input_size
        size = self.kwargs.get("img_size", size)
        height, width = size if isinstance(size, list | tuple) else (size, size)
        shape = (self.kwargs.get("in_chans", channels), height, width)
        return Wanted(of.num_classes, shape, of.fixed_input_size, list(of.mean), list(of.std))

    def make(self, inputs: InputSpec, num_classes: int) -> nn.Module:
        return self._created(inputs, num_classes=num_classes)

    def _created(self, inputs: InputSpec, **options: Any) -> nn.Module:
        timm, of = self._registry(), self._description()
        reserved = OF_THE_BUILDER | set(signature(timm.create_model).parameters)
        if refused := sorted(reserved & set(self.kwargs)):
            raise DfkdError(
                f"{self.named('kwargs')}: {brief(', '.join(refused))} cannot be set; they are no part of an architecture"
            )
        own: dict[str, Any] = {"in_chans": inputs.shape[0]}
        if of is not None and of.fixed_input_size:
            own["img_size"] = inputs.shape[1:]
        return timm.create_model(self.model, **{**own, **self.kwargs, "pretrained": False, **options})

    def give_weights(self, network: nn.Module, inputs: InputSpec) -> Loaded | None:
        """A checkpoint that is to be trained may be the published file: timm drops the head of other classes."""
        return self.take_over(network, inputs) if self.finetune else super().give_weights(network, inputs)

    def published(self, inputs: InputSpec) -> Mapping[str, Tensor]:
        from dfkd_exp.models.read_weights import require_undamaged

        overlay = {}
        if self.checkpoint:
            require_undamaged(Path(self.checkpoint), f"{self.named('checkpoint')}={self.checkpoint}")
            overlay["file"] = self.checkpoint
        return self._created(inputs, pretrained=True, pretrained_cfg_overlay=overlay).state_dict()


@contextmanager
def _without_torchvision() -> Iterator[None]:
    """Within the context timm can be imported where torchvision cannot: names that it takes from there stand for nothing.

    timm needs none of them to make a network. Afterwards torchvision is as absent, or as broken, as it was; only the parts of timm that
    load images remain unusable in this process.
    """
    if "timm" in sys.modules or _torchvision_works():
        yield
        return
    before = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == "torchvision"}
    try:
        for name in USED_AT_IMPORT:
            sys.modules[name] = _Absent(name)
            sys.modules[name].__path__ = []
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, sys.modules[name])
        yield
    finally:
        for name in USED_AT_IMPORT:
            sys.modules.pop(name, None)
        sys.modules.update(before)


class _Absent(ModuleType):
    """A module whose names are classes that stand for nothing."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AbsentClass(name, (), {})


class _AbsentClass(type):
    """Its members, such as those of an enumeration, are their own names."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


def _torchvision_works() -> bool:
    try:
        import torchvision  # noqa: F401
    except Exception:  # RuntimeError where it was built for another torch
        return False
    return True
