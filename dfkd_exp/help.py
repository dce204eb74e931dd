"""``dfkd --help``: one screen, and ``dfkd --help GROUP`` for the rest; made from ``conf/`` and the dataclasses, so never out of date."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.markup import escape

from dfkd_exp.config.groups import CONF, choices, file_of, flag_of, groups, kinds, said_by
from dfkd_exp.config.words import headline
from dfkd_exp.errors import ConfigError
from dfkd_exp.reference.config import Documented, documented
from dfkd_exp.settings import did_you_mean

WIDTH, HALF = 100, 49
FLAGS = ("--help", "-h")

COMMANDS = {
    "dfkd": "digits in about half a minute, without a download",
    "dfkd experiment=mnist_lenet_quick": "a named question; its yaml says what to expect",
    "dfkd experiment=paper/table2": "a table of the paper; row=NAME,NAME: some rows",
    "dfkd method=dafl": "a method of the field; experiment=field: them all",
    "dfkd teacher=cnn distillation.optimizer.lr=0.01": "a choice of a group, and a field of another",
    "dfkd -m student=mlp,cnn seed=0,1,2": "every combination, one table; nothing twice",
    "dfkd -m hydra/launcher=processes …": "side by side; slurm, ray_jobs: docs/sweeps.md",
    "dfkd -m hydra/sweeper=study …": "a search for hyper-parameters, by Optuna",
    "dfkd pipeline=release release=FOLDER": "the owner's side: write what is published; stop",
    "dfkd pipeline=from_release release=FOLDER": "the other side, without the data",
    "dfkd-status, dfkd-report": "how far the newest sweep is; its report",
    "dfkd --help metadata": "a group's choices and fields; metadata=NAME: one",
    "dfkd --cfg job": "every setting, as it would be used",
}


def asks_for_help(arguments: Sequence[str]) -> bool:
    return any(flag in arguments for flag in FLAGS)


def help_page(arguments: Sequence[str] = ()) -> str:
    """What is shown for ``--help`` and the groups named beside it, with rich's markup; ConfigError for one that there is not."""
    asked = [text for text in arguments if not text.startswith("-")]
    return "\n\n".join(map(_group_page, asked)) if asked else _first_page()


def _first_page() -> str:
    width = max(map(len, COMMANDS))
    commands = [f"  {command:<{width}}  {escape(meaning)}" for command, meaning in COMMANDS.items()]
    return "\n".join(
        [
            "[bold]dfkd[/]: data-free knowledge distillation from activation metadata",
            *commands,
            "",
            "[bold]Groups[/] and their choices (group=choice):",
            *_in_columns(_entries()),
            "Beside: seed=0 row=NAME name=NAME outputs=DIR release=DIR privacy=true shadows=16 likeness=true",
            "Exit codes: 0 done, 1 failed, 2 the config is wrong, 130 interrupted. --hydra-help: Hydra's own.",
        ]
    )


def _entries() -> list[str]:
    """A text for each group; groups that have the same choices, as teacher and student, share one."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for group in groups():
        alike.setdefault(tuple(choices(group)), []).append(group)
    return [f"{', '.join(names):<16} {' '.join(known)}" for known, names in alike.items()]


def _in_columns(entries: Sequence[str]) -> list[str]:
    """Two short entries to a line; long ones wrapped."""
    lines: list[str] = []
    waiting = ""
    for entry in entries:
        if len(entry) < HALF and waiting:
            lines[-1] = f"{waiting:<{HALF}} {entry}"
            waiting = ""
        elif len(entry) < HALF:
            lines.append(entry)
            waiting = entry
        else:
            lines += textwrap.wrap(entry, WIDTH - 2, subsequent_indent=" " * 17, break_on_hyphens=False)
            waiting = ""
    return [f"  {escape(line)}" for line in lines]


def _group_page(asked: str) -> str:
    group, _, choice = asked.partition("=")
    if group not in groups():
        known = groups()
        raise ConfigError(
            f"--help {asked}: there is no such group; there are {', '.join(known)}{did_you_mean(group, known)}"
        )
    known = choices(group)
    if choice and choice not in known:
        raise ConfigError(
            f"--help {asked}: there is no such {group}; choose one of {', '.join(known)}{did_you_mean(choice, known)}"
        )
    shown = [choice] if choice else known
    lines = [f"[bold cyan]{group}[/]", *(line for name in shown for line in _choice_lines(group, name, known))]
    schemas = kinds(group)
    if choice:
        return "\n".join([*lines, *_rows(group, choice), *(_fields(group, schemas[choice], choice) if schemas else [])])
    owners: dict[Documented, list[str]] = {}
    for name, schema in schemas.items():
        for field in documented(schema, flag_of(group, name)):
            owners.setdefault(field, []).append(name)
    together: dict[tuple[str, ...], list[Documented]] = {}
    for field, names in owners.items():
        together.setdefault(tuple(names), []).append(field)
    for kinds_of, found in sorted(together.items(), key=lambda entry: -len(entry[0])):
        whose = "fields" if len(kinds_of) == len(schemas) else f"fields of {', '.join(kinds_of)}"
        lines += ["", *(f"[bold]{line}[/]" for line in _wrapped(whose, indent=2)), *_field_lines(found)]
    return "\n".join(lines)


def _choice_lines(group: str, name: str, known: Sequence[str]) -> list[str]:
    width = max(map(len, known)) + 2
    title, explanation = headline(CONF / group / f"{name}.yaml")
    text = f"{title}: {explanation}" if explanation else title
    return _wrapped(f"  {name:<{width}}{text}", indent=width + 2)


def _rows(group: str, choice: str) -> list[str]:
    """The rows of an experiment, its own or those of the one that it starts from."""
    content = file_of(group, choice)
    starts_from = [name for name in content.get("defaults", []) if name in choices(group)]
    rows = content.get("rows") or [row for name in starts_from for row in file_of(group, name).get("rows", [])]
    width = max((len(row["name"]) for row in rows), default=0) + 2
    lines = [line for row in rows for line in _wrapped(f"  {row['name']:<{width}}{row['title']}", indent=width + 2)]
    return ["", "[bold]rows[/]", *lines] if rows else []


def _fields(group: str, schema: type, choice: str) -> list[str]:
    """The fields of one choice; a default as its yaml has it."""
    said = said_by(group, choice)
    found = documented(schema, flag_of(group, choice))
    changed = [Documented(f.flag, f.kind, said.get(f.flag, f.default), f.meaning) for f in found]
    return ["", "[bold]fields[/]", *_field_lines(changed)] if changed else []


def _field_lines(found: Sequence[Documented]) -> list[str]:
    lines: list[str] = []
    for field in found:
        lines.append(f"  [cyan]{escape(field.flag)}[/]  {escape(f'{field.kind} = {field.default}')}")
        lines += _wrapped(field.meaning, indent=6, first=6)
    return lines


def _wrapped(text: str, indent: int, first: int = 0) -> list[str]:
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=" " * first, subsequent_indent=" " * indent, break_on_hyphens=False,
        break_long_words=False, drop_whitespace=True,
    )  # fmt: skip
    return [escape(line) for line in lines]
