"""The typed config tree, and Hydra's errors in one line. With app.py the only file that knows Hydra; it imports no torch."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dfkd_exp.data.base import Data
from dfkd_exp.distillation.settings import Distillation, Student, Teacher
from dfkd_exp.distillation.source import Source
from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.logger import LoggerSettings
from dfkd_exp.metadata.settings import MetadataKind
from dfkd_exp.reconstruction.engine.settings import Engine
from dfkd_exp.reconstruction.optimizers import Optimizer
from dfkd_exp.reconstruction.settings import Reconstruction
from dfkd_exp.settings import Settings, did_you_mean, import_by_path, under_flag
from dfkd_exp.store import canonical_json
from dfkd_exp.trainer import TrainerSettings

PACKAGE = Path(__file__).parent
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""The yaml files: inside the package once it is installed, beside it in a clone."""

PIPELINES = ("full", "release", "from_release")


@dataclass
class Config(Settings):
    """One run: from a teacher to one row of a table."""

    data: Data = MISSING
    teacher: Teacher = MISSING
    student: Student = MISSING
    metadata: MetadataKind = MISSING
    reconstruction: Reconstruction = MISSING
    optimizer: Optimizer = MISSING
    engine: Engine = MISSING
    distillation: Distillation = MISSING
    source: Source = MISSING
    trainer: TrainerSettings = MISSING
    logger: LoggerSettings = MISSING
    privacy: bool = False
    """Measure also what the metadata, the images made from it and the student give away of the training images, which it needs."""
    pipeline: str = "full"
    """full; release (stop at the wall); from_release (start at the wall)."""
    release: str | None = None
    """The release folder: which to write, with pipeline=release (empty: in the run's folder); which to read, with from_release."""
    name: str = ""
    """The runs' folder: outputs/runs/NAME. An experiment has its own; empty: the name of the data."""
    table: str = ""
    """Which of the paper's tables a sweep's rows are laid out as: table1, table2, table3, or none."""
    seed: int = 0
    """Of everything random."""
    outputs: str = "outputs"
    """Where the store of artifacts and the runs are kept."""

    def __post_init__(self) -> None:
        self.require_choice("pipeline", PIPELINES)
        self.require(
            "name", bool(re.fullmatch(r"[\w.-]{0,100}", self.name)), "a plain folder name of up to 100 characters"
        )
        self.require_choice("table", ("", "table1", "table2", "table3"))
        self.require("seed", self.seed >= 0, "at least 0")
        if self.privacy and not self.data.available:
            raise ConfigError(
                "privacy=true compares with the training images, and data=none; choose the data set, for example data=mnist"
            )
        if self.pipeline == "from_release":
            self.require(
                "release", bool(self.release), "the folder of a release (release=FOLDER) with pipeline=from_release"
            )
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
        return OmegaConf.to_container(OmegaConf.structured(self), resolve=True)  # type: ignore[return-value]

    def hash(self) -> str:
        """Of everything that decides the figures; where they are kept and how they are logged does not."""
        parts: dict[str, Any] = {}
        for field in fields(self):
            if field.name not in ("outputs", "logger", "name", "release", "table", "privacy"):
                value = getattr(self, field.name)
                parts[field.name] = value.identity() if isinstance(value, Settings) else value
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:12]


SCHEMA = re.compile(r"^ *- /schema@_here_: *(\S+)", re.M)
"""The line by which a yaml names its dataclass, by import path."""


def typed(config: DictConfig) -> Config:
    """The config as usable objects, everything checked; ConfigError with one line if something is wrong."""
    for group, node in config.items():
        if group not in {f.name for f in fields(Config)}:
            raise ConfigError(_unknown_flag(str(group)))
        if OmegaConf.is_missing(config, group) or not isinstance(node, DictConfig):
            continue
        known = {f.name for f in fields(OmegaConf.get_type(node) or Settings)}
        for name in map(str, node):
            if name not in known:  # +group.name=… gets past Hydra's own check
                raise ConfigError(_unknown_flag(f"{group}.{name}"))
    try:
        result = _built(config, "")
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    assert isinstance(result, Config)
    return result


def _built(node: Any, flag: str) -> Any:
    """A node as the object that it is a config of: each dataclass within it knows the flag under which it stands."""
    if not isinstance(node, DictConfig) or not isinstance(schema := OmegaConf.get_type(node), type) or schema is dict:
        return OmegaConf.to_object(node) if OmegaConf.is_config(node) else node
    values = {name: _built(node[name], f"{flag}.{name}".lstrip(".")) for name in map(str, node)}
    with under_flag(flag):
        return schema(**values)


def kinds(group: str) -> dict[str, type[Settings]]:
    """The dataclass of each choice in a group, by the choice's name."""
    found: dict[str, type[Settings]] = {}
    for name in choices(group):
        if match := SCHEMA.search((CONF / group / f"{name}.yaml").read_text()):
            found[name] = import_by_path(match[1], group)
    return found


def choices(group: str) -> list[str]:
    """The names that a config group has, as on the command line."""
    return sorted(path.relative_to(CONF / group).with_suffix("").as_posix() for path in (CONF / group).rglob("*.yaml"))


def groups() -> list[str]:
    """The config groups, in the order of the pipeline, then the deltas over several of them."""
    found = {path.name for path in CONF.iterdir() if path.is_dir() and any(path.rglob("*.yaml"))} - {"hydra"}
    ordered = [f.name for f in fields(Config)] + ["experiment", "row", "point", "recipe", "scale", "sweep"]
    return [name for name in ordered if name in found] + sorted(found - set(ordered))


def explain(error: BaseException) -> str:
    """One line for an error of Hydra or OmegaConf: the flag, what is wrong with it, and what it may be."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    for link in chain:
        if isinstance(link, DfkdError):
            return str(link)
    for link in chain:
        if isinstance(link, MissingConfigException):
            return _unknown_choice(link) or _first_line(link)
    if isinstance(error, OverrideParseException):
        return f"cannot read the argument {error.override!r}; write it as flag=value, and quote special characters in the value"
    text = str(error)
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_flag(match[1])
    for link in chain:
        if isinstance(link, OmegaConfBaseException) and getattr(link, "full_key", None):
            return f"{link.full_key}: {_first_line(link)}"
    if match := re.search(r"(?:Error merging override|Error parsing override) '?([^'\n]+)'?", text):
        return f"{match[1]}: {_first_line(chain[1] if len(chain) > 1 else error)}"
    return _first_line(error)


EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}
"""Launchers that others have written, and the extra that brings them."""

CONFIG_ERRORS = (HydraException, ConfigCompositionException, OmegaConfBaseException)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _unknown_choice(error: MissingConfigException) -> str | None:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group or not (CONF / group).is_dir():
        return None
    known = choices(group)
    if name in EXTRAS:
        return f"{group}={name} is not installed: pip install 'dfkd_exp[{EXTRAS[name]}]'"
    if group == "hydra/launcher":
        known = sorted({*known, "basic", "processes"})
    return f"{group}={name}: there is no such {group}; choose one of {', '.join(known)}{did_you_mean(name, known)}"


def _unknown_flag(flag: str) -> str:
    """A flag that is not in the tree: say which there are beside it."""
    flag = flag.split("=")[0]
    group, _, name = flag.partition(".")
    if not name:
        known = [*groups(), *(f.name for f in fields(Config) if f.name not in groups())]
        return f"{flag}: there is no such flag or group; there are {', '.join(known)}{did_you_mean(flag, known)}"
    if group in groups() and (schemas := kinds(group)):
        entry = name.partition(".")[0]
        if any(f.name == entry and str(f.type).startswith("dict") for s in schemas.values() for f in fields(s)):
            return f"{flag}: what is not there yet is added with a plus, entry by entry: +{group}.{entry}.NAME=VALUE"
        known = sorted({f.name for schema in schemas.values() for f in fields(schema)})
        if name in known:
            owners = sorted(kind for kind, schema in schemas.items() if name in {f.name for f in fields(schema)})
            return f"{flag}: the chosen {group} has no {name}; it belongs to {group}={' or '.join(owners)}"
        return f"{flag}: {group} has no {name}; it has {', '.join(known)}{did_you_mean(name, known)}"
    return f"{flag}: there is no such group; there are {', '.join(groups())}{did_you_mean(group, groups())}"
