"""The loops that the authors of other methods have published, from a folder that the reader has fetched; nothing of them is kept here.

Their computation is left as it is. What their files import and is not installed is stood in for by empty modules, of which the loops use
three things: ``Compose``, and kornia's random crops and flips, which then do nothing, in their favour. ``cuda`` is the device that there
is, and images are not written to files.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmarks.measure import DEVICE

MISSING = (
    "torchvision",
    "kornia",
    "apex",
    "PIL",
    "scipy",
    "matplotlib",
    "termcolor",
    "tqdm",
    "visdom",
    "cv2",
    "skimage",
)
"""What their files import beside torch and NumPy."""
NOISE = 256
"""Numbers that Fast's generator makes an image of, as its scripts ask for."""


class Whatever(type):
    """A class that has whatever constant is asked for."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return 0


class Nothing(nn.Identity, metaclass=Whatever):
    """A layer that does nothing, whatever it is built with."""


class Empty(ModuleType):
    """Has whatever is asked for: modules by names in small letters, layers that do nothing by others."""

    __path__: ClassVar[list[str]] = []  # type: ignore[misc]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "Compose":
            return lambda parts: nn.Sequential(*parts)
        if name == "save_image":
            return lambda *arguments, **named: None
        return Empty(f"{self.__name__}.{name}") if name[0].islower() else Nothing


class EmptyModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `MISSING` modules, and those within them."""

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        wanted = name.partition(".")[0] in MISSING
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if wanted else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        return


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Their modules can be imported, and ``cuda`` in them is the device that there is."""
    installed = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in MISSING}
    for name in installed:
        del sys.modules[name]
    finder, randn, to = EmptyModules(), torch.randn, Tensor.to

    def here(device: Any) -> Any:
        return DEVICE if device == "cuda" else device

    def randn_here(*sizes: Any, device: Any = None, **named: Any) -> Tensor:
        return randn(*sizes, device=here(device), **named)

    def to_here(tensor: Tensor, *rest: Any, **named: Any) -> Tensor:
        return to(tensor, *map(here, rest), **named)

    patched: list[tuple[Any, str, Any]] = [
        (torch, "randn", randn_here), (Tensor, "to", to_here), (nn.Module, "cuda", lambda module: module.to(DEVICE)),
        (Tensor, "cuda", lambda tensor: to(tensor, DEVICE)),
    ]  # fmt: skip
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in patched]
    sys.meta_path.insert(0, finder)
    sys.path.insert(0, str(folder))
    try:
        for owner, name, value in patched:
            setattr(owner, name, value)
        with contextlib.redirect_stdout(None), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)
        sys.path.remove(str(folder))
        sys.meta_path.remove(finder)
        for name, module in [*sys.modules.items()]:
            if isinstance(module, Empty):
                del sys.modules[name]
        sys.modules.update(installed)


def deep_inversion(folder: Path, teacher: nn.Module, shape: tuple[int, ...], batch: int, steps: int) -> Any:
    """``get_images`` of github:NVlabs/DeepInversion's ``cifar10``, with the weights of its command line; what makes a batch when called."""
    with importable(folder / "DeepInversion" / "cifar10"):
        module = importlib.import_module("deepinversion_cifar10")
    student = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 10)).to(DEVICE)
    images = torch.randn(batch, *shape, device=DEVICE, requires_grad=True)
    optimizer = torch.optim.Adam([images], lr=0.1)

    def make() -> None:
        with importable(folder / "DeepInversion" / "cifar10"):
            module.get_images(
                teacher, bs=batch, epochs=steps, var_scale=2.5e-5, net_student=student, prefix="", competitive_scale=0.0,
                optimizer=optimizer, inputs=images, bn_reg_scale=10.0, random_labels=True,
            )  # fmt: skip

    return make


def fast(folder: Path, teacher: nn.Module, shape: tuple[int, ...], batch: int, steps: int) -> Any:
    """``FastMetaSynthesizer`` of github:zju-vipa/Fast-Datafree, before the student takes part; what makes a batch when called. Its pool of
    files, which it fills and reads after the batch's last step, is left out."""
    place = folder / "Fast-Datafree"
    with importable(place):
        module = importlib.import_module("datafree.synthesis.fast_meta")
        generators = importlib.import_module("datafree.models.generator")
        generator = generators.Generator(nz=NOISE, ngf=64, img_size=shape[-1], nc=shape[0])
        maker = module.FastMetaSynthesizer(
            teacher, nn.Identity(), generator, nz=NOISE, num_classes=10, img_size=shape, iterations=steps, lr_g=5e-3, lr_z=0.015,
            synthesis_batch_size=batch, bn=10.0, oh=0.4, adv=1.33, warmup=10**9, bn_mmt=0.9, device=DEVICE, normalizer=nn.Identity(),
            save_dir=tempfile.gettempdir(),
        )  # fmt: skip
    maker.data_pool = SimpleNamespace(add=lambda images: None, get_dataset=lambda transform: [0])

    def make() -> None:
        with importable(place):
            module.DataIter = lambda loader: None
            maker.synthesize()

    return make


LOOPS = {"DeepInversion": deep_inversion, "Fast": fast}
FOLDERS = {"DeepInversion": "NVlabs/DeepInversion", "Fast": "zju-vipa/Fast-Datafree"}
"""Where they are on GitHub; a folder is named as the repository is."""
