"""docs/config.md, made from the dataclasses: ``python -m dfkd_exp.reference.config`` writes it."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Collection, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from textwrap import dedent

from dfkd_exp.config.groups import CONF, choices, flag_of, groups, kinds, said_by, sharing
from dfkd_exp.config.tree import Config
from dfkd_exp.settings import UNSET, Settings

HEADER = """# Every field

Made from the dataclasses by `python -m dfkd_exp.reference.config`; do not edit it by hand. Set a field on the command line
as `group.field=value`, choose in a group as `group=choice`; `dfkd --cfg job` shows everything as it would be used.
A default is that of the class; what a choice's yaml in `conf/GROUP/` says otherwise stands below, choice by choice.
"""


def config_reference() -> str:
    """The page, as Markdown."""
    described = {group: of_class for group in groups() if (of_class := _by_class(group))}
    parts = [HEADER, "## At the top\n", _table(Config, "", skip=set(described))]
    for group, of_class in described.items():
        named = ", ".join(f"`{name}`" for name in choices(group))
        also = "".join(f" The same in `{other}`." for other in sharing(group))
        parts.append(f"## {group}\n\nChoices: {named}.{also}\n")
        schemas = [*of_class]
        shared = _shared_fields(schemas)
        if len(schemas) == 1:
            parts += [_table(schemas[0], group), *_otherwise(group, of_class[schemas[0]])]
            continue
        base = schemas[0].__mro__
        common = next((cls for cls in base if shared and all(issubclass(kind, cls) for kind in schemas)), None)
        shared &= {f.name for f in fields(common)} if common is not None else set()
        if shared and common is not None:
            parts.append("All of them:\n\n" + _table(common, group, only=shared))
        for schema, names in of_class.items():
            summary = " ".join((schema.__doc__ or "").split("\n\n")[0].split())
            parts.append(f"### {group}={', '.join(names)}\n\n{summary}\n")
            own = {f.name for f in fields(schema)} - shared
            if own:
                parts.append(_table(schema, flag_of(group, names[0]), only=own))
            parts += _otherwise(group, names)
    return "\n".join(parts)


def _by_class(group: str) -> dict[type[Settings], list[str]]:
    """Each class of a group once, with all choices that have it."""
    found: dict[type[Settings], list[str]] = {}
    for name, schema in kinds(group).items():
        found.setdefault(schema, []).append(name)
    return found


def _otherwise(group: str, names: Sequence[str]) -> list[str]:
    """For each of these choices what its yaml says otherwise than the table above; nothing if none does."""
    said = {name: " ".join(f"{flag}={value}" for flag, value in said_by(group, name).items()) for name in names}
    lines = [f"* `{group}={name}`: `{flags}`" for name, flags in said.items() if flags]
    return ["\n".join(["Otherwise than by default:\n", *lines, ""])] if lines else []


def _shared_fields(schemas: list[type[Settings]]) -> set[str]:
    """Fields that all kinds of a group have, with the same default."""
    described = [{(f.name, str(_default(f))) for f in fields(kind)} for kind in schemas]
    return {name for name, _ in set.intersection(*described)}


@dataclass(frozen=True)
class Documented:
    """A field as a user meets it: its flag, type, default and meaning, each in words."""

    flag: str
    kind: str
    default: str
    meaning: str


def documented(
    cls: type[Settings], flag: str, skip: Collection[str] = (), only: Collection[str] | None = None
) -> list[Documented]:
    """The fields of a dataclass that stands under ``flag``, those of dataclasses within it in their place."""
    docs, found = field_docs(cls), []
    for field in fields(cls):
        if field.name in skip or (only is not None and field.name not in only):
            continue
        name = f"{flag}.{field.name}".replace("/", ".").lstrip(".")
        nested = field.default_factory if isinstance(field.default_factory, type) else None
        if nested is not None and is_dataclass(nested):
            found += documented(nested, name)
            continue
        kind = str(field.type if isinstance(field.type, str) else getattr(field.type, "__name__", field.type))
        found.append(Documented(name, kind.replace("|", "or"), str(_default(field)), docs[field.name]))
    return found


def _table(cls: type[Settings], group: str, skip: Collection[str] = (), only: Collection[str] | None = None) -> str:
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for field in documented(cls, group, skip, only):
        meaning = field.meaning.replace("|", "&#124;")
        rows.append(f"| `{field.flag}` | {field.kind} | `{field.default}` | {meaning} |")
    return "\n".join(rows) + "\n"


def _default(field) -> object:
    value = (
        field.default_factory() if field.default is MISSING and field.default_factory is not MISSING else field.default
    )
    if value == UNSET:
        return "its group's"
    return (
        "null" if value is None else '""' if value == "" else str(value).lower() if isinstance(value, bool) else value
    )


def field_docs(cls: type) -> dict[str, str]:
    """The string literal under each field of a dataclass, from the class's own source and its bases'."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if owner is object:
            continue
        body = ast.parse(dedent(inspect.getsource(owner))).body[0].body  # type: ignore[attr-defined]
        for node, following in itertools.pairwise(body):
            if isinstance(node, ast.AnnAssign) and isinstance(following, ast.Expr):
                found[node.target.id] = " ".join(str(following.value.value).split())  # type: ignore[union-attr,attr-defined]
    return found


if __name__ == "__main__":
    target = CONF.parent / "docs" / "config.md"
    Path(target).write_text(config_reference(), "utf-8")
    print(f"wrote {target}")
