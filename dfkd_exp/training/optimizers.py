"""Optimisers of a network's weights. Yours is a class like these, chosen by its import path."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.errors import DfkdError
from dfkd_exp.settings import Settings, import_by_path, under_flag

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass
class Optimizer(Settings):
    """How the weights of a network follow from their gradients."""

    flag: ClassVar[str] = "training.optimizer"

    lr: float = 1e-3
    """Learning rate, of which the schedule makes that of each step."""
    weight_decay: float = 0.0
    """Strength of the weight decay."""
    decay_all: bool = False
    """Whether the weights of norms and all biases decay too."""

    def __post_init__(self) -> None:
        self.require("lr", self.lr > 0, "positive")
        self.require("weight_decay", self.weight_decay >= 0, "at least 0")

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of the network's parameters."""
        raise NotImplementedError

    def suited_to(self, network: nn.Module) -> Optimizer:
        """The optimiser that such a network is trained by."""
        return self

    def rate_flag(self, network: nn.Module) -> str:
        """What sets the learning rate, and its value: for whoever is to lower it."""
        return f"{self.flag}.lr (now {self.lr:g})"

    def groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """The network's parameters: those that decay, then those of at most one dimension, which do not unless ``decay_all``.

        Norms and biases are few and set the scale of the outputs; to decay them costs accuracy (He et al. 2019, Sec. 3.1).
        """
        parameters = list(network.parameters())
        if not self.weight_decay or self.decay_all:
            return [{"params": parameters}]
        decaying = [parameter for parameter in parameters if parameter.dim() > 1]
        others = [parameter for parameter in parameters if parameter.dim() <= 1]
        groups: list[dict[str, Any]] = [{"params": decaying}, {"params": others, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]


@dataclass
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015); weight decay is an L2 penalty."""

    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """Decay of the running means of the gradient and of its square."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        self.require("betas", fits, "two numbers from 0 to below 1")

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        import torch

        betas = (self.betas[0], self.betas[1])
        return torch.optim.Adam(
            self.groups(network), lr=self.lr, betas=betas, weight_decay=self.weight_decay, fused=True
        )


@dataclass
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    weight_decay: float = 0.01
    """Strength of the weight decay."""

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        import torch

        betas = (self.betas[0], self.betas[1])
        return torch.optim.AdamW(
            self.groups(network), lr=self.lr, betas=betas, weight_decay=self.weight_decay, fused=True
        )


@dataclass
class Sgd(Optimizer):
    """Stochastic gradient descent with momentum; the defaults are the field's for CIFAR."""

    lr: float = 0.1
    """Learning rate, of which the schedule makes that of each step."""
    weight_decay: float = 5e-4
    """Strength of the weight decay."""
    momentum: float = 0.9
    """Share of the last step that is taken again."""
    nesterov: bool = True
    """Whether the gradient is that of where the momentum leads."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("momentum", 0 <= self.momentum < 1, "at least 0 and below 1")
        self.require("nesterov", not self.nesterov or self.momentum > 0, f"false with {self.flag}.momentum=0")

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        import torch

        return torch.optim.SGD(
            self.groups(network),
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            fused=True,
        )


@dataclass
class Auto(Optimizer):
    """By the network: `Sgd` where it has BatchNorm, which then learns more of few images than by Adam; `Adam` where it has none, and SGD at
    such a rate would end in nothing."""

    lr: float = 2e-3
    """Adam's learning rate, of which the schedule makes that of each step."""
    sgd_lr: float = 0.1
    """SGD's."""
    weight_decay: float = 5e-4
    """Strength of SGD's weight decay; Adam has none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("sgd_lr", self.sgd_lr > 0, "positive")

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        return self.suited_to(network).build(network)

    def suited_to(self, network: nn.Module) -> Optimizer:
        from torch.nn.modules.batchnorm import _BatchNorm

        with under_flag(self.flag):
            if any(isinstance(module, _BatchNorm) for module in network.modules()):
                return Sgd(lr=self.sgd_lr, weight_decay=self.weight_decay, decay_all=self.decay_all)
            return Adam(lr=self.lr)

    def rate_flag(self, network: nn.Module) -> str:
        by_sgd = isinstance(self.suited_to(network), Sgd)
        return f"{self.flag}.sgd_lr (now {self.sgd_lr:g})" if by_sgd else super().rate_flag(network)


@dataclass
class CustomOptimizer(Optimizer):
    """Any ``torch.optim.Optimizer`` that needs no closure, by import path."""

    _target_: str = ""
    """Import path of the class."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Its arguments, besides lr and weight_decay."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("_target_", bool(self._target_), "an import path such as torch.optim.RMSprop")

    def foreign_code(self) -> list[str]:
        return [*super().foreign_code(), self._target_]

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        import torch

        flag = f"{self.flag}._target_"
        target = import_by_path(self._target_, flag)
        if not (isinstance(target, type) and issubclass(target, torch.optim.Optimizer)):
            raise DfkdError(f"{flag}={self._target_} is not a torch.optim.Optimizer")
        if issubclass(target, torch.optim.LBFGS):
            raise DfkdError(
                f"{flag}={self._target_} evaluates a batch several times, which training does not; choose another"
            )
        options = dict(self.kwargs)
        if self.weight_decay or "weight_decay" in inspect.signature(target).parameters:
            options["weight_decay"] = self.weight_decay
        try:
            return target(self.groups(network), lr=self.lr, **options)  # type: ignore[call-arg]
        except (TypeError, ValueError) as error:
            raise DfkdError(f"{self.flag}: {options} do not fit {self._target_}: {error}") from error
