"""``dfkd-status``: what it says of jobs that are done, running, failed, stopped and still to come."""

import json
import os
import subprocess
import sys
import time

import pytest

from dfkd_exp.errors import DfkdError
from dfkd_exp.locks import lock
from dfkd_exp.report.status import Status, main, newest, read_sweep, seconds_left, summary
from dfkd_exp.run_folder import RUNNING, at_work, is_running, plan_sweep
from tests.report.test_tables import result


@pytest.fixture
def sweep(tmp_path):
    """Of six jobs: done, failed, running, killed, never begun, and interrupted."""
    folder = tmp_path / "outputs" / "runs" / "digits" / "1"
    plan_sweep(folder, [[f"student=s{number}", "seed=0"] for number in range(5)])
    for number in range(4):
        (folder / str(number)).mkdir()
    with at_work(folder / "0", ["student=s0", "seed=0"]):
        pass
    (folder / "0" / "result.json").write_text(json.dumps(result(accuracy=0.5)))
    with at_work(folder / "1", ["student=s1", "seed=0"]):
        (folder / "1" / "error.txt").write_text("Traceback\nDfkdError: it is too cold\n")
    with at_work(folder / "3", ["student=s3", "seed=0"]):
        (folder / "3" / "log.txt").write_text(
            "▸ teacher: training mlp\n  0.4 s\n▸ student: distilling\n  9 of 10, 1 s left\n"
        )
    code = f"""
import os
from pathlib import Path
from dfkd_exp.run_folder import at_work
with at_work(Path({str(folder / "3")!r}), ["student=s3", "seed=0"]):
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    with lock(folder / RUNNING), at_work(folder / "2", ["student=s2", "seed=0"]):
        yield folder


def test_every_job_has_its_state(sweep):
    jobs = read_sweep(sweep)
    assert [job.state for job in jobs] == ["done", "failed", "running", "stopped", "waiting"]
    assert [job.title for job in jobs] == [f"student=s{number}" for number in range(5)]
    assert "it is too cold" in jobs[1].doing
    assert jobs[3].doing == "student: distilling; 9 of 10", "nobody is at it: no time is left"
    line = summary(sweep, jobs)
    assert "5 jobs: 1 done, 1 running, 1 failed, 1 stopped, 1 waiting" in line
    assert "the same command again" in line


def test_what_a_sweep_that_nobody_is_at_has_not_begun_does_not_wait(tmp_path, capsys, monkeypatch):
    plan_sweep(tmp_path / "sweep", [["seed=0"], ["seed=1"]])
    monkeypatch.setattr(sys, "argv", ["dfkd-status", str(tmp_path), "--watch", "100"])
    main()
    assert "2 jobs: 2 not begun, the same command again runs what is missing" in capsys.readouterr().out


@pytest.mark.parametrize("said", ["0", "nan", "often", "1e7"])
def test_what_is_no_number_of_seconds_is_refused(said, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dfkd-status", "--watch", said])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert (
        f"argument --watch: must be a number of seconds from 0.1 to 1,000,000, got {said!r}\n"
        in capsys.readouterr().err
    )


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(DfkdError, match=r"result.json: is a file, and no folder; name the outputs"):
        newest(tmp_path / "result.json")
    with pytest.raises(DfkdError, match=r"nothing: there is no such folder"):
        newest(tmp_path / "nothing")


def test_a_job_whose_process_was_killed_is_not_running(sweep):
    assert (sweep / "3" / "running.lock").exists()
    assert not is_running(sweep / "3")
    assert is_running(sweep / "2")


def test_the_time_left_is_that_of_the_jobs_that_are_not_done():
    def job(state, seconds=None):
        return Status("", None, state, seconds=seconds)

    jobs = [job("done", 10), job("done", 20), job("running", 5), job("running", 14), *[job("waiting")] * 4]
    assert seconds_left(jobs) == pytest.approx((10 + 1 + 4 * 15) / 2)
    assert seconds_left(jobs[2:]) is None
    assert seconds_left(jobs[:2]) is None


def test_the_newest_sweep_or_run_of_the_outputs_is_shown(sweep, tmp_path, capsys, monkeypatch):
    assert newest(tmp_path) == sweep
    alone = tmp_path / "outputs" / "runs" / "digits" / "2"
    alone.mkdir()
    time.sleep(0.01)
    with at_work(alone, ["seed=7"]):
        assert newest(tmp_path) == alone
        [status] = read_sweep(alone)
    assert status.title == "seed=7"
    monkeypatch.setattr(sys, "argv", ["dfkd-status", str(sweep)])
    main()
    assert "student=s4" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["dfkd-status", str(sweep), "--json"])
    main()
    said = json.loads(capsys.readouterr().out)
    assert [job["state"] for job in said["jobs"]] == ["done", "failed", "running", "stopped", "waiting"]


@pytest.mark.parametrize("exists", [False, True])
def test_where_there_is_nothing_it_says_what_to_name(tmp_path, exists, capsys, monkeypatch):
    folder = tmp_path / "empty"
    if exists:
        folder.mkdir()
    with pytest.raises(DfkdError, match="name the outputs"):
        newest(folder)
    monkeypatch.setattr(sys, "argv", ["dfkd-status", str(folder)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "name the outputs" in capsys.readouterr().err


def test_it_does_not_wait_for_torch():
    code = "import sys, dfkd_exp.report.status; assert not {'torch', 'hydra', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0
