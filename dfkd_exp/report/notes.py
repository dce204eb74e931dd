"""What is to be known of a sweep's figures before they are compared with others: what was said of all of them, their scale, and what is not
the experiment's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dfkd_exp.config.effect import beyond_scale
from dfkd_exp.config.overrides import is_of, key_of
from dfkd_exp.distillation.source import MAKING
from dfkd_exp.report.titles import beside_the_row, said_of_all

SCALE, NO_SCALE = "scale=", "scale=null"
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
    for scale in dict.fromkeys(map(_scale_of, results)) if results else ():
        if scale != NO_SCALE:
            own = [result for result in results if _scale_of(result) == scale]
            words = next(filter(None, ((result.get("words") or {}).get(scale, "") for result in own)), "")
            otherwise = _in_its_place(own)
            changed = f", changed: {', '.join(otherwise)}" if otherwise else ""
            said[f"scale: {scale.removeprefix(SCALE)}{f' ({words})' if words else ''}{changed}."] = None
            of_scales.update(otherwise)
    for result in results:
        if instead := result.get("instead"):
            said[f"{', '.join(instead)}: not the experiment's own, for which figures were published."] = None
    others = [text for text in of_all if text not in of_scales]
    return [*([f"All with {', '.join(others)}."] if others else []), *said]


def _scale_of(result: Mapping[str, Any]) -> str:
    return next((text for text in reversed(result["overrides"]) if text.startswith(SCALE)), NO_SCALE)


def _in_its_place(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was said in the place of the scale's own, beside the rows, in one way of all ``results`` that have a use for it: a flag with
    several values is in the titles."""
    told = [text for result in results for text in beyond_scale(result["overrides"], beside_the_row(result))]
    values = {key_of(text): {other for other in told if key_of(other) == key_of(text)} for text in told}
    return [text for text in dict.fromkeys(told) if len(values[key_of(text)]) == 1]
