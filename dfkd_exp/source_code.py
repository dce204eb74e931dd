"""The source of somebody's own code, by import path: what an artifact's key knows of it. Nothing of it is run.

A network, a statistic or a loss that was edited is another one, though its name and its weights are the same. Code that is found while the
program runs, by `importlib` or from a file that is no Python, is not seen.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

OURS = Path(__file__).parent
NOT_OWN = [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "platstdlib")]


@dataclass(frozen=True)
class Source:
    """A module's source, comments, docstrings and layout aside, as a sha256; and, where it is the author's own, the modules that it
    may import."""

    sha256: str
    imports: tuple[str, ...]


_read: dict[str, Source | None] = {}


def source_digest(paths: Iterable[str]) -> str:
    """sha256 of the modules that import paths like ``my_package.my_module.MyNet`` name, with those of the author's own that they import."""
    found: dict[str, str] = {}
    waiting = [_module_of(path) for path in paths]
    while waiting:
        name = waiting.pop()
        if name and name not in found and (source := _source(name)):
            found[name] = source.sha256
            waiting += source.imports
    return hashlib.sha256("\n".join(f"{name} {found[name]}" for name in sorted(found)).encode()).hexdigest()


def _module_of(path: str) -> str:
    """The module of an import path, in which there may be several names, as in ``net.Net.from_pretrained``."""
    names = path.split(".")
    prefixes = [".".join(names[:count]) for count in range(len(names) - 1, 0, -1)]
    return next((name for name in prefixes if is_ours(name) or _file_of(name) is not None), ".".join(names[:-1]))


def is_ours(module: str) -> bool:
    """Whether a module is of this package, whose phases have versions of their own."""
    return module.partition(".")[0] == OURS.name


def _source(module: str) -> Source | None:
    """None for what has no Python file, or is ours."""
    if module in sys.modules and module in _read:
        return _read[module]  # what was imported runs on, whatever its file says by now
    path = None if is_ours(module) else _file_of(module)
    _read[module] = _source_of(path, module) if path is not None and path.suffix == ".py" and path.is_file() else None
    return _read[module]


def _file_of(module: str) -> Path | None:
    if loaded := sys.modules.get(module):
        file = getattr(loaded, "__file__", None)
        return Path(file) if file else None
    names = module.split(".")
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(names[0])  # of a name without dots: it runs nothing
    except (ImportError, ValueError):
        return None
    for count in range(2, len(names) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join(names[:count]), spec.submodule_search_locations)
    return Path(spec.origin) if spec is not None and spec.origin else None


def _source_of(path: Path, module: str) -> Source:
    text = path.read_bytes()
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # whoever imports it is told
        return Source(hashlib.sha256(text).hexdigest(), ())
    imports = tuple(dict.fromkeys(_imports(tree, module, path.name == "__init__.py"))) if is_own(path) else ()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            node.body[0] = ast.Pass()
    return Source(hashlib.sha256(ast.unparse(tree).encode()).hexdigest(), imports)


def is_own(path: Path) -> bool:
    """Whether a file is neither Python's, nor an installed package's."""
    path = path.resolve()
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not installed and not any(path.is_relative_to(place) for place in NOT_OWN)


def _imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """The modules that a module may import, its packages first; of ``from a import b`` both ``a`` and ``a.b``."""
    package = module if is_package else module.rpartition(".")[0]
    yield from _with_packages(package)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_packages(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from _with_packages(origin)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _with_packages(module: str) -> Iterator[str]:
    names = module.split(".") if module else []
    yield from (".".join(names[:count]) for count in range(1, len(names) + 1))
