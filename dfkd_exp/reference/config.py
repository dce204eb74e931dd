"""docs/config.md, made from the dataclasses: ``python -m dfkd_exp.reference.config`` writes it."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Collection
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from textwrap import dedent

from dfkd_exp.config.groups import CONF, choices, flag_of, groups, kinds, sharing
from dfkd_exp.config.tree import Config
from dfkd_exp.settings import UNSET, Settings

HEADER = """# Every field

Made from the dataclasses by `python -m dfkd_exp.reference.config`; do not edit it by hand. Set a field on the command line
as `group.field=value`, choose in a group as `group=choice`; `dfkd --cfg job` shows everything as it would be used.
A yaml in `conf/GROUP/` may change a default; the choices are listed with each group.
"""


def config_reference() -> str:
    """The page, as Markdown."""
    described = {group: schemas for group in groups() if (schemas := _distinct(kinds(group)))}
    parts = [HEADER, "## At the top\n", _table(Config, "", skip=set(described))]
    for group, schemas in described.items():
        named = ", ".join(f"`{name}`" for name in choices(group))
        also = "".join(f" The same in `{other}`." for other in sharing(group))
        parts.append(f"## {group}\n\nChoices: {named}.{also}\n")
        shared = _shared_fields(list(schemas.values()))
        if len(schemas) == 1:
            parts.append(_table(next(iter(schemas.values())), group))
            continue
        base = next(iter(schemas.values())).__mro__
        common = next((cls for cls in base if shared and all(issubclass(kind, cls) for kind in schemas.values())), None)
        shared &= {f.name for f in fields(common)} if common is not None else set()
        if shared and common is not None:
            parts.append("All of them:\n\n" + _table(common, group, only=shared))
        for kind, schema in schemas.items():
            summary = " ".join((schema.__doc__ or "").split("\n\n")[0].split())
            parts.append(f"### {group}={kind}\n\n{summary}\n")
            own = {f.name for f in fields(schema)} - shared
            if own:
                parts.append(_table(schema, flag_of(group, kind), only=own))
    return "\n".join(parts)


def _distinct(schemas: dict[str, type[Settings]]) -> dict[str, type[Settings]]:
    """Each class once, under the first choice that has it."""
    return {
        name: schema for name, schema in schemas.items() if next(n for n, s in schemas.items() if s is schema) == name
    }


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
