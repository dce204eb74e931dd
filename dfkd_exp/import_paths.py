"""Somebody else's code by its import path: found, imported and called without a part in this program's arguments and end."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from traceback import extract_tb
from typing import Any

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief, in_brief
from dfkd_exp.source_code import is_own


def look_here_too() -> None:
    """From now on modules are looked for in the working directory too."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def import_by_path(path: str, flag: str) -> Any:
    """The object at ``package.module.Name``, looked for in the working directory too, or what lies within one, such as a class method.
    DfkdError, which names the ``flag``, if it is not there, or its module cannot be imported."""
    said = f"{flag}={path}"
    names = path.split(".")
    if len(names) < 2 or not all(name.isidentifier() for name in names):
        raise DfkdError(f"{flag} must be an import path like my_package.my_module.MyNet, got {path!r}{_meant(path)}")
    look_here_too()
    module, rest = _imported(names, said)
    for name in rest:
        if not hasattr(module, name):
            place = f" ({file})" if (file := getattr(module, "__file__", None)) else ""
            raise DfkdError(f"{said}: {_kind(module)}{place} has nothing called {name}")
        module = getattr(module, name)
    return module


@contextmanager
def on_its_own(said: str) -> Iterator[None]:
    """Within the context somebody else's code finds no arguments, and what would end the program is a DfkdError that begins with ``said``,
    and goes on with what was written to stderr last. Working directory and torch's modes are afterwards as they were."""
    heard, before = _Heard(sys.stderr), _modes()
    arguments, sys.argv = sys.argv, said.split()[-1:]
    try:
        with redirect_stderr(heard):
            yield
    except SystemExit as error:
        code, lines = str(error), [line for line in "".join(heard.texts).splitlines() if line.strip()]
        reason = code if code and not code.isdigit() else lines[-1] if lines else f"sys.exit({code})"
        heard.texts.clear()
        raise DfkdError(
            f"{said} ends the program ({brief(reason)}){where(error)}; put what reads arguments or runs something under "
            'if __name__ == "__main__":'
        ) from error
    finally:
        sys.argv = arguments
        _restore(before)
        sys.stderr.write("".join(heard.texts))


def _modes() -> tuple[str, bool, Any, Any]:
    """The working directory, and whether torch keeps gradients, its type of numbers and its device, where it is loaded."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return os.getcwd(), True, None, None
    return os.getcwd(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device()


def _restore(before: tuple[str, bool, Any, Any]) -> None:
    folder, gradients, dtype, device = before
    if os.getcwd() != folder:
        os.chdir(folder)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype or torch.float32)
        if torch.get_default_device() != (device or torch.device("cpu")):
            # To say cpu would leave a mode behind that every function goes through; None, which means the same, leaves none.
            torch.set_default_device(None if device is None or device.type == "cpu" else device)


def where(error: BaseException) -> str:
    """The place in the author's own code where an error was raised, as `` (net.py, line 3)``; empty if it was elsewhere."""
    for frame in reversed(extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and is_own(path) and not path.resolve().is_relative_to(Path(__file__).parent):
            return f" ({path.name}, line {frame.lineno})"
    return ""


def _imported(names: list[str], said: str) -> tuple[Any, list[str]]:
    """The innermost module of the path, and the names within it."""
    for count in range(len(names) - 1, 0, -1):
        name = ".".join(names[:count])
        try:
            with on_its_own(f"{said}: importing {name}"):
                return importlib.import_module(name), names[count:]
        except DfkdError:
            raise
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise DfkdError(
                    f"{said}: {name} imports {error.name}{where(error)}, which is not there; install it, or set PYTHONPATH"
                ) from error
            if count == 1:
                raise DfkdError(
                    f"{said}: {error}; run from the folder that holds it, or install it, or set PYTHONPATH"
                ) from error
        except SyntaxError as error:
            place = f"{Path(error.filename).name}, line {error.lineno}" if error.filename else name
            raise DfkdError(f"{said}: {place}: {brief(str(error.msg))}; mend the file") from error
        except Exception as error:  # of somebody's own code, any
            hint = ""
            if isinstance(error, FileNotFoundError):
                hint = "; relative paths begin in the folder that the command is run from"
            elif "relative import" in str(error):
                hint = "; run from the folder above its package, and name package.module.Name"
            raise DfkdError(f"{said}: {name} cannot be imported: {in_brief(error)}{where(error)}{hint}") from error
    raise AssertionError(names)


def _kind(thing: Any) -> str:
    name = getattr(thing, "__name__", type(thing).__name__)
    return f"module {name}" if hasattr(thing, "__spec__") else name


def _meant(path: str) -> str:
    """The import path that was probably meant by a file's."""
    file, _, name = path.partition(":")
    meant = file.removesuffix(".py").removeprefix("./").strip("/").replace("/", ".")
    meant = f"{meant}.{name}" if name else meant
    names = meant.split(".")
    return f" (did you mean {meant}?)" if len(names) > 1 and all(name.isidentifier() for name in names) else ""


class _Heard:
    """A stream whose texts are kept; in all else the one that it stands for."""

    def __init__(self, stream: Any):
        self.stream = stream
        self.texts: list[str] = []

    def write(self, text: str) -> int:
        self.texts.append(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
