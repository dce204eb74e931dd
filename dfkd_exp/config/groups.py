"""The config groups and their choices, as the yaml files have them. It imports no torch."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dfkd_exp.config.tree import Config
from dfkd_exp.settings import Settings, import_by_path

PACKAGE = Path(__file__).parent.parent
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""The yaml files: inside the package once it is installed, beside it in a clone."""

SAME_INNER_GROUPS = {"distillation": "training"}
"""Groups whose inner groups have the choices of another's: `hydra_plugins.dfkd_import_paths` finds them there."""

SCHEMA = re.compile(r"^ *- /schema@_here_: *(\S+)", re.M)
"""The line by which a yaml names its dataclass, by import path."""


BASE = re.compile(r"^ *- (\w+)$", re.M)
"""The line by which a yaml names another choice of its group, from which it starts."""

PLACE = re.compile(r"^# @package (?!_global_)(\S+)", re.M)
"""The line by which a yaml says where its fields stand, if not under its group's name."""


def kinds(group: str) -> dict[str, type[Settings]]:
    """The dataclass of each choice in a group, by the choice's name."""
    paths = {name: path for name in choices(group) if (path := _schema(group, name))}
    return {name: import_by_path(path, group) for name, path in paths.items()}


def _schema(group: str, choice: str) -> str | None:
    """The import path of a choice's dataclass, its own or that of the choice that it starts from."""
    text = (home(group) / f"{choice}.yaml").read_text("utf-8")
    if match := SCHEMA.search(text):
        return match[1]
    known = set(choices(group))
    return next((_schema(group, name) for name in BASE.findall(text) if name in known), None)


def said_by(group: str, choice: str) -> dict[str, str]:
    """What the yaml of a choice says otherwise than its dataclass, and that of the choice that it starts from, by flag."""
    content, flag, inner = file_of(group, choice), flag_of(group, choice), inner_groups(group)
    said: dict[str, str] = {}
    for entry in content.pop("defaults"):
        if isinstance(entry, str):
            said |= said_by(group, entry) if entry != "_self_" else {}
            continue
        [(chosen, name)] = entry.items()
        if not chosen.startswith("/schema@"):  # a group within this one, or "override /training@_global_.training"
            other = chosen.removeprefix("override ").lstrip("/").partition("@")[0]
            said[f"{group}/{other}" if f"{group}/{other}" in inner else other] = name
    for name, value in content.items():
        values = {f".{field}": of for field, of in value.items()} if f"{group}/{name}" in inner else {"": value}
        said |= {f"{flag}.{name}{field}": on_command_line(of) for field, of in values.items()}
    return said


def on_command_line(value: Any) -> str:
    """A value as it is said there: ``null``, ``true``, ``[0.2, 0.4]``."""
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")


def flag_of(group: str, choice: str) -> str:
    """The flag under which the fields of a choice stand: its group's, but for a term, which has its own."""
    place = PLACE.search((home(group) / f"{choice}.yaml").read_text("utf-8"))
    return place[1] if place else group.replace("/", ".")


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
    ordered = [f.name for f in fields(Config)]
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
