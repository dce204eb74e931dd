"""The report of a sweep: one HTML file that needs no server and no network, and the same as Markdown, CSV, LaTeX, SVG and PNG."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

from dfkd_exp import console
from dfkd_exp.files import write_atomically
from dfkd_exp.harmless import brief, in_html, in_markdown
from dfkd_exp.report.columns import PRIVACY, Column, columns_of, main_columns
from dfkd_exp.report.figures import (
    OVER_TRAINING,
    accuracy_against,
    curves,
    for_each_teacher,
    for_papers,
    over_training,
    png,
    svg,
)
from dfkd_exp.report.losses import student_curves
from dfkd_exp.report.notes import notes
from dfkd_exp.report.numbers import runs_in_numbers, settings_in_numbers
from dfkd_exp.report.pictures import embedded
from dfkd_exp.report.plain import latex, markdown
from dfkd_exp.report.sentences import in_words
from dfkd_exp.report.setting import Setting
from dfkd_exp.report.summary import Sweep
from dfkd_exp.run_folder import LIKENESS, NEAREST, PICTURE, read_plan

TEMPLATE = Path(__file__).with_name("page.html")
MOST_PICTURES = 24


def write_report(sweep: Sweep, folder: Path) -> Path:
    """Write ``report.html`` and, beside it, the table as ``report.md``, ``.csv`` and ``.tex``, each run's figures as ``runs.csv``,
    and the drawings; the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    drawings: dict[str, Any] = {}
    attacked = [setting for setting in sweep.settings if setting.attacked]
    with_bytes = sweep.settings if any(setting.num_bytes for setting in sweep.settings) else []
    against = {"bytes": with_bytes, "seconds": sweep.settings, "attack": attacked}
    if len(sweep.settings) > 1:  # a single point shows nothing that the table does not
        for what, drawn in against.items():
            draw = partial(accuracy_against, what=what, numbered=sweep.settings)
            drawings |= for_each_teacher(f"accuracy-{what}", drawn, draw)
    drawings |= for_each_teacher(OVER_TRAINING, [s for s in sweep.settings if s.curve], over_training)
    series, without = student_curves(sweep)
    if series:
        drawings["student-loss"] = curves(series, "the student's loss")
    on_page = {name: svg(drawing) for name, drawing in drawings.items()}
    for name, drawing in drawings.items():
        write_atomically(folder / f"{name}.svg", for_papers(on_page[name]).encode())
        write_atomically(folder / f"{name}.png", png(drawing))
    columns = [*main_columns(sweep), *(columns_of(sweep.settings, PRIVACY) if attacked else ())]
    rows = [[str(n), s.title, *(c.text(s) for c in columns)] for n, s in enumerate(sweep.settings, 1)]
    headings, align = ["no", "setting", *(column.name for column in columns)], "rl" + "r" * len(columns)
    words = [*(f"- {in_markdown(sentence)}" for sentence in in_words(sweep)), "", ""]
    known = notes(result for setting in sweep.settings for result in setting.results)
    write_atomically(folder / "report.md", ("\n".join(words) + markdown(headings, rows, align)).encode())
    write_atomically(folder / "report.csv", settings_in_numbers(sweep.settings, columns).encode())
    write_atomically(folder / "runs.csv", runs_in_numbers(sweep, columns, folder).encode())
    write_atomically(folder / "report.tex", latex(headings, rows, align, known).encode())
    write_atomically(folder / "report.html", _page(sweep, on_page, without).encode())
    return folder / "report.html"


CAPTIONS = {
    "accuracy-bytes": (
        "Accuracy against bytes",
        "Each point is a setting, by its title or its number in the table; bars are deviations over seeds. The line joins those of which "
        "no other is as accurate for fewer bytes; what publishes nothing stands at zero, in a "
        "shaded band where there is much of it, and lines across are of all training images.",
    ),
    "accuracy-seconds": (
        "Accuracy against seconds",
        "What each setting cost to compute; the teacher's training, which is the same for all, is left out.",
    ),
    OVER_TRAINING: (
        "Accuracy over the training",
        "True accuracy of each student's snapshots against the seconds of all phases by then but the teacher's training: a curve begins "
        "when there is something to learn from, and its title stands beside the height where it "
        "ends. Means over seeds, with bands of their deviation; far below the ends the axis is cut.",
    ),
    "accuracy-attack": (
        "Accuracy against what is given away",
        "The best attack on the metadata, by itself or by shadows, and on the images made from it: area under the curve, 0.5 for chance.",
    ),
    "student-loss": (
        "The students' training",
        "Loss over the epochs, of the first seed of each setting that has logged it.",
    ),
}


def _page(sweep: Sweep, drawings: dict[str, str], without_curve: Sequence[str]) -> str:
    charts = []
    for name, drawing in drawings.items():
        title, caption = CAPTIONS[re.sub(r"-\d+$", "", name)]
        if name == "student-loss" and without_curve:
            caption += (
                f" None of {'; '.join(without_curve)}: the student was in the store already, or is logged elsewhere."
            )
        labelled = drawing.replace("<svg", f'<svg role="img" aria-label="{in_html(title)}: {in_html(caption)}"', 1)
        charts.append(
            f'<section aria-labelledby="{name}"><h2 id="{name}">{in_html(title)}</h2>'
            f"<figure>{labelled}<figcaption>{in_html(caption)}</figcaption></figure></section>"
        )
    first = sweep.settings[0].results[0] if sweep.settings else None
    done = sum(job.state == "done" for job in sweep.jobs)
    others = f" and {len(sweep.trials)} trials of the study from other commands" if sweep.trials else ""
    name = first["name"] if first else sweep.folder.parent.name
    return Template(TEMPLATE.read_text("utf-8")).substitute(
        title=in_html(f"{name}: {len(sweep.settings)} setting{'s' if len(sweep.settings) != 1 else ''}"),
        about=in_html(
            f"{sweep.folder.name}; {done} of {len(sweep.jobs)} jobs done{others}; written {datetime.now():%Y-%m-%d %H:%M}"
        ),
        words="".join(f"<li>{in_html(sentence)}</li>" for sentence in in_words(sweep)),
        missing=_missing(sweep),
        table=_table(sweep.settings, main_columns(sweep)),
        columns=_meanings(main_columns(sweep)),
        privacy=_privacy(sweep),
        charts="\n".join(charts),
        pictures=_seen(sweep),
        commands=in_html(_commands(sweep)),
        machine=in_html(_machines(sweep)),
    )


def _missing(sweep: Sweep) -> str:
    if not sweep.unfinished:
        return ""
    rows = "".join(
        f'<li><span class="bad">{in_html(job.state)}</span> {in_html(job.title)} <span class="soft">{in_html(job.doing)}</span></li>'
        for job in sweep.unfinished
    )
    return (
        f'<section aria-labelledby="missing"><h2 id="missing">Without a result</h2><p>{len(sweep.unfinished)} of {len(sweep.jobs)} jobs; '
        f"none of the figures below counts them. The same command again runs them.</p><ul>{rows}</ul></section>"
    )


def _meanings(columns: Sequence[Column]) -> str:
    return "".join(f"<dt>{in_html(column.name)}</dt><dd>{in_html(column.meaning)}</dd>" for column in columns)


ON_ATTACKS = (
    "Membership inference: of some images the metadata, the images made from it or the student were made, and of others nothing was: "
    "which are which? For records those are the recorded images, not all training images. Each attack is one of many; where it fails, "
    "another may not. Where the training images themselves are shown it must be near 1, and where noise is shown near 0.5."
)


ON_NEAREST = (
    "Of what each student was shown, the eight images nearest to a training image, with that image and the nearest of as many that nobody "
    "was trained on. It shows similarity: images that look unlike any may still give members away."
)


ON_LIKENESS = (
    "How much the images vary beside the training images, within classes, in each layer of the teacher: 1 is as much. Where they vary "
    "less, what was published did not say all."
)


def _privacy(sweep: Sweep) -> str:
    if not any(setting.attacked for setting in sweep.settings):
        return ""
    columns = columns_of(sweep.settings, PRIVACY)
    return (
        '<section aria-labelledby="privacy"><h2 id="privacy">What is given away</h2>'
        f'<p class="soft">{in_html(ON_ATTACKS)}</p>'
        '<div class="wide" tabindex="0" role="region" aria-label="Privacy, by setting">'
        f"{_table(sweep.settings, columns)}</div>"
        f"<details><summary>What the columns say</summary><dl>{_meanings(columns)}</dl></details>{_nearest(sweep)}</section>"
    )


def _nearest(sweep: Sweep) -> str:
    alternative = "What the student of {} was shown, and the training and held-out images most like it"
    return _folded("The images most like a training image", ON_NEAREST, _pictures(sweep, NEAREST, alternative))


def _folded(title: str, text: str, pictures: str) -> str:
    """Pictures that are shown when they are asked for; empty if there are none."""
    words = f'<p class="soft">{in_html(text)}</p>'
    return f"<details><summary>{in_html(title)}</summary>{words}{pictures}</details>" if pictures else ""


def _table(settings: Sequence[Setting], columns: Sequence[Column]) -> str:
    names = ["no", "setting", *(column.name for column in columns)]
    heads = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{in_html(name)}</button></th>' for name in names
    )
    lines = []
    for number, setting in enumerate(settings, 1):
        cells = [f'<td data-value="{number}">{number}</td><td>{in_html(setting.title)}</td>']
        for column in columns:
            value = column.figure(setting).mean
            cells.append(f'<td data-value="{"" if value is None else value}">{in_html(column.text(setting))}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _pictures(sweep: Sweep, file: str, alternative: str) -> str:
    """The picture ``file`` of each setting, of the first of its runs that has one; empty if none has."""
    shown: list[str] = []
    for number, setting in enumerate(sweep.settings, 1):
        paths = (folder / file for folder in sweep.folders_of(setting))
        path = next(filter(Path.is_file, paths), None)
        if path is None or len(shown) == MOST_PICTURES:
            continue
        try:
            picture = embedded(path)
        except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for what is no picture, or half of one
            console.warn(f"{path} cannot be read ({brief(str(error))}); the picture is left out")
            continue
        text = f"{number}. {setting.title}: {setting.shown}"
        shown.append(
            f'<figure><img loading="lazy" alt="{in_html(alternative.format(setting.title))}" '
            f'src="{picture}"><figcaption>{in_html(text)}</figcaption></figure>'
        )
    return f'<div class="pictures">{"".join(shown)}</div>' if shown else ""


def _seen(sweep: Sweep) -> str:
    pictures = _pictures(sweep, PICTURE, "What the student of {} was trained on, a row per class")
    drawings = _pictures(sweep, LIKENESS, "How much the images of {} vary beside the training images, by layer")
    varied = _folded("How much they vary", ON_LIKENESS, drawings)
    return (
        f'<section aria-labelledby="pictures"><h2 id="pictures">What the students saw</h2>{pictures}{varied}</section>'
        if pictures
        else ""
    )


def _commands(sweep: Sweep) -> str:
    if command := read_plan(sweep.folder).get("command"):
        return shlex.join(command)
    return "\n".join(
        shlex.join(["dfkd", *result["overrides"]]) for setting in sweep.settings for result in setting.results
    )


def _machines(sweep: Sweep) -> str:
    """What made the runs, each once."""
    said = []
    for result in (result for setting in sweep.settings for result in setting.results):
        libraries = ", ".join(f"{name} {number}" for name, number in result["libraries"].items())
        said.append(f"dfkd_exp {result['code_version']}; {result['machine']}; Python {result['python']}; {libraries}")
    return "\n".join(dict.fromkeys(said))
