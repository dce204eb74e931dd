"""Where the phases work: the store, the trainer and the logger of a run, and its data, which nobody opens without need.

A phase is described, by its identity and title, before the store is asked; what it is made with, torch first of all, is imported
only if it must be made. A run that is wholly reused takes a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkd_exp import console
from dfkd_exp.data import Data
from dfkd_exp.data.base import Outline
from dfkd_exp.data.class_names import Numbering, numbering
from dfkd_exp.inputs import InputSpec, Shape
from dfkd_exp.logger import LoggerSettings
from dfkd_exp.models.kind import Network
from dfkd_exp.models.weight_files import Loaded
from dfkd_exp.ranks import ALONE, Ranks
from dfkd_exp.release.folder import MODEL
from dfkd_exp.store import Artifact, Store
from dfkd_exp.trainer import TrainerSettings

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dfkd_exp.data.images import ImageData

VERSIONS = {
    "images": 2,
    "teacher": 2,
    "metadata": 7,
    "release": 4,
    "signals": 1,
    "reconstruction": 8,
    "student": 7,
    "evaluation": 4,
    "privacy": 9,
    "shadows": 4,
    "likeness": 1,
    "picture": 4,
}
"""Of the code of each phase, part of its artifacts' keys: raise it when a change alters the results."""


@dataclass
class RunContext:
    """Where the phases work: the store, the trainer, the logger of the run, its processes; and what each phase made, in order."""

    store: Store
    trainer: TrainerSettings
    logger: LoggerSettings
    ranks: Ranks = ALONE
    rehearse: Callable[[], None] = lambda: None
    """Called once, before the first phase that is computed: it raises DfkdError if a later one could not be."""
    searched: bool = True
    """Whether its student is what a search waits for, if one runs this."""

    def __post_init__(self) -> None:
        self.artifacts: dict[str, Artifact] = {}
        self._rehearsed = False

    def prepare(self) -> None:
        """Before anything is computed: the device is there, and what comes later can be. The second time it does nothing."""
        _ = self.device
        if not self._rehearsed:
            self._rehearsed = True
            self.rehearse()

    @property
    def engines(self) -> Path:
        """Where it is kept which engine was fastest."""
        return self.store.root / "engine.json"

    @cached_property
    def device(self) -> torch.device:
        return self.trainer.device()

    def phase(
        self,
        name: str,
        title: str,
        identity: dict[str, Any],
        make: Callable[[Path], dict[str, Any]],
        by: str = "first",
    ) -> Artifact:
        """The artifact of a phase, from the store or from ``make(folder)``, which returns facts for its manifest.

        ``by``, of a run's several processes: the ``first`` makes it, and the others find it in the store; ``all`` make it together;
        or ``any`` that needs it, at whatever moment.
        """
        console.heading(title)

        def measured(folder: Path) -> dict[str, Any]:
            from dfkd_exp.evaluation.cost import machine, peak_memory

            with peak_memory(self.device) as peak:
                facts = make(folder)
            return {
                **facts,
                "peak_memory_bytes": peak.num_bytes,
                "device": str(self.device),
                "machine": machine(self.device),
            }

        def get() -> Artifact:
            together = self.ranks if by == "all" else ALONE
            return self.store.get_or_make(name, identity, VERSIONS[name], measured, together, prepare=self.prepare)

        artifact = self.ranks.in_turn(get) if by == "first" else get()
        console.note(f"reused from the store: {artifact.path}" if artifact.reused else f"{artifact.seconds:,.1f} s")
        self.artifacts[name] = artifact
        return artifact


class LazyData:
    """A data set that is opened when somebody first asks for its images, and never if nobody does."""

    def __init__(self, settings: Data, context: RunContext):
        self.settings, self._context = settings, context
        self._classes: Sequence[str] = ()

    def number_as(self, classes: Sequence[str]) -> None:
        """From now on the labels of its images are numbers among these ``classes``, those of a release, by their names."""
        self._classes = classes

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        return self.settings.fingerprint()

    @cached_property
    def outline(self) -> Outline:
        """What the settings know without reading all images; else these are opened."""
        return self.settings.outline() or self._own_images.outline

    def way_to(self, wanted: Shape) -> str:
        """What a person can do for it to have images of that shape."""
        given = self.outline.shape
        if len(wanted) != 3 or len(given) != 3:
            return "choose data of that shape"
        (channels, height, width) = wanted
        flags = [f"data.channels={channels}"] if channels != given[0] else []
        if (height, width) != given[1:]:
            flags.append(f"data.size={height}" if height == width else "data.pad")
        if all(hasattr(self.settings, flag.partition("=")[0].removeprefix("data.")) for flag in flags):
            return f"set {' '.join(flags)}"
        return f"choose data that can be so, such as image files: data=image_folder data.path=FOLDER {' '.join(flags)}"

    @property
    def numbered(self) -> bool:
        """Whether it has been told of a release's classes."""
        return bool(self._classes)

    @property
    def numbering(self) -> Numbering:
        """Which of a release's classes its own are. Raises DfkdError where their names do not say it."""
        return numbering(self.outline.classes, self._classes)

    @property
    def images(self) -> ImageData:
        """With the release's classes, once it has been told of them."""
        return self._numbered if self.numbered else self._own_images

    @cached_property
    def _numbered(self) -> ImageData:
        return self._own_images.numbered(self.numbering.numbers, self._classes)

    @cached_property
    def _own_images(self) -> ImageData:
        from dfkd_exp.data.images import ImageData
        from dfkd_exp.data.mapped import map_images

        settings = self.settings
        if not settings.kept_in_store:
            return settings.load()

        def make(folder: Path) -> dict[str, Any]:
            data = settings.load(folder)  # type: ignore[call-arg]  # of data that is kept
            return {"classes": data.classes, "bytes_per_image": data.bytes_per_image, "features": data.features}

        artifact = self._context.phase("images", "decoding the images", self.fingerprint, make, by="any")
        train, test = (map_images(artifact.file(f"{part}.safetensors")) for part in ("train", "test"))
        named = {
            name: artifact.info[name] for name in ("classes", "bytes_per_image", "features") if name in artifact.info
        }
        return ImageData(train, test, **named)


def weights_bytes(network: nn.Module) -> bytes:
    """The network's state_dict as a safetensors file, from whatever device."""
    from safetensors.torch import save

    return save({name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()})


def built(settings: Network, inputs: InputSpec, num_classes: int, seed: int) -> tuple[nn.Module, float | None]:
    """`Network.build`, saying what was loaded and done; and the accuracy that is claimed for that, if one is."""
    loaded: list[Loaded] = []
    network = settings.build(inputs, num_classes, seed, tell=loaded.append)
    for said in loaded:
        for note in said.notes:
            console.note(f"{said.of}: {note}")
    return network, next((said.claimed_accuracy for said in loaded if said.claimed_accuracy is not None), None)


def load_network(
    settings: Network, artifact: Artifact, inputs: InputSpec, num_classes: int, file: str = MODEL
) -> nn.Module:
    """The network of a teacher or student artifact, or of another of its files."""
    from safetensors.torch import load_file

    path = artifact.file(file)
    return settings.rebuilt(load_file(path), str(path), inputs, num_classes).eval()
