"""Somebody's own network, by the import path of its class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.kind import Network
from dfkd_exp.settings import import_by_path

if TYPE_CHECKING:
    from torch import nn


@dataclass
class ByImportPath(Network):
    """A class or function of your own that returns a torch.nn.Module. Its code does not travel in a release: a receiver names it."""

    kind: ClassVar[str] = "custom"

    target: str = ""
    """Import path of the class or function, such as my_package.my_module.MyNet."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments for it; all of them, as the shape of the inputs and the number of classes are not passed on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("target", bool(self.target), "an import path like my_package.my_module.MyNet")

    @property
    def title(self) -> str:
        return self.target.rpartition(".")[2]

    def foreign_code(self) -> list[str]:
        return [*super().foreign_code(), self.target]

    def make(self, inputs: InputSpec, num_classes: int) -> nn.Module:
        return import_by_path(self.target, self.named("target"))(**self.kwargs)

    def architecture(self) -> dict[str, Any]:
        """``target`` is for people, who are told what the owner called it, and is imported by nobody."""
        return {"kind": self.kind, "name": self.title, "target": self.target, "kwargs": self.kwargs}

    def completed(self, architecture: dict[str, Any]) -> ByImportPath:
        """With the release's arguments, unless the receiver gives others."""
        theirs = architecture["kwargs"] if architecture["kind"] == self.kind else {}
        return self.changed(kwargs=self.kwargs or theirs)
