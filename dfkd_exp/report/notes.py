"""What is to be known of a sweep's figures before they are compared with others: what was said of all of them, their scale, and what is not
the experiment's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dfkd_exp.config.effect import beyond_scale
from dfkd_exp.config.overrides import is_of
from dfkd_exp.distillation.source import MAKING
from dfkd_exp.report.titles import said_of_all

SCALE = "scale="
DECIDES = (
    "recipe",
    "method",
    "protocol",
    "training",
    "metadata",
    *MAKING,
    "distillation",
    "source",
    "trainer.precision",
)
"""Groups and flags on which figures depend, beside the data set, the networks and the scale."""


def notes(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """A sentence for what was said of all results, for each scale and what was said in the place of its own, and for each choice of data,
    teacher and student for which nothing was published."""
    results = list(results)
    of_all = [text for text in said_of_all(results) if is_of(text, DECIDES)]
    said: dict[str, None] = {}
    of_scales: set[str] = set()
    for result in results:
        scale = next((text for text in reversed(result["overrides"]) if text.startswith(SCALE)), f"{SCALE}null")
        words = (result.get("words") or {}).get(scale, "")
        if scale != f"{SCALE}null":
            otherwise = beyond_scale(result["overrides"], of_all)
            but = f", but {', '.join(otherwise)}" if otherwise else ""
            said[f"{scale}{f': {words}' if words else ''}{but}."] = None
            of_scales.update(otherwise)
        if instead := result.get("instead"):
            said[f"{', '.join(instead)}: not the experiment's own, for which figures were published."] = None
    others = [text for text in of_all if text not in of_scales]
    return [*([f"All with {', '.join(others)}."] if others else []), *said]
