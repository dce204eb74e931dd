"""The forms of summaries that a file may name: those of this package, and of modules that whoever reads it has imported.

A file is looked up in this list and in nothing else: no name that stands in it is imported.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from dfkd_exp.metadata.statistic import Summary


def forms() -> dict[str, type[Summary]]:
    """Every summary by the name of its form."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__package__}.{module.name}")
    found, queue = {}, [Summary]
    while queue:
        for child in queue.pop().__subclasses__():
            queue.append(child)
            if vars(child).get("form"):  # one that it only inherits is its parent's
                found[child.form] = child
    return found


def form(name: str) -> type[Summary]:
    """The summary of a form. Raises ValueError if none has that name."""
    known = forms()
    if name not in known:
        raise ValueError(
            f"a summary of unknown form {name!r}; if it is of a package of yours, name its kind: metadata=…"
        )
    return known[name]
