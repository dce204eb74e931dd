"""docs/config.md, made from the dataclasses: ``python -m dfkd_exp.report.config_reference`` writes it."""

from __future__ import annotations

import ast
import inspect
import itertools
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from textwrap import dedent

from dfkd_exp.config import CONF, Config, choices, groups, kinds
from dfkd_exp.settings import Settings

HEADER = """# Every field

Made from the dataclasses by `python -m dfkd_exp.report.config_reference`; do not edit it by hand. Set a field on the command line
as `group.field=value`, choose in a group as `group=choice`; `dfkd --cfg job` shows everything as it would be used.
A yaml in `conf/GROUP/` may change a default; the choices are listed with each group.
"""


def config_reference() -> str:
    """The page, as Markdown."""
    described = {group: schemas for group in groups() if (schemas := distinct(kinds(group)))}
    parts = [HEADER, "## At the top\n", _table(Config, "", skip=set(described))]
    for group, schemas in described.items():
        parts.append(f"## {group}\n\nChoices: {', '.join(f'`{name}`' for name in choices(group))}.\n")
        shared = _shared_fields(list(schemas.values()))
        if len(schemas) == 1:
            parts.append(_table(next(iter(schemas.values())), group))
            continue
        base = next(iter(schemas.values())).__mro__
        common = next((cls for cls in base if shared and all(issubclass(kind, cls) for kind in schemas.values())), None)
        if shared and common is not None:
            parts.append("All of them:\n\n" + _table(common, group, only=shared))
        for kind, schema in schemas.items():
            summary = " ".join((schema.__doc__ or "").split("\n\n")[0].split())
            parts.append(f"### {group}={kind}\n\n{summary}\n")
            own = {f.name for f in fields(schema)} - shared
            if own:
                parts.append(_table(schema, group, only=own))
    return "\n".join(parts)


def distinct(schemas: dict[str, type[Settings]]) -> dict[str, type[Settings]]:
    """Each class once, under the first choice that has it."""
    return {
        name: schema for name, schema in schemas.items() if next(n for n, s in schemas.items() if s is schema) == name
    }


def _shared_fields(schemas: list[type[Settings]]) -> set[str]:
    """Fields that all kinds of a group have, with the same default."""
    described = [{(f.name, str(_default(f))) for f in fields(kind)} for kind in schemas]
    return {name for name, _ in set.intersection(*described)}


def _table(cls: type[Settings], group: str, skip: set[str] = frozenset(), only: set[str] | None = None) -> str:  # type: ignore[assignment]
    docs = field_docs(cls)
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for field in fields(cls):
        if field.name in skip or (only is not None and field.name not in only):
            continue
        name = f"{group}.{field.name}" if group else field.name
        nested = field.default_factory if isinstance(field.default_factory, type) else None
        if nested is not None and is_dataclass(nested):
            rows += _table(nested, name).splitlines()[2:]
            continue
        kind = str(field.type if isinstance(field.type, str) else getattr(field.type, "__name__", field.type))
        rows.append(
            f"| `{name}` | {kind.replace('|', 'or')} | `{_default(field)}` | {docs[field.name].replace('|', '&#124;')} |"
        )
    return "\n".join(rows) + "\n"


def _default(field) -> object:
    value = (
        field.default_factory() if field.default is MISSING and field.default_factory is not MISSING else field.default
    )
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
    Path(target).write_text(config_reference())
    print(f"wrote {target}")
