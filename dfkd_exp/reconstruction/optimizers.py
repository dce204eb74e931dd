"""The optimisers of the images: of their pixels, or of the latents that stand for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.errors import DfkdError
from dfkd_exp.settings import Settings, import_by_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass
class Optimizer(Settings):
    """The optimiser of the images."""

    flag: ClassVar[str] = "optimizer"
    couples_images: ClassVar[bool] = False
    """Whether one image's step depends on the others; groups are then optimised one by one."""

    lr: float = 0.07
    """Learning rate, in pixels of the [0, 1] range (paper: 0.07 for MNIST, 0.05 for CelebA), or in latents of deviation 1."""

    def __post_init__(self) -> None:
        self.require("lr", self.lr > 0, "positive")

    @property
    def evaluations(self) -> int:
        """Of the objective in a step, at least."""
        return 1

    def build(self, *values: Tensor) -> torch.optim.Optimizer:
        """The optimiser of ``values``: pixels or latents ``[N, …]``, or the weights of what makes images."""
        raise NotImplementedError


@dataclass
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015), the paper's choice."""

    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """Decay of the running means of the gradient and of its square."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        self.require("betas", fits, "two numbers from 0 to below 1")

    def build(self, *values: Tensor) -> torch.optim.Optimizer:
        import torch

        return torch.optim.Adam(values, lr=self.lr, betas=(self.betas[0], self.betas[1]), fused=True)


@dataclass
class AdamW(Adam):
    """Adam with decoupled weight decay, which pulls pixels to zero."""

    weight_decay: float = 0.01
    """Strength of the decay."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("weight_decay", self.weight_decay >= 0, "at least 0")

    def build(self, *values: Tensor) -> torch.optim.Optimizer:
        import torch

        betas = (self.betas[0], self.betas[1])
        return torch.optim.AdamW(values, lr=self.lr, betas=betas, weight_decay=self.weight_decay, fused=True)


@dataclass
class Sgd(Optimizer):
    """Gradient descent with momentum."""

    lr: float = 10.0
    """Learning rate; gradients of a mean over many images and units are small, so it is large."""
    momentum: float = 0.9
    """Momentum."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("momentum", 0 <= self.momentum < 1, "at least 0 and below 1")

    def build(self, *values: Tensor) -> torch.optim.Optimizer:
        import torch

        return torch.optim.SGD(values, lr=self.lr, momentum=self.momentum)


@dataclass
class Lbfgs(Optimizer):
    """L-BFGS with a strong-Wolfe line search; each step is several evaluations, and groups are taken one by one."""

    couples_images: ClassVar[bool] = True

    lr: float = 1.0
    """Initial step of the line search."""
    max_iter: int = 5
    """Iterations per step."""
    history_size: int = 20
    """Updates remembered."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_iter", "history_size"):
            self.require(name, getattr(self, name) >= 1, "at least 1")

    @property
    def evaluations(self) -> int:
        return self.max_iter

    def build(self, *values: Tensor) -> torch.optim.Optimizer:
        import torch

        return torch.optim.LBFGS(
            values,
            lr=self.lr,
            max_iter=self.max_iter,
            history_size=self.history_size,
            tolerance_grad=0.0,  # the default stops at once: gradients of a mean over many pixels are small
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )


@dataclass
class CustomOptimizer(Optimizer):
    """Any ``torch.optim.Optimizer`` by import path: ``optimizer=custom optimizer._target_=torch.optim.RMSprop``."""

    couples_images: ClassVar[bool] = True  # nothing is known of it, so each group is its own problem

    _target_: str = ""
    """Import path of the class."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Its arguments, besides lr."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("_target_", bool(self._target_), "an import path such as torch.optim.RMSprop")

    def foreign_code(self) -> list[str]:
        return [*super().foreign_code(), self._target_]

    def build(self, *values: Tensor) -> torch.optim.Optimizer:
        import torch

        target = import_by_path(self._target_, "optimizer._target_")
        if not (isinstance(target, type) and issubclass(target, torch.optim.Optimizer)):
            raise DfkdError(f"optimizer._target_={self._target_} is not a torch.optim.Optimizer")
        try:
            return target(values, lr=self.lr, **self.kwargs)  # type: ignore[call-arg]
        except (TypeError, ValueError) as error:
            raise DfkdError(f"optimizer.kwargs={self.kwargs} do not fit {self._target_}: {error}") from error
