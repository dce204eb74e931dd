"""What is to be known of a sweep's figures before they are compared with others: their scale, and what is not the experiment's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SCALE = "scale="


def notes(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """A sentence for each scale that was said, and for each choice of data, teacher and student for which nothing was published."""
    said: dict[str, None] = {}
    for result in results:
        scale = next((text for text in reversed(result["overrides"]) if text.startswith(SCALE)), f"{SCALE}null")
        words = (result.get("words") or {}).get(scale, "")
        if scale != f"{SCALE}null":
            said[f"{scale}{f': {words}' if words else ''}."] = None
        if instead := result.get("instead"):
            said[f"{', '.join(instead)}: not the experiment's own, for which figures were published."] = None
    return list(said)
