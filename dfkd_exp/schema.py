"""The JSON schemas that are shipped: what comes from outside is checked by the same files that other programs use."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from dfkd_exp.harmless import brief

SCHEMAS = Path(__file__).with_name("schemas")


def require_schema(value: Any, name: str) -> None:
    """Raise ValueError, which names the place, unless ``value`` follows the schema ``name`` (``manifest-v1``)."""
    error = next(_validator(name).iter_errors(value), None)
    if error is not None:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(
            "."
        )
        raise ValueError(brief(f"{place}: {error.message}" if place else error.message))


@cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    # By the standard 3.0 is a whole number too; it would be one that nothing can be counted with.
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    strict = extend(Draft202012Validator, type_checker=types)
    return strict(json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8")))
