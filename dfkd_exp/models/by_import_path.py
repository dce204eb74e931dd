"""Somebody's own network, by the import path of its class."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief
from dfkd_exp.import_paths import import_by_path, on_its_own
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.kind import Network

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

    def find_code(self) -> None:
        import_by_path(self.target, self.named("target"))

    def make(self, inputs: InputSpec, num_classes: int) -> nn.Module:
        target = import_by_path(self.target, self.named("target"))
        if not callable(target):
            raise DfkdError(f"{self.named('target')}={self.target} is no class or function but {type(target).__name__}")
        self._check_arguments(target)
        with on_its_own(f"{self.named('target')}={self.target}: making {self.title}"):
            return target(**self.kwargs)

    def _check_arguments(self, target: Callable[..., Any]) -> None:
        try:
            takes = inspect.signature(target)
        except ValueError:  # of something written in C
            return
        try:
            takes.bind(**self.kwargs)
        except TypeError as error:
            raise DfkdError(
                f"{self._flag}: the arguments {brief(str(self.kwargs))} do not fit {self.title}: {error}; it takes {brief(str(takes))}; "
                f"say an argument as +{self.named('kwargs')}.NAME=VALUE"
            ) from error

    def architecture(self) -> dict[str, Any]:
        """``target`` is for people, who are told what the owner called it, and is imported by nobody."""
        return {"kind": self.kind, "name": self.title, "target": self.target, "kwargs": self.kwargs}

    def completed(self, architecture: dict[str, Any]) -> ByImportPath:
        """With the release's arguments, unless the receiver gives others."""
        theirs = architecture["kwargs"] if architecture["kind"] == self.kind else {}
        return self.changed(kwargs=self.kwargs or theirs)
