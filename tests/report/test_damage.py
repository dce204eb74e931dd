"""What is damaged in the folder of a sweep is shown as unreadable, with its file; the rest is reported."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from dfkd_exp.report import command, status
from dfkd_exp.report.page import write_report
from dfkd_exp.report.sentences import in_words
from dfkd_exp.report.summary import read
from dfkd_exp.run_folder import at_work, note_study, plan_sweep, read_result
from dfkd_exp.sweeps.callback import SweepTable
from tests.report.test_tables import result

LOSSES = "epoch,loss\n0,2.5\n1,1.5\n"


@pytest.fixture
def sweep(tmp_path):
    """Two jobs that are done, one that failed and one that ended early."""
    folder = tmp_path / "sweep"
    jobs = [[f"student=s{number}", "seed=0"] for number in range(4)]
    plan_sweep(folder, jobs)
    note_study(folder, "agreement_mixed", [folder / "1", folder.parent / "gone"])
    for number, job in enumerate(jobs):
        place = folder / str(number)
        (place / "logs" / "student").mkdir(parents=True)
        with at_work(place, job):
            (place / "log.txt").write_text("▸ student: distilling\n")
        if number < 2:
            (place / "result.json").write_text(json.dumps(result(*job, name="digits", accuracy=0.9)))
            Image.new("RGB", (8, 8)).save(place / "reconstructions.png")
            (place / "logs" / "student" / "metrics.csv").write_text(LOSSES)
    (folder / "2" / "error.txt").write_text("it is too cold\n")
    (folder / "3" / "pruned.txt").write_text("others were better\n")
    return folder


FILES = (
    "sweep.json", "0/job.json", "0/result.json", "0/reconstructions.png", "0/logs/student/metrics.csv", "0/log.txt", "2/error.txt",
    "study.json", "2/log.txt", "3/pruned.txt", "0/running.lock",
)  # fmt: skip


def into_pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def into_folder(path):
    path.unlink(missing_ok=True)
    path.mkdir()


def into_link(path):
    path.unlink(missing_ok=True)
    path.symlink_to("nowhere")


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]) if path.exists() else None,
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00" * 99),
    "list": lambda path: path.write_text("[1, 2]"),
    "number": lambda path: path.write_text("5"),
    "no fields": lambda path: path.write_text("{}"),
    "nothing": lambda path: path.unlink(missing_ok=True),
    "pipe": into_pipe,
    "folder": into_folder,
    "link": into_link,
}


def shown(folder, monkeypatch, capsys):
    """What ``dfkd-status`` and the end of a sweep say of it; they raise nothing."""
    monkeypatch.setattr(sys, "argv", ["dfkd-status", str(folder)])
    status.main()
    said = capsys.readouterr()
    return said.out + said.err


@pytest.mark.parametrize("file", FILES)
def test_whatever_a_file_is_damaged_into_the_status_shows_the_rest(file, sweep, tmp_path, monkeypatch, capsys):
    for name, damage in DAMAGES.items():
        folder = tmp_path / name.replace(" ", "-")
        shutil.copytree(sweep, folder)
        damage(folder / file)
        said = shown(folder, monkeypatch, capsys)
        assert "4 jobs" in said, name
        others = {"0", "1", "2", "3"} - {file[0]}
        assert all([job] in [line.split()[:1] for line in said.splitlines()] for job in others), name
        if file == "0/result.json":
            assert ("unreadable" in said) == (name != "nothing"), name
        if file in ("sweep.json", "0/job.json") and name not in ("nothing", "link", "no fields"):
            assert f"{file} cannot be read" in said.replace("\n", ""), name


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_report_is_made_of_what_can_be_read(damage, sweep, monkeypatch, capsys):
    for file in ("0/result.json", "1/reconstructions.png", "1/logs/student/metrics.csv", "2/error.txt", "3/pruned.txt"):
        DAMAGES[damage](sweep / file)
    monkeypatch.setattr(sys, "argv", ["dfkd-report", str(sweep)])
    command.main()
    page = (sweep / "report.html").read_text()
    assert "90.00" in page
    assert ("unreadable" in page) == (damage != "nothing")
    capsys.readouterr()


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_what_a_search_noted_its_own_trials_are_reported(damage, sweep):
    assert [setting.title for setting in read(sweep).settings] == ["student=s1", "student=s0"]
    assert in_words(read(sweep))[-1].startswith("1 of the study's finished trials left no result")
    DAMAGES[damage](sweep / "study.json")
    assert [setting.title for setting in read(sweep).settings] == ["student=s0", "student=s1"]


def values(whole, path=()):
    """Each field of a result with another in its place, and without it."""
    for name in list(whole):
        for value in (None, -1, "x", [], {}, [None], {"x": None}, True, 1e999):
            yield (*path, name), {**whole, name: value}
        yield (*path, name), {key: value for key, value in whole.items() if key != name}
        if isinstance(whole[name], dict) and whole[name]:
            yield from ((place, {**whole, name: inner}) for place, inner in values(whole[name], (*path, name)))


RATE = {"rate": 0.1, "low": 0.0, "high": 0.2}
ATTACK = {
    "auc": 0.5,
    "auc_low": 0.4,
    "auc_high": 0.6,
    "members": 9,
    "others": 9,
    "tpr_at_0.1%": RATE,
    "tpr_at_1%": RATE,
}
PRIVACY = {
    "attacks": {on: ATTACK for on in ("teacher", "metadata", "shown", "student")},
    "nearest": {"training": 0.1, "held_out": 0.1, "nearer_to_training": 5, "among": 9},
}


@pytest.mark.slow
def test_a_result_whose_fields_are_odd_is_refused_or_reported(sweep, monkeypatch):
    """Whatever passes for a result can be reported; the drawings, which take long, are left out."""
    monkeypatch.setattr("dfkd_exp.report.page.svg", lambda _: "<svg></svg>")
    monkeypatch.setattr("dfkd_exp.report.page.png", lambda _: b"")
    for drawing in ("page.accuracy_against", "page.curves", "page.over_training"):
        monkeypatch.setattr(f"dfkd_exp.report.{drawing}", lambda *_, **__: None)
    row = {"name": "a", "title": "A", "set": [], "published": 90.0}
    point = {"epoch": 1, "seconds": 1.0, "image_steps": 5, "accuracy": 0.5}
    later = {"accuracy_last_tenth": 0.5, "accuracy_best_epoch": 0.5, "image_steps": 5, "student_image_steps": 5}
    later |= {"curve": [point], "peak_memory_bytes": 5}
    whole = result("student=s0", "seed=0", privacy=PRIVACY, row=row, words={"student=s0": "small"}, **later)
    refused = 0
    place = sweep / "0"
    (place / "result.json").write_text(json.dumps(whole))
    assert read_result(place) == whole
    for path, odd in values(whole):
        (place / "result.json").write_text(json.dumps(odd))
        found = read(sweep)
        if found.jobs[0].state == "unreadable":
            assert "result.json cannot be read" in found.jobs[0].doing
            refused += 1
            continue
        try:
            status.status_table(found.jobs)
            write_report(found, sweep)
        except Exception as error:
            raise AssertionError(f"{path}: {error!r}") from error
    assert refused > 400


def test_a_damaged_result_is_an_error_at_the_end_of_a_sweep(sweep, monkeypatch, capsys):
    from omegaconf import OmegaConf

    monkeypatch.setattr("dfkd_exp.sweeps.callback.failures", failures := [])
    (sweep / "0" / "result.json").write_text('{\n"a": 1,\n}')
    SweepTable().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}}))
    said = capsys.readouterr()
    assert f"job 0 failed: {sweep / '0' / 'result.json'} cannot be read" in said.err
    assert "line 3" in said.err
    assert "1 of 3 jobs done" in said.out
    assert failures
    assert Path(sweep / "report.html").is_file()
