"""Hydra's errors, and OmegaConf's, in one line: the flag, what is wrong with it, and what it may be."""

from __future__ import annotations

import re
import sys
from dataclasses import fields

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from dfkd_exp.arguments import unreadable
from dfkd_exp.config.groups import choices, groups, home, inner_groups, kinds
from dfkd_exp.config.tree import Config
from dfkd_exp.errors import DfkdError
from dfkd_exp.reconstruction.terms.term import NOT_AMONG_TERMS, Term
from dfkd_exp.settings import did_you_mean

EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}
"""Launchers that others have written, and the extra that brings them."""

CONFIG_ERRORS = (HydraException, ConfigCompositionException, OmegaConfBaseException)


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
    if match := re.search(r"Ambiguous value for argument '([^']+)'", str(error)):
        return f"{match[1]}: several values are for a sweep: dfkd -m {match[1]}; a list has brackets, [a,b], and a text with a comma quotes"
    if match := re.search(r"schema@terms\.(\S+) appears more than once", str(error)):
        return (
            f"terms: {match[1]} is chosen more than once; name each term once, and weight it by terms.{match[1]}.weight"
        )
    if match := re.search(r"Could not override '([^']+)'", str(error)):
        return unknown_flag(match[1])
    for link in chain:
        if isinstance(link, OmegaConfBaseException) and link.object_type is Term:
            return f"{link.full_key}: {NOT_AMONG_TERMS}"
        if isinstance(link, ConfigKeyError) and "' not in '" in str(link):
            return f"{unknown_flag(str(link.full_key))}; a method, recipe or experiment sets it: choose one of these beside it"
        if isinstance(link, OmegaConfBaseException) and getattr(link, "full_key", None):
            return f"{link.full_key}: {_first_line(link)}"
    if match := re.search(r"(?:Error merging override|Error parsing override) '?([^'\n]+)'?", str(error)):
        return f"{match[1]}: {_first_line(chain[1] if len(chain) > 1 else error)}"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _unknown_choice(error: MissingConfigException) -> str | None:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group or not home(group).is_dir():
        return None
    known = choices(group)
    if group == "distillation" and _of_protocol_alone():
        return (
            f"protocol=own: method={name} has no students of its own: there is no conf/distillation/{name}.yaml; write it, or leave "
            "protocol=own out"
        )
    if name in EXTRAS:
        return f"{group}={name} is not installed: pip install 'dfkd_exp[{EXTRAS[name]}]'"
    if group == "hydra/launcher":
        known = sorted({*known, "basic", "processes"})
    what = "term" if group == "terms" else group
    return f"{group}={name}: there is no such {what}; choose one of {', '.join(known)}{did_you_mean(name, known)}"


def _of_protocol_alone() -> bool:
    """Whether nobody has said how students are trained but ``protocol=own``."""
    flags = [text.partition("=") for text in sys.argv[1:]]
    own = any(flag == "protocol" and "own" in value.split(",") for flag, _, value in flags)
    return own and all(flag != "distillation" for flag, _, _ in flags)


def unknown_flag(flag: str) -> str:
    """A flag that is not in the tree: say which there are beside it."""
    flag = flag.split("=")[0]
    group, _, name = flag.partition(".")
    field, _, rest = name.partition(".")
    if rest and f"{group}/{field}" in inner_groups(group):
        group, name = f"{group}/{field}", rest
    if not name:
        known = [*groups(), *(f.name for f in fields(Config) if f.name not in groups())]
        return f"{flag}: there is no such flag or group; there are {', '.join(known)}{did_you_mean(flag, known)}"
    if group == "terms":
        terms = kinds(group)
        owners = sorted(term for term, schema in terms.items() if field in {f.name for f in fields(schema)})
        if owners:
            return f"{flag}: each term has its own {field}: terms.NAME.{field}, of {', '.join(owners)}"
        if field not in terms:
            return f"{flag}: there is no term {field}; choose one of {', '.join(terms)}{did_you_mean(field, terms)}"
        known = [f.name for f in fields(terms[field])]
        if rest and rest not in known:
            return f"{flag}: the term {field} has no {rest}; it has {', '.join(known)}{did_you_mean(rest, known)}"
        return f"{flag}: the term {field} is not chosen: terms=[{field}]"
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
