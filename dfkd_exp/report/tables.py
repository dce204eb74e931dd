"""Tables: of one run, and of a sweep, mean and deviation over its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE, SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from dfkd_exp.harmless import printable
from dfkd_exp.report.titles import teacher_of, titles


def percent(values: Iterable[float | None]) -> str:
    """``97.12``, or ``97.12 ± 0.08`` over several seeds, in per cent; a dash where nothing was measured."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return "–"
    mean = statistics.fmean(known)
    return f"{mean:.2f}" if len(known) == 1 else f"{mean:.2f} ± {statistics.stdev(known):.2f}"


def run_table(result: dict[str, Any]) -> Table:
    """What a person wants to know of one run, a line each."""
    table = Table(box=SIMPLE, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    by_owner = result["teacher_accuracy"] is None
    accuracy = (
        "not measured: no data set (data=…)"
        if result["accuracy"] is None
        else f"[bold]{percent([result['accuracy']])} %[/]"
    )
    agreements = (
        ("agreement", "on the test set"),
        ("agreement_mixed", "on mixtures of what the student saw"),
        ("agreement_held_out", "on held-out images of the same kind, which flatters"),
    )
    agreed = [f"{percent([result[key]])} % {where}" for key, where in agreements if result.get(key) is not None]
    limit = result.get("data_limit")
    tenth, best = (result.get(name) for name in ("accuracy_last_tenth", "accuracy_best_epoch"))
    over_training = {
        "over training": f"{percent([tenth])} % in the last tenth\n{percent([best])} % at its best, chosen by test accuracy",
    }  # fmt: skip
    rows = {
        **({"data": f"limited to {limit:,} training images, and as many test images at most"} if limit else {}),
        "teacher": escape(f"{printable(result['teacher'])}, {result['teacher_parameters']:,} parameters"),
        "student": escape(f"{printable(result['student'])}, {result['student_parameters']:,} parameters"),
        "compression": f"{result['compression']:.2f}x",
        "shown to the student": escape(f"{result['images']:,} images: {printable(shown(result))}"),
        "metadata": f"{result['metadata_bytes']:,} bytes",
        "teacher accuracy": f"{percent([teacher_accuracy(result)])} %{' (measured by its owner)' if by_owner else ''}",
        "student accuracy": accuracy,
        **({} if best is None else over_training),
        **({"variety": _variety(result["likeness"])} if result.get("likeness") else {}),
        "agreement": "\n".join(agreed) or "–",
        "seconds": ", ".join(f"{name} {phase['seconds']:,.1f}" for name, phase in result["phases"].items()),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _variety(layers: list[dict[str, Any]]) -> str:
    """How much the images differ from one another, beside real ones."""
    said = []
    for name, words in (("between", "means"), ("contrast", "contrasts")):
        known = [layer[name] for layer in layers if layer[name] is not None]
        if known:
            said.append(f"{statistics.median(known):.2f} in {words}")
    return f"from image to image, that of real images being 1: {', '.join(said)}"


def shown(result: dict[str, Any]) -> str:
    """What the student saw, in a few words."""
    if result["match"] is not None:
        return f"reconstructed from {result['metadata']}, match: {result['match']}"
    return result.get("source_words", result["source"])


def teacher_accuracy(result: dict[str, Any]) -> float | None:
    """Measured here if there was a test set, else by the owner."""
    return result["teacher_accuracy_by_owner"] if result["teacher_accuracy"] is None else result["teacher_accuracy"]


def sweep_table(results: list[dict[str, Any]]) -> Table:
    """A row per setting that was swept, mean and deviation over its seeds, in the order in which the settings came."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("setting", overflow="fold", min_width=16)
    for heading in ("seeds", "teacher %", "accuracy %", "agreement %", "bytes", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for title, group in by_setting(results).items():
        without_data = any(result["agreement"] is None for result in group)
        table.add_row(
            escape(title),
            str(len(group)),
            percent(map(teacher_accuracy, group)).split(" ")[0],
            percent(result["accuracy"] for result in group),
            percent(result.get("agreement_mixed" if without_data else "agreement") for result in group),
            f"{group[0]['source_bytes']:,}",
            f"{statistics.fmean(result['seconds'] for result in group):,.1f}",
        )
    return table


def by_setting(results: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Results that differ in nothing but the seed, together, by the setting's title; a sweep of one setting has the runs' name. They stand
    in the order in which they came, those of one teacher beside one another."""
    teachers = list(dict.fromkeys(map(teacher_of, results)))
    titled = sorted(zip(titles(results), results, strict=True), key=lambda pair: teachers.index(teacher_of(pair[1])))
    grouped: dict[str, list[dict[str, Any]]] = {}
    for title, result in titled:
        grouped.setdefault(title or result["name"], []).append(result)
    return grouped
