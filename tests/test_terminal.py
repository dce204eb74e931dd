"""A command whose streams, locale, working directory or outputs are not what one expects ends in one line, or does its work."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dfkd_exp import console
from dfkd_exp.arguments import quoted
from dfkd_exp.terminal import NOBODY_READS, at_terminal
from tests.conftest import SMALL, run_main

ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
STATUS = "from dfkd_exp.report.status import main; main()"
PRINTED = "from dfkd_exp.terminal import at_terminal\nwith at_terminal():\n    print('a' * 100_000, '\\u25b8 \\u2603')"


def shell(code: str, around: str = "{}", cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """``python -c CODE`` within a line of shell."""
    command = around.format(f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}")
    return subprocess.run(
        ["bash", "-c", command], cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip


@pytest.mark.parametrize(
    ("around", "code", "said"),
    [
        ("{} > /dev/full", 1, "error: standard output cannot be written: No space left on device\n"),
        ("{} | true; exit ${{PIPESTATUS[0]}}", NOBODY_READS, ""),
        ("{} >&-", 0, ""),
        ("{} 2>&-", 0, ""),
        ("{} 2> /dev/full", 0, ""),
        ("{} <&- >&- 2>&-", 0, ""),
        ("mkdir gone; cd gone; rmdir ../gone; {}", 2, "error: the working directory is not there any more; change to another folder\n"),
    ],
)  # fmt: skip
def test_output_that_cannot_be_written_is_one_line_or_none(around, code, said, tmp_path):
    ran = shell(PRINTED, around, tmp_path)
    assert (ran.returncode, ran.stderr) == (code, said)


def test_what_a_locale_has_no_letter_for_is_an_escape():
    ran = shell(PRINTED, **ASCII)
    assert (ran.returncode, ran.stdout[-16:], ran.stderr) == (0, "a \\u25b8 \\u2603\n", "")


@pytest.mark.parametrize(
    "script", ["from dfkd_exp.__main__ import main; import sys; sys.argv = ['dfkd', '--help']; main()", STATUS]
)
def test_the_commands_stand_on_it(script, tmp_path):
    (tmp_path / "outputs" / "0").mkdir(parents=True)
    for around, variables in (("{} > /dev/full", {}), ("{} >&-", {}), ("{}", ASCII)):
        ran = shell(script, around, tmp_path, **variables)
        full = "full" in around
        assert (ran.returncode, ran.stderr.count("\n")) == (int(full), int(full))


def test_what_is_shown_is_whole_in_the_log(tmp_path, monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    with at_terminal(), console.log_to(tmp_path / "log.txt"):
        console.heading("teacher ☃")
    assert shown.buffer.getvalue() == b"\\u25b8 teacher \\u2603\n"
    assert (tmp_path / "log.txt").read_text("utf-8") == "▸ teacher ☃\n"


def test_a_slow_first_step_does_not_count_for_the_time_left(monkeypatch, capsys):
    """It may have compiled the teacher. With nothing else to go by, no time is said."""
    clock = iter([0, 100, 110, 130])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.Progress("steps", 10) as progress:
        progress.skip(2)
        for _ in range(3):
            progress.advance(so_far="well")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["steps, well: 3 of 10", "steps, well: 4 of 10, 60 s left", "steps, well: 5 of 10, 75 s left"]


def test_errors_do_not_depend_on_a_stream_that_is_full(monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    with at_terminal():
        print("said to nobody", file=sys.stderr)


def test_streams_are_as_they_were_afterwards():
    before = sys.stdout, sys.stderr
    with at_terminal(), at_terminal():
        assert sys.stdout is not before[0]
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("arguments", [(), ("-m",)])
@pytest.mark.parametrize("place", ["file", "file/below", "loop", "x" * 300, "/dev/null", "/dev/full"])
def test_outputs_that_cannot_be_written_are_one_line(place, arguments, tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    assert run_main([*arguments, f"outputs={tmp_path / place}", *SMALL]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: outputs: ")
    assert said.count("\n") == 1


def test_no_outputs_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_main(["outputs="]) == 2
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("name", ["back\\slash", "$x", "per%s", "[bold]x[/]", "ü☃", "quo'te", "a,b"])
def test_outputs_may_have_any_letters(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_main([f"outputs={quoted(str(tmp_path / name))}", "source=noise", "student=lenet5", *SMALL]) == 1
    assert "LeNet-5 needs" in capsys.readouterr().err
    assert (tmp_path / name / "runs" / "digits").is_dir()
