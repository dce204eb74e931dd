"""What a package's files import, read from their text: nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """What a file imports, at the top or within functions, but not for type checking alone: files of the same tree (``ours``), by path
    below its root, and ``libraries`` by name."""

    ours: frozenset[str]
    libraries: frozenset[str]


def read(root: Path, *packages: str) -> dict[str, Source]:
    """All files of the ``packages`` in ``root``, by path below it. ValueError for a relative import."""
    paths = sorted(path.relative_to(root) for package in packages for path in (root / package).rglob("*.py"))
    modules = {_module(path): path.as_posix() for path in paths}
    sources = {}
    for path in paths:
        found = set(_imports(ast.parse((root / path).read_text()), path))
        # `from package import module` is an import of the module, not of what the package's __init__ has
        names = {f"{module}.{name}" if f"{module}.{name}" in modules else module for module, name in found}
        libraries = {name.partition(".")[0] for name in names} - set(packages)
        ours = frozenset(modules[name] for name in names & modules.keys())
        sources[path.as_posix()] = Source(ours, frozenset(libraries))
    return sources


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """A way that ends where it began; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def between_files(sources: Mapping[str, Source]) -> dict[str, set[str]]:
    """Which file imports which."""
    return {path: set(source.ours) for path, source in sources.items()}


def between_rooms(sources: Mapping[str, Source]) -> dict[str, set[str]]:
    """Which room imports which other."""
    graph: dict[str, set[str]] = {}
    for path, source in sources.items():
        graph.setdefault(room(path), set()).update({room(other) for other in source.ours} - {room(path)})
    return graph


def room(path: str) -> str:
    """The folder of a package in which a file lies, with all that lies below; the file itself, if it lies beside them."""
    parts = path.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else path


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(node: ast.AST, path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of each import; the name is empty for that of a module itself."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from _imports(ast.Module(child.orelse, []), path)
        elif isinstance(child, ast.Import):
            yield from ((alias.name, "") for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            if child.level:
                raise ValueError(f"{path}: a relative import; write the whole path")
            yield from ((child.module or "", alias.name) for alias in child.names)
        else:
            yield from _imports(child, path)
