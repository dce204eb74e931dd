"""The typed config tree, and Hydra's errors in one line. It imports no torch."""

from __future__ import annotations

import hashlib
import math
import re
import sys
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from dfkd_exp import for_data  # noqa: F401  (yaml files use it)
from dfkd_exp.arguments import unreadable
from dfkd_exp.data.base import Data
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.distillation.source import Source
from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.files import canonical_json
from dfkd_exp.logger import LoggerSettings
from dfkd_exp.metadata.kind import MetadataKind
from dfkd_exp.models.kind import Network
from dfkd_exp.reconstruction.engine.settings import Engine
from dfkd_exp.reconstruction.optimizers import Optimizer
from dfkd_exp.reconstruction.parametrisation.base import Parametrisation
from dfkd_exp.reconstruction.settings import Reconstruction
from dfkd_exp.reconstruction.terms.term import NOT_AMONG_TERMS, Term
from dfkd_exp.rows import Row
from dfkd_exp.settings import Settings, did_you_mean, import_by_path, under_flag
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.settings import Training

PACKAGE = Path(__file__).parent
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""The yaml files: inside the package once it is installed, beside it in a clone."""

PIPELINES = ("full", "release", "from_release")
NOT_HASHED = ("outputs", "logger", "name", "release", "rows", "row", "published_teacher", "privacy", "likeness")


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
        self.require("seed", self.seed >= 0, "at least 0")
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


SAME_INNER_GROUPS = {"distillation": "training"}
"""Groups whose inner groups have the choices of another's: `hydra_plugins.dfkd_import_paths` finds them there."""

SCHEMA = re.compile(r"^ *- /schema@_here_: *(\S+)", re.M)
"""The line by which a yaml names its dataclass, by import path."""


def typed(config: DictConfig) -> Config:
    """The config as usable objects, everything checked; ConfigError with one line if something is wrong."""
    try:
        result = _built(config, "")
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    assert isinstance(result, Config)
    return result


def _built(node: Any, flag: str) -> Any:
    """A node as the object that it is a config of: each dataclass within it knows the flag under which it stands."""
    if isinstance(node, ListConfig):
        return [_built(item, f"{flag}[{number}]") for number, item in enumerate(node)]
    if not isinstance(node, DictConfig):
        if isinstance(node, float) and not math.isfinite(node):  # comparisons let NaN pass, and infinity most of them
            raise ConfigError(f"{flag} must be a finite number, got {node}")
        return OmegaConf.to_object(node) if OmegaConf.is_config(node) else node
    flags = {name: f"{flag}.{name}".lstrip(".") for name in map(str, node)}
    schema = OmegaConf.get_type(node)
    if not is_dataclass(schema):  # entries by name, such as terms
        return {name: _built(node[name], flags[name]) for name in flags}
    known = {f.name for f in fields(schema)}
    for name in flags:
        if name not in known:  # +group.name=… gets past Hydra's own check
            raise ConfigError(_unknown_flag(flags[name]))
    values = {name: _built(node[name], flags[name]) for name in flags}
    with under_flag(flag):
        return schema(**values)


def rows_of(config: DictConfig) -> list[Row]:
    """The rows of the composed config's experiment; ConfigError if one is wrong."""
    rows: list[Row] = _built(config.rows, "rows")
    return rows


def experiment_of(hydra_config: Any) -> str | None:
    """The experiment that was chosen, by Hydra's own config of the run or sweep."""
    return hydra_config.runtime.choices.get("experiment")


def kinds(group: str) -> dict[str, type[Settings]]:
    """The dataclass of each choice in a group, by the choice's name."""
    found: dict[str, type[Settings]] = {}
    for name in choices(group):
        if match := SCHEMA.search((home(group) / f"{name}.yaml").read_text("utf-8")):
            found[name] = import_by_path(match[1], group)
    return found


def choices(group: str) -> list[str]:
    """The names that a config group has, as on the command line."""
    paths = [path.relative_to(home(group)).with_suffix("") for path in home(group).rglob("*.yaml")]
    return sorted(path.as_posix() for path in paths if f"{group}/{path.parent.as_posix()}" not in inner_groups(group))


def home(group: str) -> Path:
    """The folder of a group's choices: ``distillation/schedule`` has those of ``training/schedule``."""
    outer, _, inner = group.partition("/")
    return CONF / SAME_INNER_GROUPS.get(outer, outer) / inner if inner else CONF / outer


def file_of(group: str, choice: str) -> dict[str, Any]:
    """What the yaml of a choice says by itself, nothing composed."""
    content = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{choice}.yaml")) or {}
    return content  # type: ignore[return-value]


def groups() -> list[str]:
    """The config groups, in the order of the pipeline, those within one after it; then the deltas over several of them."""
    found = {path.name for path in CONF.iterdir() if path.is_dir() and any(path.rglob("*.yaml"))} - {"hydra"}
    ordered = [f.name for f in fields(Config)] + ["experiment", "method", "protocol", "recipe", "scale", "sweep"]
    outer = [name for name in ordered if name in found] + sorted(found - set(ordered))
    return [group for name in outer for group in (name, *(inner_groups(name) if name not in SAME_INNER_GROUPS else ()))]


def sharing(group: str) -> list[str]:
    """The groups that have the choices of ``group`` too."""
    outer, _, inner = group.partition("/")
    return [f"{other}/{inner}" for other, same in SAME_INNER_GROUPS.items() if inner and same == outer]


def inner_groups(group: str) -> list[str]:
    """The groups that choose a field of another group's choices, as ``training/optimizer``."""
    if group not in {f.name for f in fields(Config)}:
        return []  # a folder of an experiment's is no group
    folders = (CONF / SAME_INNER_GROUPS.get(group, group)).iterdir()
    return sorted(f"{group}/{path.name}" for path in folders if path.is_dir())


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
        return unreadable(error.override or "", in_a_sweep=bool({"-m", "--multirun"} & set(sys.argv)))
    if match := re.search(r"Could not override '([^']+)'", str(error)):
        return _unknown_flag(match[1])
    for link in chain:
        if isinstance(link, OmegaConfBaseException) and link.object_type is Term:
            return f"{link.full_key}: {NOT_AMONG_TERMS}"
        if isinstance(link, ConfigKeyError) and "' not in '" in str(link):
            return f"{_unknown_flag(str(link.full_key))}; a method, recipe or experiment sets it: choose one of these beside it"
        if isinstance(link, OmegaConfBaseException) and getattr(link, "full_key", None):
            return f"{link.full_key}: {_first_line(link)}"
    if match := re.search(r"(?:Error merging override|Error parsing override) '?([^'\n]+)'?", str(error)):
        return f"{match[1]}: {_first_line(chain[1] if len(chain) > 1 else error)}"
    return _first_line(error)


EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}
"""Launchers that others have written, and the extra that brings them."""

CONFIG_ERRORS = (HydraException, ConfigCompositionException, OmegaConfBaseException)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _unknown_choice(error: MissingConfigException) -> str | None:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group or not home(group).is_dir():
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
    field, _, rest = name.partition(".")
    if rest and f"{group}/{field}" in inner_groups(group):
        group, name = f"{group}/{field}", rest
    if not name:
        known = [*groups(), *(f.name for f in fields(Config) if f.name not in groups())]
        return f"{flag}: there is no such flag or group; there are {', '.join(known)}{did_you_mean(flag, known)}"
    if home(group).is_dir() and (schemas := kinds(group)):
        entry = name.partition(".")[0]
        if any(f.name == entry and str(f.type).startswith("dict") for s in schemas.values() for f in fields(s)):
            return f"{flag}: what is not there yet is added with a plus, entry by entry: +{group.replace('/', '.')}.{entry}.NAME=VALUE"
        known = sorted({f.name for schema in schemas.values() for f in fields(schema)})
        if name in known:
            owners = sorted(kind for kind, schema in schemas.items() if name in {f.name for f in fields(schema)})
            return f"{flag}: the chosen {group} has no {name}; it belongs to {group}={' or '.join(owners)}"
        return f"{flag}: {group} has no {name}; it has {', '.join(known)}{did_you_mean(name, known)}"
    return f"{flag}: there is no such group; there are {', '.join(groups())}{did_you_mean(group, groups())}"
