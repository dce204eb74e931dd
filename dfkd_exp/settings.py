"""The base of every config dataclass: checked once, at the border, with messages that name the flag.

Settings are plain dataclasses with primitive fields. They import nothing heavy, so that a typo is answered before
torch is loaded; the methods that do the work import what they need.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar, Self

from dfkd_exp.errors import ConfigError
from dfkd_exp.import_paths import import_by_path as import_by_path
from dfkd_exp.import_paths import look_here_too
from dfkd_exp.source_code import is_ours, source_digest

UNSET: Any = "???"
"""Default of a field whose class a config group chooses: what OmegaConf calls a value that is yet to come."""

_flag: ContextVar[str | None] = ContextVar("flag", default=None)


@contextmanager
def under_flag(flag: str) -> Iterator[None]:
    """Settings that are made within the context stand under ``flag`` in the config, and say so in their messages."""
    token = _flag.set(flag)
    try:
        yield
    finally:
        _flag.reset(token)


@dataclass
class Settings:
    """Common to all settings. ``flag`` is the name under which a user reaches them on the command line: the class's own, unless the
    config has them elsewhere."""

    flag: ClassVar[str] = ""
    ephemeral: ClassVar[tuple[str, ...]] = ()
    """Fields that change how or where, but never what, is computed; they are not part of an artifact's key."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        made = super().__new__(cls)
        if (flag := _flag.get()) is not None:
            made.flag = flag  # type: ignore[misc]
        return made

    def named(self, field: str) -> str:
        """How a user says ``field`` on the command line."""
        return f"{self.flag}.{field}" if self.flag else field

    def in_short(self) -> str:
        """Its kind, and what of it is not as it is by default: ``Channels styles=1``."""
        said = [type(self).__name__]
        for field in fields(self):
            default = field.default if field.default_factory is MISSING else field.default_factory()
            if (value := getattr(self, field.name)) != default:
                said.append(f"{field.name}={value}")
        return " ".join(said)

    def require(self, field: str, ok: bool, rule: str) -> None:
        """Raise a ConfigError that names the flag unless ``ok``."""
        if not ok:
            raise ConfigError(f"{self.named(field)} must be {rule}, got {getattr(self, field)!r}")

    def require_choice(self, field: str, choices: Iterable[str]) -> None:
        choices = list(choices)
        value = getattr(self, field)
        self.require(field, value in choices, f"one of {', '.join(choices)}{did_you_mean(str(value), choices)}")

    def choose(self, **kinds: Callable[[], Any]) -> None:
        """Make those of the fields that are unset: what a group is without a config that chooses."""
        for field, kind in kinds.items():
            if getattr(self, field) == UNSET:
                with under_flag(f"{self.flag}.{field}"):
                    setattr(self, field, kind())

    def identity(self) -> dict[str, Any]:
        """The JSON-able fields that decide the result, with the class's name and the source of code that is not ours: what an artifact's
        key is made of."""
        nested = {name: value.identity() for name, value in vars(self).items() if isinstance(value, Settings)}
        fields = {name: value for name, value in {**asdict(self), **nested}.items() if name not in self.ephemeral}
        look_here_too()
        code = {"code": source_digest(paths)} if (paths := self.foreign_code()) else {}
        return {"kind": type(self).__name__, **fields, **code}

    def foreign_code(self) -> list[str]:
        """Import paths of the code that does what these settings say, where it is not ours: the class's own, and what its fields name."""
        module = type(self).__module__
        return [] if is_ours(module) else [f"{module}.{type(self).__qualname__}"]


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(choices), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
