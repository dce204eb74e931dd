"""What stands on the command line, before Hydra reads it: what it would answer with its usage or a traceback, and what its grammar
cannot read, with what it can."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from dfkd_exp.errors import ConfigError
from dfkd_exp.settings import did_you_mean

FLAG = re.compile(r"(\+\+?|~)?[\w./@:-]+")
"""What stands before the first ``=``."""


def check_arguments(arguments: Sequence[str]) -> None:
    """Raise ConfigError for an option that there is not, or an argument that is of no flag."""
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]  # it would print its usage
    for text in parser.parse_known_args(arguments)[1]:
        if text.startswith("-"):
            known = [option for action in parser._actions for option in action.option_strings]
            raise ConfigError(
                f"{text}: there is no such option; dfkd --help says what there is{did_you_mean(text, known)}"
            )
    for text in arguments:
        if not text.startswith("-") and not FLAG.match(text):
            raise ConfigError(f"cannot read the argument {text!r}; write it as flag=value")


def unreadable(argument: str, in_a_sweep: bool = False) -> str:
    """What to say of an argument that Hydra cannot read: in one line, with one that it can read and that means what was probably meant,
    as it is typed in a shell."""
    flag, equals, value = argument.partition("=")
    said = f"cannot read the argument {argument!r}; write it as flag=value"
    if not (equals and FLAG.fullmatch(flag) and argument.isprintable()):
        return said
    if value.startswith("[") and value.endswith("]"):
        meant = f"{flag}=[{','.join(text if text.isalnum() and text.isascii() else quoted(text) for text in value[1:-1].split(','))}]"
    else:
        meant = f"{flag}={','.join(map(quoted, value.split(',') if in_a_sweep else [value]))}"
    try:
        OverridesParser.create().parse_overrides([meant])
    except OverrideParseException:
        return said
    return f"{said}, and a text with special characters as {shlex.quote(meant)}"


def quoted(text: str) -> str:
    """A text as Hydra's grammar has it between quotes, whatever it holds."""
    text = re.sub(r'(\\*)"', r'\1\1\\"', text)
    last = len(text) - len(text.rstrip("\\"))
    return '"' + text + "\\" * last + '"'


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; dfkd --help says what there is")
