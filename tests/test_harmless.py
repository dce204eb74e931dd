"""Text of somebody else's, shown: on the terminal, in the log, in Markdown, in tables, in drawings."""

import csv
import io
import re
import warnings

import pytest
import torch
from rich.table import Table

from dfkd_exp import console
from dfkd_exp.harmless import as_code, brief, in_csv, in_markdown, printable
from dfkd_exp.report.labels import draw_key, label_points
from dfkd_exp.report.pictures import draw_images
from dfkd_exp.report.plain import comma_separated, latex, markdown
from dfkd_exp.training.preview import Preview

HOSTILE = "a\x1b[2J\x1b]0;title\x07\r\nerror: all is lost\u202e\x9b31m\ud800"


def test_what_is_printable_stays_and_all_else_is_an_escape():
    assert printable("Grüße, 日本 – ± ▸ [x]") == "Grüße, 日本 – ± ▸ [x]"
    assert printable(HOSTILE) == r"a\x1b[2J\x1b]0;title\x07\r\nerror: all is lost\u202e\x9b31m\ud800"
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"
    assert brief("x" * 500) == "x" * 60 + " … " + "x" * 60
    assert "\n" not in brief("a\nb")


@pytest.mark.parametrize("say", [console.heading, console.note, console.warn, console.error])
def test_a_message_is_one_line_and_controls_nothing(say, tmp_path, capsys):
    with console.log_to(tmp_path / "log.txt"):
        say(HOSTILE)
    out, err = capsys.readouterr()
    for text in (out + err, (tmp_path / "log.txt").read_text()):
        assert text.count("\n") == 1
        assert text.rstrip("\n").isprintable()


def test_a_table_controls_nothing_either(tmp_path, capsys):
    table = Table()
    table.add_row(HOSTILE.replace("\n", ""))
    with console.log_to(tmp_path / "log.txt"):
        console.show(table)
    for text in (capsys.readouterr().out, (tmp_path / "log.txt").read_text()):
        assert text.replace("\n", "").isprintable()


def test_on_a_terminal_styles_are_still_styles():
    terminal = console.HarmlessConsole(file=io.StringIO(), force_terminal=True, color_system="standard")
    terminal.print("[bold]a\x1b[31m[/]")
    shown = terminal.file.getvalue()
    assert shown.startswith("\x1b[1ma")
    assert re.sub("\x1b\\[[01]m", "", shown) == "a\\x1b[31m\n"


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "![x](http://a/b.png)", "[x](javascript:a)", "a | b", "<img src=x>", "&lt;b>"]
)
def test_markdown_has_no_html_no_link_and_no_further_cell(text):
    shown = in_markdown(text)
    assert "<" not in shown
    assert "](" not in shown
    assert shown.replace(r"\|", "").count("|") == 0
    assert markdown(["a"], [[text]], "l").splitlines()[2] == f"| {shown} |"


def test_code_in_markdown_ends_where_it_should():
    assert as_code("a`<b>|\n") == r"`a'<b>\|\n`"


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ('=HYPERLINK("http://a")', "'=HYPERLINK(\"http://a\")"), ("@SUM(A1)", "'@SUM(A1)"), ("+1+cmd", "'+1+cmd"), ("-2+3", "'-2+3"),
        ("-2.50", "-2.50"), ("+0.35", "+0.35"), ("-1,234.00 ± 0.10", "-1,234.00 ± 0.10"), ("97.12", "97.12"), ("–", "–"), ("a=b", "a=b"),
    ],
)  # fmt: skip
def test_a_cell_is_no_formula_and_a_figure_stays_one(cell, shown):
    assert in_csv(cell) == shown
    assert [*csv.reader(io.StringIO(comma_separated(["a"], [[cell]])))][1] == [shown]


def test_latex_has_no_control_characters():
    assert latex(["a"], [["$x\x1b\n"]], "l").splitlines()[5] == r"\$x\textbackslash{}x1b\textbackslash{}n \\"


@pytest.mark.parametrize("name", ["$", "a $x_{ b", r"$\frac{$", "x" * 5000, HOSTILE])
def test_a_name_in_a_drawing_is_drawn_as_it_is(tmp_path, name):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    preview = Preview(torch.rand(1, 1, 4, 4), [torch.rand(2, 1, 4, 4)], True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        draw_images(tmp_path / "picture.png", preview, [name], None)
        figure = Figure()
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots()
        label_points(axes, [(0.5, 0.5)], [0.0], [name[:20]], "black", 8)
        draw_key(figure, [name], "black")
        canvas.draw()
    assert (tmp_path / "picture.png").stat().st_size
