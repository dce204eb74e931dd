"""The typed config tree. It imports no torch."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from omegaconf import MISSING

from dfkd_exp.config.rows import Row
from dfkd_exp.data.base import Data
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.distillation.source import Source
from dfkd_exp.errors import ConfigError
from dfkd_exp.files import canonical_json
from dfkd_exp.logger import LoggerSettings
from dfkd_exp.metadata.kind import MetadataKind
from dfkd_exp.models.kind import Network
from dfkd_exp.reconstruction.engine.settings import Engine
from dfkd_exp.reconstruction.optimizers import Optimizer
from dfkd_exp.reconstruction.parametrisation.base import Parametrisation
from dfkd_exp.reconstruction.settings import Reconstruction
from dfkd_exp.reconstruction.terms.term import Term
from dfkd_exp.settings import Settings
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.settings import Training

PIPELINES = ("full", "release", "from_release")
NOT_HASHED = (
    *("outputs", "logger", "name", "release", "rows", "row", "published_teacher"),
    *("privacy", "shadows", "shadow_students", "likeness"),
)


@dataclass
class Config(Settings):
    """One run: from a teacher to one row of a table."""

    data: Data = MISSING
    teacher: Network = MISSING
    training: Training = MISSING
    student: Network = MISSING
    metadata: MetadataKind = MISSING
    reconstruction: Reconstruction = MISSING
    parametrisation: Parametrisation = MISSING
    terms: dict[str, Term] = field(default_factory=dict)
    """Terms of the objective beside the match with the metadata, by name: terms=[total_variation] terms.total_variation.weight=0.01."""
    optimizer: Optimizer = MISSING
    engine: Engine = MISSING
    distillation: Distillation = MISSING
    source: Source = MISSING
    trainer: TrainerSettings = MISSING
    logger: LoggerSettings = MISSING
    privacy: bool = False
    """Measure also what the metadata, the images made from it and the student give away of the training images, which it needs."""
    shadows: int = 0
    """Also the attack by likelihood ratios, tried on so many shadows: metadata of random halves of all images, each of which is told by the
    others; 16 say much. 0: none. With privacy=true; with pipeline=release it is what to know before publishing."""
    shadow_students: bool = False
    """Whether it is tried on the students too, one for each shadow, each of which takes as long as the run's own."""
    likeness: bool = False
    """Measure also how much the images vary beside the training images, which it needs, in each of the teacher's layers."""
    pipeline: str = "full"
    """full; release (stop at the wall); from_release (start at the wall)."""
    release: str | None = None
    """The release folder: which to write, with pipeline=release (empty: in the run's folder); which to read, with from_release."""
    name: str = ""
    """The runs' folder: outputs/runs/NAME. An experiment has its own; empty: the name of the data."""
    rows: list[Row] = field(default_factory=list)
    """The rows of the experiment's table; each has a name, a title, what it sets, and the published figure if there is one."""
    row: str = ""
    """The row that is run, by name; a sweep runs every row of its experiment unless it is told which: row=NAME,NAME."""
    published_teacher: float | None = None
    """The accuracy in per cent that was published for the teacher, beside which ours stands in the table."""
    seed: int = 0
    """Of everything random."""
    outputs: str = "outputs"
    """Where the store of artifacts and the runs are kept."""

    def __post_init__(self) -> None:
        self.require_choice("pipeline", PIPELINES)
        self.require(
            "name",
            bool(re.fullmatch(r"(?!\.+$)[\w.-]{0,100}", self.name)),
            "a plain folder name of up to 100 characters",
        )
        self.require("seed", 0 <= self.seed < 2**63, "at least 0 and below 2**63")
        self.require("outputs", bool(self.outputs.strip()), "a folder")
        if self.distillation.targets == "labels" and not self.source.labelled:
            raise ConfigError(
                f"distillation.targets=labels needs images that have labels, and a source of {self.source.words} has none; leave it out, "
                "or choose another source"
            )
        for name in ("privacy", "likeness"):
            if getattr(self, name) and not self.data.available:
                raise ConfigError(
                    f"{name}=true compares with the training images, and data=none; choose the data set, for example data=mnist"
                )
        self.require(  # beside the pair that is attacked, an image must be twice in others and twice out
            "shadows",
            self.shadows == 0 or (self.shadows >= 6 and self.shadows % 2 == 0),
            "an even number from 6, or 0: none",
        )
        if self.shadows and self.pipeline == "from_release":
            raise ConfigError(
                f"shadows={self.shadows} collects metadata of the owner's images: it is for pipeline=release, or full"
            )
        if self.shadows and self.pipeline == "full" and not self.privacy:
            raise ConfigError(f"shadows={self.shadows} stands beside the other attacks: set privacy=true")
        self.require(
            "shadow_students",
            not self.shadow_students or self.shadows > 0,
            "false without shadows, for example shadows=16",
        )
        if self.pipeline == "from_release":
            self.require("release", bool(self.release), "a folder (release=FOLDER) with pipeline=from_release")
            if self.source.needs_data and not self.data.available:
                raise ConfigError(
                    "this source needs real images, and data=none; choose a data set, for example data=mnist"
                )
        elif not self.data.available:
            raise ConfigError(
                f"pipeline={self.pipeline} trains a teacher, and data=none; choose a data set (dfkd --help lists them)"
            )

    def plain(self) -> dict[str, Any]:
        """The whole config as JSON-able values."""
        return asdict(self)

    def hash(self) -> str:
        """Of everything that decides the figures; where they are kept and how they are logged does not."""
        parts: dict[str, Any] = {}
        for name in (f.name for f in fields(self)):
            if name not in NOT_HASHED:
                value = getattr(self, name)
                parts[name] = value.identity() if isinstance(value, Settings) else value
        parts["terms"] = {name: term.identity() for name, term in self.terms.items()}
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:12]
