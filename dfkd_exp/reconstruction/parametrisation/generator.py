"""Images that a network makes of latents, and that are changed by changing the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfkd_exp.reconstruction.parametrisation.base import ImageSpace, Parametrisation
from dfkd_exp.seeding import seeded

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.metadata.metadata import ResolvedMetadata
    from dfkd_exp.reconstruction.generator import NoisyLayers

ENDS = ("sigmoid", "norm", "tanh_norm")
KEPT = ("run", "batch", "meta")
LATENTS_FROM = ("noise", "classes")


@dataclass
class FromGenerator(Parametrisation):
    """A generator's images (`dfkd_exp.reconstruction.generator`), whose weights are optimised. It works where images are made for a student
    in the loop: source=synthesis."""

    shares: ClassVar[bool] = True

    latents: int = 100
    """Numbers that an image is made of (DAFL for MNIST: 100; DFAD, CMI, Fast and NAYER: 256)."""
    latents_from: str = "noise"
    """noise: they are Gaussian; classes: they follow from an image's class, by random embeddings and layers that are renewed (NAYER)."""
    noisy_layers: int = 20
    """Layers from classes to latents, which the images of a class in a batch take in turn, so that they differ (NAYER: a batch's images per
    class); of fewer than these images some are alike."""
    renew_every: int = 1
    """Batches from one renewal of these layers to the next."""
    width: int = 64
    """Channels before the last convolution; twice as many before that."""
    end: str = "sigmoid"
    """What keeps pixels in range: sigmoid (CMI, Fast); norm, BatchNorm (ZSKT), or tanh_norm, a tanh and BatchNorm (DAFL, DFAD): a batch's
    pixels have the mean and deviation that the teacher's inputs usually have, cut off at black and white."""
    kept: str = "run"
    """run: one generator, that goes on learning (DAFL, DFAD, ZSKT); batch: each batch begins with a fresh one (CMI); meta: with one from
    which the batches before would have come far in a few steps (Fast)."""
    of_classes: bool | None = None
    """Whether it is told the class that an image is made for, beside the latents; empty: where the metadata says something of classes."""
    optimise_latents: bool = False
    """Whether the latents of a batch are optimised too (CMI, Fast), or drawn and left."""
    latents_lr: float | None = None
    """Their learning rate (Fast: 0.015 or 0.01); empty: optimizer.lr, that of the weights."""

    def __post_init__(self) -> None:
        self.require("latents", self.latents >= 1, "at least 1")
        self.require("width", self.width >= 1, "at least 1")
        self.require_choice("kept", KEPT)
        self.require_choice("end", ENDS)
        self.require(
            "optimise_latents",
            not self.optimise_latents or self.kept != "run",
            f"false with {self.flag}.kept=run: latents of a batch are gone with it",
        )
        self.require_choice("latents_from", LATENTS_FROM)
        for name in ("noisy_layers", "renew_every"):
            self.require(name, getattr(self, name) >= 1, "at least 1")
        if self.latents_from == "classes":
            self.require(
                "kept", self.kept == "run", f"run with {self.flag}.latents_from=classes, whose layers begin anew"
            )
            self.require("of_classes", self.of_classes is not False, f"true with {self.flag}.latents_from=classes")
        self.require("latents_lr", self.latents_lr is None or self.latents_lr > 0, "positive, or empty")
        self.require(
            "latents_lr",
            self.latents_lr is None or self.optimise_latents,
            f"empty unless {self.flag}.optimise_latents=true",
        )

    def build(self, teacher: nn.Module, metadata: ResolvedMetadata) -> ImageSpace:
        from dfkd_exp.models.recording import device_of

        told = bool(metadata.logits) if self.of_classes is None else self.of_classes
        told = told or self.latents_from == "classes"
        return GeneratorSpace(self, metadata.inputs, metadata.num_classes if told else 0, device_of(teacher))


class GeneratorSpace(ImageSpace):
    """Latents ``[M, D]``, the last ``num_classes`` of them an image's class, one-hot, or nothing but that; and the weights of the network
    that makes images of them, which batches share."""

    def __init__(self, settings: FromGenerator, inputs: InputSpec, num_classes: int, device: torch.device):
        self.settings, self.inputs, self.num_classes, self.device = settings, inputs, num_classes, device
        self.renews, self.optimises_values = settings.kept != "run", settings.optimise_latents  # type: ignore[misc]
        self.values_lr = settings.latents_lr
        self.noisy: NoisyLayers | None = None
        self.begin(seed=0)

    def begin(self, seed: int) -> None:
        self._renew(seed)
        kept = self.shared() if self.settings.kept == "meta" else []
        self._starts = [weights.detach().clone() for weights in kept]

    def begin_batch(self, seed: int) -> list[Tensor]:
        import torch

        if self.noisy is not None:
            self.noisy.begun += 1
            if (int(self.noisy.begun) - 1) % self.settings.renew_every:
                return []
            with seeded(seed):
                self.noisy.renew()
            return list(self.noisy.parameters())
        if self.settings.kept == "batch":
            self._renew(seed)
        with torch.no_grad():
            for weights, start in zip(self.shared(), self._starts, strict=False):
                weights.copy_(start)
        return []

    def _renew(self, seed: int) -> None:
        import torch

        from dfkd_exp.reconstruction.generator import Generator, NoisyLayers

        settings = self.settings
        with seeded(seed):
            if settings.latents_from == "classes":
                self.noisy = NoisyLayers(self.num_classes, settings.latents, settings.noisy_layers)
                rest = Generator(self.inputs, settings.latents, settings.width, settings.end)
                self.network: nn.Module = torch.nn.Sequential(self.noisy, rest).to(self.device)
            else:
                latents = settings.latents + self.num_classes
                self.network = Generator(self.inputs, latents, settings.width, settings.end).to(self.device)

    def start(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        if self.noisy is not None:
            return torch.nn.functional.one_hot(labels, self.num_classes).float()
        drawn = torch.randn(len(labels), self.settings.latents, generator=generator)
        if not self.num_classes:
            return drawn
        return torch.cat([drawn, torch.nn.functional.one_hot(labels, self.num_classes)], 1)

    def pixels(self, values: Tensor) -> tuple[Tensor, None]:
        return self.network(values), None

    def shared(self) -> list[Tensor]:
        return list(self.network.parameters())

    def starts(self) -> list[Tensor]:
        return self._starts

    def buffers(self) -> dict[str, Tensor]:
        return dict(self.network.named_buffers())
