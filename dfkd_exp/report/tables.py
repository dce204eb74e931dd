"""Tables: of one run, and of a sweep, mean and deviation over its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE, SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from dfkd_exp.harmless import printable
from dfkd_exp.report.setting import OBJECTIVE_DECIMALS, Figure, Setting, shown, teacher_accuracy


def percent(share: float | None) -> str:
    """``97.12`` of 0.9712; a dash where nothing was measured."""
    return Figure(None if share is None else 100 * share).text()


def run_table(result: dict[str, Any]) -> Table:
    """What a person wants to know of one run, a line each."""
    table = Table(box=SIMPLE, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    by_owner = result["teacher_accuracy"] is None
    accuracy = (
        "not measured: no data set (data=…)"
        if result["accuracy"] is None
        else f"[bold]{percent(result['accuracy'])} %[/]"
    )
    held_out = "images of the same kind" if result["match"] is None else "reconstructions"
    agreements = (
        ("agreement", "on the test set"),
        ("agreement_mixed", "on mixtures of what the student saw"),
        ("agreement_held_out", f"on held-out {held_out} (an optimistic estimate)"),
    )
    agreed = [f"{percent(result[key])} % {where}" for key, where in agreements if result.get(key) is not None]
    limit = result.get("data_limit")
    tenth, best = (result.get(name) for name in ("accuracy_last_tenth", "accuracy_best_epoch"))
    over_training = {
        "over training": f"{percent(tenth)} % in the last tenth\n{percent(best)} % at its best, chosen by test accuracy",
    }  # fmt: skip
    rows = {
        **({"data": f"limited to {limit:,} training images, and as many test images at most"} if limit else {}),
        "teacher": escape(f"{printable(result['teacher'])}, {result['teacher_parameters']:,} parameters"),
        "student": escape(f"{printable(result['student'])}, {result['student_parameters']:,} parameters"),
        "compression": f"{result['compression']:{'.2f' if result['compression'] >= 1 else '.2g'}}x",
        "shown to the student": escape(f"{result['images']:,} images: {printable(shown(result))}"),
        "metadata": f"{result['metadata_bytes']:,} bytes",
        "teacher accuracy": f"{percent(teacher_accuracy(result))} %{' (measured by its owner)' if by_owner else ''}",
        "student accuracy": accuracy,
        **({} if best is None else over_training),
        **({"attack AUC": _attacked(result["privacy"])} if result.get("privacy") else {}),
        **({"variety": _variety(result["likeness"])} if result.get("likeness") else {}),
        "agreement": "\n".join(agreed) or "–",
        "seconds": ", ".join(f"{name} {phase['seconds']:,.1f}" for name, phase in result["phases"].items()),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _attacked(privacy: dict[str, Any]) -> str:
    """How well attacks tell members from others, a line for each that is on something published or made of it."""
    said = {
        "teacher": "the teacher alone (baseline)",
        "metadata": "the metadata",
        "shown": "the images",
        "student": "the student",
    }
    return "\n".join(
        f"{attack['auc']:.3f} ({attack['auc_low']:.3f}–{attack['auc_high']:.3f}) on {said[on]}; "
        f"{attack['members']:,} members, {attack['others']:,} non-members"
        for on, attack in privacy["attacks"].items()
        if on in said
    )


def _variety(layers: list[dict[str, Any]]) -> str:
    """How much the images differ from one another, beside real ones."""
    said = []
    for name, words in (("between", "means"), ("contrast", "contrasts")):
        known = [layer[name] for layer in layers if layer[name] is not None]
        if known:
            said.append(f"{statistics.median(known):.2f} in {words}")
    return f"from image to image, that of real images being 1: {', '.join(said)}"


def sweep_table(settings: Sequence[Setting], objective: str | None = None, said: Sequence[str] = ()) -> Table:
    """A row per setting that was swept, mean and deviation over its seeds; of a search with the ``objective``, by its name in the result
    files; ``said`` of all figures, below them."""
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), caption=escape("\n".join(said)), caption_justify="left"
    )
    table.add_column("setting", overflow="fold", min_width=16)
    for heading in (*filter(None, [objective]), "seeds", "teacher %", "accuracy %", "agreement %", "bytes", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for setting in settings:
        without_data = any(result["agreement"] is None for result in setting.results)
        table.add_row(
            escape(setting.title),
            *([setting.over_seeds(objective).text(OBJECTIVE_DECIMALS)] if objective else ()),
            str(len(setting.results)),
            Figure(setting.teacher.mean).text(),
            setting.accuracy.text(),
            setting.percent("agreement_mixed" if without_data else "agreement").text(),
            f"{setting.num_bytes:,}",
            Figure(setting.seconds.mean).text(1),
        )
    return table
