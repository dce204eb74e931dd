"""docs/api.md, made from the docstrings: ``python -m dfkd_exp.reference.api`` writes it.

Nothing on the page is listed here. The public names are those of ``dfkd_exp``; a contract is what all kinds of a config group
derive from; and what a contract gives and takes is found in its annotations.
"""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import fields, is_dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import dfkd_exp
from dfkd_exp.config.groups import CONF, groups, kinds
from dfkd_exp.reference.config import field_docs
from dfkd_exp.settings import Settings

HEADER = """# API

Made from the docstrings by `python -m dfkd_exp.reference.api`; do not edit it by hand. Fields of settings are in
[config.md](config.md), formulas in [method.md](method.md), and how the contracts are used in [extending.md](extending.md).
"""


def api_reference() -> str:
    """The page, as Markdown."""
    public = {name: getattr(dfkd_exp, name) for name in dfkd_exp.__all__}
    bases = contracts()
    parts = [HEADER, "## Public names\n\nAll of them can be imported from `dfkd_exp`.\n"]
    parts += [_entry(thing, name, bases) for name, thing in public.items()]
    parts.append("## Contracts\n\nWhat a class must be that is named in a config group, ours or another package's.\n")
    parts += [_entry(base, title, bases) for base, title in bases.items()]
    parts.append("## What the contracts give and take\n")
    described = {*bases, *public.values()}
    parts += [_entry(cls, cls.__name__, bases) for cls in _given_and_taken([*bases]) if cls not in described]
    return "\n".join(parts)


def contracts() -> dict[type, str]:
    """``Settings``, and for each config group with several kinds the class that they derive from; with their headings."""
    found: dict[type, list[str]] = {Settings: ["every group"]}
    for group in groups():
        classes = {*kinds(group).values()}
        if len(classes) > 1:
            first = next(iter(classes))
            base = next(cls for cls in first.__mro__ if all(issubclass(kind, cls) for kind in classes))
            found.setdefault(base, []).append(group)
    return {base: f"{base.__name__} ({', '.join(names)})" for base, names in found.items()}


def _entry(thing: Any, title: str, bases: dict[type, str]) -> str:
    """A heading, the signature, the docstring and, of a class, its variables and methods; what it has from the contract among
    ``bases`` that it fulfils is described there."""
    lines = [f"### {title}\n", f"```python\n{_signature(thing)}\n```\n", _text(thing)]
    if not isinstance(thing, type):
        return "\n".join(lines)
    base = next((cls for cls in thing.__mro__[1:] if cls in bases), object)
    if base in bases:
        lines.append(f"Also has what [{base.__name__}](#{_anchor(bases[base])}) has.\n")
    documented = field_docs(thing) if is_dataclass(thing) else {}
    elsewhere = {field.name for field in fields(thing)} if issubclass(thing, Settings) else set()
    elsewhere |= field_docs(base).keys() if is_dataclass(base) else set()
    lines += [f"* `{name}`: {text}" for name, text in documented.items() if name not in elsewhere]
    for name, method in _methods(thing, base).items():
        if text := ("**To implement.** " if _is_abstract(method) else "") + _text(method):
            lines.append(f"* `{_signature(method, name)}`\n\n" + _indented(text))
    return "\n".join(lines).rstrip() + "\n"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _signature(thing: Any, name: str = "") -> str:
    """As in the source, without the quotes of annotations; of settings the name alone, for their fields have a page."""
    if isinstance(thing, type) and issubclass(thing, Settings):
        return f"{thing.__module__}.{thing.__qualname__}"
    name = name or f"{thing.__module__}.{thing.__qualname__}"
    if isinstance(thing, property):
        return name
    if isinstance(thing, type) and not is_dataclass(thing) and "__init__" not in vars(thing):
        return name
    signature = re.sub(r"(: |-> )(?:'([^']*)'|\"([^\"]*)\")", r"\1\2\3", str(inspect.signature(_function(thing))))
    signature = re.sub(r"^\((?:self|cls)(?:, )?", "(", signature)
    return name + signature.replace("<factory>", "...").removesuffix(" -> None")


def _function(thing: Any) -> Any:
    """The function of a method of any sort; a class as it is."""
    return getattr(thing, "__func__", None) or getattr(thing, "fget", None) or thing


def _text(thing: Any) -> str:
    """The thing's own docstring, not one that it inherits; a dataclass without one has its signature there."""
    text = inspect.cleandoc(_function(thing).__doc__ or "")
    generated = isinstance(thing, type) and text.startswith(f"{thing.__name__}(")
    return "" if generated or not text else text + "\n"


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" if line else "\n" for line in text.splitlines())


def _methods(cls: type, base: type = object) -> dict[str, Any]:
    """Public methods and properties, of the class and those of its bases in the package that are not ``base``'s too."""
    found: dict[str, Any] = {}
    for owner in reversed(cls.__mro__):
        if owner.__module__.startswith("dfkd_exp.") and owner not in base.__mro__:
            for name, member in vars(owner).items():
                is_method = inspect.isfunction(_function(member))
                if is_method and not name.startswith("_") and (_text(member) or name not in found):
                    found[name] = member
    return found


def _is_abstract(method: Any) -> bool:
    if getattr(method, "__isabstractmethod__", False):
        return True
    return inspect.isfunction(method) and bool(re.search(r"raise NotImplementedError\s*$", inspect.getsource(method)))


def _given_and_taken(queue: list[type]) -> list[type]:
    """The package's classes in the annotations of the contracts' methods, and in those of these classes, by name."""
    found = {*queue}
    while queue:
        cls = queue.pop()
        for owner in [*map(_function, _methods(cls).values()), cls]:
            for name in re.findall(r"\w+", " ".join(map(str, inspect.get_annotations(owner).values()))):
                thing = _named(name, import_module(owner.__module__))
                if isinstance(thing, type) and thing.__module__.startswith("dfkd_exp.") and thing not in found:
                    found.add(thing)
                    queue.append(thing)
    return sorted(found, key=lambda cls: cls.__name__)


def _named(name: str, module: ModuleType) -> Any:
    """What a name in an annotation means, in a module that may have imported it for type checking only."""
    if hasattr(module, name):
        return getattr(module, name)
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and node.module and name in (alias.name for alias in node.names):
            return getattr(import_module(node.module), name, None)
    return None


if __name__ == "__main__":
    target = CONF.parent / "docs" / "api.md"
    target.write_text(api_reference(), "utf-8")
    print(f"wrote {target}")
