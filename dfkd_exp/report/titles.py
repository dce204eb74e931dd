"""How the runs of a sweep are called: by the title of their row, and words for what else is not the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dfkd_exp.config.overrides import UNSAID, is_of, tells_teachers
from dfkd_exp.config.rows import said_otherwise


def settings_of(run: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes a run's setting: its overrides without the seed."""
    return tuple(text for text in run["overrides"] if not is_of(text, ("seed",)))


def teacher_of(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Equal for results whose students were taught by the same teacher, whatever the seed."""
    return (result.get("teacher", ""), *sorted(filter(tells_teachers, result["overrides"])))


def teachers_in_words(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of each result, what tells its teacher from the others'; empty where there is only one."""
    told = [teacher_of(result) for result in results]
    shared = set(told[0]).intersection(*told[1:]) if told else set()
    found = []
    for result, texts in zip(results, told, strict=True):
        words = result.get("words") or {}
        said = [words.get(text, text) for text in texts[1:] if text not in shared]
        # An architecture is said only where no flag says which it is.
        found.append("; ".join(said or [text for text in texts[:1] if text not in shared]))
    return found


def titles(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A title for each of a sweep's ``runs``: result files, or what `run_folder` says of jobs, with ``overrides``, ``row`` and ``words``.

    Seeds of one setting have the same title, and two settings never do. What was said in the place of a row's values is always said. A
    run without a row that differs from the others in nothing is not called at all: the title is empty.
    """
    told = [beside_the_row(run) for run in runs]
    shared = set(said_of_all(runs))
    found: dict[tuple[str, ...], str] = {}
    for run, texts in zip(runs, told, strict=True):
        words = run.get("words") or {}
        differs = [text for text in texts if text not in shared]
        otherwise = [text for text in said_otherwise(_row(run), run["overrides"]) if text in shared]
        said = [words.get(text, text) for text in differs + otherwise]
        found.setdefault(settings_of(run), "; ".join(filter(None, [_row(run).get("title"), *said])))
    alike = [title for title in found.values()]
    for setting, title in found.items():
        if alike.count(title) > 1:  # two choices that are called the same
            found[setting] = "; ".join(filter(None, [title, *(text for text in setting if text not in shared)]))
    return [found[settings_of(run)] for run in runs]


def said_of_all(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What all ``runs`` were told beside their rows and seeds, which no title says."""
    told = [beside_the_row(run) for run in runs]
    return [text for text in told[0] if all(text in texts for texts in told[1:])] if told else []


def described(run: Mapping[str, Any]) -> str:
    """A run by itself: its row's title, and words for all that it was told beside it."""
    words = run.get("words") or {}
    return "; ".join(
        filter(None, [_row(run).get("title"), *(words.get(text, text) for text in beside_the_row(run, ("row",)))])
    )


def _row(run: Mapping[str, Any]) -> Mapping[str, Any]:
    return run.get("row") or {}


def beside_the_row(run: Mapping[str, Any], hidden: tuple[str, ...] = UNSAID) -> list[str]:
    """What a run was told that its row does not set, but for the flags that people are not shown."""
    own = _row(run).get("set", ())
    hidden = hidden if _row(run) else tuple(flag for flag in hidden if flag != "row")
    return [text for text in run["overrides"] if text not in own and not is_of(text, hidden)]
