"""What networks of a library have in common: a name, weights that somebody published, and what these want of images and classes."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief, in_brief
from dfkd_exp.inputs import InputSpec, Shape
from dfkd_exp.models.kind import Network
from dfkd_exp.models.weight_files import Loaded
from dfkd_exp.settings import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor, nn


LIBRARIES = {"timm": "timm", "torchvision": "torchvision", "hub": "transformers"}
"""Of each kind of network that is somebody's library's, the library."""


@contextmanager
def quiet() -> Iterator[None]:
    """Within the context the libraries that download say nothing of what they try again; what fails is raised."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "timm", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@dataclass(frozen=True)
class Wanted:
    """What published weights were trained for: the number of classes, 0 without a head; the ``shape`` of images, which they need if it is
    ``fixed``; the normalisation, per channel; and the names of the classes, in the order of the logits, where they are said."""

    num_classes: int
    shape: Shape
    fixed: bool
    mean: list[float]
    std: list[float]
    labels: list[str] = field(default_factory=list)


@dataclass
class Published(Network):
    """A network of a library, by name, with the weights that are published for it, or with fresh ones."""

    of_weights: ClassVar[tuple[str, ...]] = ("pretrained", "finetune")

    model: str = ""
    """What the library calls the network."""
    pretrained: bool = False
    """Start from the published weights, which are downloaded where they are not at hand, or from those of the checkpoint."""
    finetune: bool = False
    """Train what is pretrained, too; where the data has other classes than the weights, the head is then a fresh one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("model", isinstance(self.model, str), "a text")
        self.pretrained = self.pretrained or self.checkpoint is not None

    @property
    def library(self) -> str:
        return LIBRARIES[self.kind]

    @property
    def title(self) -> str:
        return self.model or self.kind

    @property
    def trained(self) -> bool:
        return self.pretrained and not self.finetune

    def wanted(self, inputs: InputSpec) -> Wanted:
        """What the published weights were trained for. Nothing but their description is fetched."""
        raise NotImplementedError

    def published(self, inputs: InputSpec) -> Mapping[str, Tensor]:
        """The published weights, or those of the checkpoint, for such inputs, with the head that they come with; downloaded if need
        be."""
        raise NotImplementedError

    def imported(self) -> Any:
        """The library; DfkdError names the extra if it is not there, or says why it cannot be used."""
        try:
            return importlib.import_module(self.library)
        except ModuleNotFoundError as error:
            raise DfkdError(
                f"{self._flag}={self.kind} needs {self.library} ({error}): pip install 'dfkd_exp[{self.kind}]'"
            ) from error
        except Exception as error:  # torchvision that was built for another torch raises RuntimeError
            raise DfkdError(
                f"{self._flag}={self.kind}: {self.library} is installed but cannot be imported ({in_brief(error)}); install the build "
                "for this torch, if there is one"
            ) from error

    def require_known(self, known: bool, names: Callable[[], Iterable[str]], of: str) -> None:
        """Raise DfkdError unless the model is ``known``, saying which of the ``names`` may have been meant."""
        if not self.model:
            example = "vit" if self.kind == "hub" else "resnet18"
            raise DfkdError(f"{self.named('model')} must be {of}, for example {self.named('model')}={example}")
        if not known:
            close = did_you_mean(self.model, names())
            raise DfkdError(f"{self.named('model')}={brief(self.model)} is not {of}{close}")

    def wanted_inputs(self, given: InputSpec) -> InputSpec:
        """Of pretrained weights the shape and, unless the data says another, the normalisation; of fresh ones what the data has."""
        if not self.pretrained:
            return given
        wanted = self.wanted(given)
        channels = wanted.shape[0]
        shape = wanted.shape if wanted.fixed else (channels, *given.shape[1:])
        if shape == given.shape and (any(given.low) or any(high != 1 for high in given.high)):
            return given
        mean, std = (
            values if len(values) == channels else channels * [sum(values) / len(values)]  # grey of colour
            for values in (wanted.mean, wanted.std)
        )
        return InputSpec.normalised(shape, mean, std)

    def class_names(self, inputs: InputSpec) -> list[str]:
        return self.wanted(inputs).labels if self.trained and self.checkpoint is None else []

    def check_classes(self, inputs: InputSpec, num_classes: int) -> None:
        """DfkdError where the weights that will come have other classes and are not to be trained."""
        if self.trained and self.checkpoint is None:
            own = self.wanted(inputs).num_classes
            if own != num_classes:
                known = f"for {own:,} classes" if own else "without a head for classes"
                raise DfkdError(
                    f"{self._flag}: the weights of {self.title} are {known}, the data has {num_classes:,}: {self.named('finetune')}=true "
                    f"keeps its body, gives it a fresh head and trains it on the data; {self.named('pretrained')}=false trains all of it"
                )

    def give_weights(self, network: nn.Module, inputs: InputSpec) -> Loaded | None:
        if self.checkpoint is not None:
            return super().give_weights(network, inputs)
        return self.take_over(network, inputs)

    def take_over(self, network: nn.Module, inputs: InputSpec) -> Loaded:
        """Put the `published` weights into ``network``; of one that is to be trained all but the head, if that has other classes."""
        import torch

        try:
            with torch.random.fork_rng(devices=[]), quiet():
                state = self.published(inputs)
        except DfkdError:
            raise
        except Exception as error:  # a library raises many kinds, from many layers
            raise DfkdError(
                f"{self.named('model')}={self.model}: its weights cannot be had ({in_brief(error)}); check the network, give them as "
                f"{self.named('checkpoint')}=FILE, or train fresh ones: {self.named('pretrained')}=false"
            ) from error
        own = network.state_dict()
        fresh = [key for key in own if key not in state or state[key].shape != own[key].shape]
        if fresh and (not self.finetune or 2 * len(fresh) > len(own)):
            raise DfkdError(
                f"{self.named('model')}={self.model}: its weights lack {brief(', '.join(fresh))}, or have them in other shapes"
            )
        network.load_state_dict({**own, **{key: state[key] for key in own if key not in fresh}})
        return Loaded([f"fresh, to be trained: {brief(', '.join(fresh))}"] if fresh else [], None)

    def completed(self, architecture: dict[str, Any]) -> Network | None:
        """As any network's, and never pretrained: the weights are the release's."""
        settings = super().completed(architecture)
        return settings.changed(pretrained=False, checkpoint=None) if isinstance(settings, type(self)) else settings

    def identity(self) -> dict[str, Any]:
        """With the version of the library, whose code it is."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            installed = version(self.library)
        except PackageNotFoundError:
            installed = None
        return {**super().identity(), "library": f"{self.library} {installed}"}
