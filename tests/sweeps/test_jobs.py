"""A sweep's jobs as processes: side by side, undisturbed by one that dies, and only what is missing when run again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dfkd_exp.processes import SECONDS_TO_STOP
from dfkd_exp.sweeps.jobs import Job, in_groups, run_jobs


def test_gpus_are_given_in_groups_to_jobs_that_use_several():
    assert in_groups(["0", "1", "2", "3", "4"], 2) == ["0,1", "2,3"]
    assert in_groups(["0", "1"], 1) == ["0", "1"]
    assert in_groups([], 1) == []


DEADLY = """
import os, signal
from pathlib import Path
from torch import nn

class Student(nn.Sequential):
    def __init__(self, width=4):
        if width == 5 and not Path("mended").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
"""
PROCESSES = ("-m", "hydra/launcher=processes", "hydra.launcher.jobs=2")


def test_a_job_that_is_killed_is_named_the_others_finish_and_again_only_it_is_run(dfkd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), str(Path.cwd())]))
    Path("deadly.py").write_text(DEADLY)
    sweep = (*PROCESSES, "student=custom", "student.target=deadly.Student", "+student.kwargs.width=4,5")
    first = dfkd(*sweep)
    assert first.code == 1
    assert len(first.results()) == 1
    assert "1 of 2 jobs done" in first.out
    assert "FAILED (killed by SIGKILL" in first.out
    assert "job 1 failed" in first.err
    [error] = first.outputs.glob("runs/digits/*/1/error.txt")
    assert "SIGKILL" in error.read_text()
    Path("mended").touch()
    again = dfkd(*sweep)
    assert again.code == 0, again.out + again.err
    made = [name for r in again.results()[1:] for name, phase in r["phases"].items() if not phase["reused"]]
    assert sorted(made) == ["evaluation", "student"]
    assert "2 of 2 jobs done" in again.out


def test_what_two_jobs_share_is_made_once(dfkd):
    ran = dfkd(*PROCESSES, "student.kwargs.width=8,16")
    assert ran.code == 0, ran.out + ran.err
    phases = [result["phases"] for result in ran.results()]
    for name in ("teacher", "metadata", "release", "reconstruction"):
        assert phases[0][name]["artifact"] == phases[1][name]["artifact"]
        assert sorted(phase[name]["reused"] for phase in phases) == [False, True]
    assert {tuple(sorted(result["overrides"])) for result in ran.results()} == {
        tuple(sorted([f"student.kwargs.width={width}", f"outputs={ran.outputs}", "scale=smoke", "trainer=cpu"]))
        for width in (8, 16)
    }


def test_a_wrong_config_fails_its_job_alone_with_its_message(dfkd):
    ran = dfkd(*PROCESSES, "student.kwargs.width=8", "distillation.optimizer.lr=-1,0.001")
    assert ran.code == 1
    assert len(ran.results()) == 1
    [error] = ran.outputs.glob("runs/digits/*/0/error.txt")
    assert "distillation.optimizer.lr must be positive" in error.read_text()


def test_jobs_know_the_users_own_choices(dfkd, tmp_path, monkeypatch):
    """A folder of yaml files that is named when the sweep is started is not in its config's overrides."""
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("defaults: [digits]\n")
    jobs: list[Job] = []
    monkeypatch.setattr("dfkd_exp.sweeps.jobs.run_jobs", lambda given, *_: jobs.extend(given) or [0] * len(given))
    dfkd("--config-dir", "conf", *PROCESSES, "data=mine,digits")
    assert len(jobs) == 2
    for job in jobs:
        assert f"--config-dir={tmp_path / 'conf'}" in job.arguments


def test_a_number_of_jobs_that_is_none_is_refused(dfkd):
    ran = dfkd("-m", "hydra/launcher=processes", "hydra.launcher.jobs=0", "seed=0,1")
    assert ran.code == 2
    assert "hydra.launcher.jobs must be at least 1" in ran.err


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Jobs that run a line of Python in the place of the command."""
    monkeypatch.setattr("dfkd_exp.processes.COMMAND", "tests.sweeps.script")
    return lambda index, code: Job(f"job {index}", tmp_path / str(index), (code,))


def test_threads_and_gpus_are_divided(script, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS")
    write = "import os; open(os.environ['HERE'] + os.environ['CUDA_VISIBLE_DEVICES'], 'a').write(os.environ['OMP_NUM_THREADS'])"
    monkeypatch.setenv("HERE", str(tmp_path / "gpu"))
    assert run_jobs([script(index, write) for index in range(3)], at_once=2, gpus=["4", "7"]) == [0, 0, 0]
    said = {path.name: path.read_text() for path in tmp_path.glob("gpu*")}
    assert set(said) == {"gpu4", "gpu7"}
    assert sorted(said.values()) == ["4", "44"]


def test_the_processors_threads_are_divided_among_the_jobs_that_there_are(script, monkeypatch, capsys):
    monkeypatch.setattr("dfkd_exp.sweeps.jobs.num_threads", lambda: 8)
    assert run_jobs([script(index, "pass") for index in range(2)], at_once=8) == [0, 0]
    assert "2 jobs, 2 at a time, 4 threads each" in capsys.readouterr().out


def test_a_job_says_what_is_wrong_in_a_file_and_nothing_on_the_terminal(script, tmp_path, capfd):
    code = "import os, sys; print('aloud'); os.system('echo aloud'); sys.exit('it is wrong')"
    assert run_jobs([script(0, code)], at_once=1) == [1]
    assert (tmp_path / "0" / "stderr.txt").read_text() == "it is wrong\n"
    assert "it is wrong" in (tmp_path / "0" / "error.txt").read_text()
    said = capfd.readouterr()
    assert "aloud" not in said.out + said.err
    assert "FAILED (exit code 1) job 0 it is wrong" in said.out


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each job imports for itself")
def test_jobs_find_what_takes_long_imported_and_as_many_threads_as_they_are_given(script, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    monkeypatch.setenv("HERE", str(tmp_path / "torch"))
    say = "print('torch' in sys.modules, __import__('torch').get_num_threads(), file=open(os.environ['HERE'], 'w'))"
    assert run_jobs([script(0, f"import os, sys; {say}"), script(1, "pass")], at_once=2) == [0, 0]
    assert (tmp_path / "torch").read_text() == "True 3\n"


def test_where_nothing_can_be_written_a_job_fails_and_the_next_is_run(script, tmp_path, capsys):
    (tmp_path / "0").touch()  # a file where the folder should be
    jobs = [script(index, "pass") for index in range(2)]
    assert run_jobs(jobs, at_once=1) == [1, 0]
    assert "job 0 could not be started" in capsys.readouterr().err


MEET = """
import os, sys, time
here = {here!r}
def there():
    return len([name for name in os.listdir(here) if name.startswith("running")])
mine = os.path.join(here, "running" + str(os.getpid()))
open(mine, "w").close()
until = time.monotonic() + 60
while there() < 2 and not os.path.exists(here + "/met") and time.monotonic() < until:
    time.sleep(0.01)
open(here + "/met", "w").close()
most = 0
for _ in range(50):
    most = max(most, there())
    time.sleep(0.01)
os.remove(mine)
sys.exit(0 if most <= 2 and time.monotonic() < until else 3)
"""


def test_as_many_run_at_once_as_may_and_no_more(script, tmp_path):
    """Jobs that end well only if two of them meet, and never a third."""
    here = tmp_path / "meeting"
    here.mkdir()
    code = MEET.format(here=str(here))
    assert run_jobs([script(index, code) for index in range(4)], at_once=2) == [0] * 4
    assert (here / "met").exists()


def test_an_interrupt_stops_them_all(script, tmp_path, monkeypatch):
    jobs = [script(index, "import time; time.sleep(60)") for index in range(2)]

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, at_once=2)
    assert time.monotonic() - started < 30


CHILD = """
import pathlib, sys, time
from dfkd_exp.processes import stop_without_parent
from dfkd_exp.stopping import Stopped, at_signals
place = pathlib.Path(sys.argv[2])
with at_signals():
    stop_without_parent()
    (place / "begun").touch()
    try:
        time.sleep(60)
    except Stopped:
        (place / "stopped").touch()
        raise
"""
PARENT = """
import sys
from pathlib import Path
from dfkd_exp import processes
from dfkd_exp.stopping import at_signals
from dfkd_exp.sweeps import jobs
processes.COMMAND, processes.SECONDS_TO_STOP = "tests.sweeps.script", 1.0
processes.IMPORTED_ONCE = ()
with at_signals():
    jobs.run_jobs([jobs.Job("job", Path(sys.argv[1]) / "job", (sys.argv[2], sys.argv[1]))], at_once=1)
"""


def waited_for(path: Path, seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.05)
    return path.exists()


def parent_of(child: str, place: Path, **options) -> subprocess.Popen:
    """A process that runs a job, which is at work."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(place), child], env=environment, **options)
    assert waited_for(place / "begun")
    return parent


@pytest.mark.parametrize("ignored", [False, True])
def test_jobs_stop_when_the_sweep_is_killed(ignored, tmp_path):
    """Though what is started in the background of a script (``nohup … &``) has SIGINT ignored, and so have its jobs."""
    ignore = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: E731
    parent = parent_of(CHILD, tmp_path, preexec_fn=ignore if ignored else None)
    parent.kill()
    parent.wait()
    assert waited_for(tmp_path / "stopped", seconds=5)


DEAF = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
place = pathlib.Path(sys.argv[2])
(place / "number").write_text(str(os.getpid()))
(place / "begun").touch()
time.sleep(60)
"""


def ended(number: int) -> bool:
    """Whether a process is gone, though perhaps nobody has asked for its exit code."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(number)], capture_output=True, text=True).stdout
        if not state.strip() or state.startswith("Z"):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("child", [CHILD, DEAF])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_sweep_and_its_jobs_in_seconds(number, child, tmp_path):
    parent, told = parent_of(child, tmp_path, stderr=subprocess.PIPE, text=True), time.monotonic()
    parent.send_signal(number)
    _, said = parent.communicate(timeout=60)
    assert time.monotonic() - told < SECONDS_TO_STOP + 3
    assert parent.returncode == 128 + number
    assert said.count("the same command continues") == said.count("\n") == 1
    if child is DEAF:
        assert ended(int((tmp_path / "number").read_text()))
    else:
        assert (tmp_path / "stopped").exists()


def test_a_signal_while_the_first_job_is_being_started_ends_all(tmp_path):
    """What makes the copies is importing then, for seconds."""
    (tmp_path / "slow.py").write_text(
        "import os, time\nopen(os.environ['HERE'], 'w').write(str(os.getpid()))\ntime.sleep(60)"
    )
    slow = PARENT.replace("IMPORTED_ONCE = ()", "IMPORTED_ONCE = ['slow']")
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])
    environment = {**os.environ, "PYTHONPATH": path, "HERE": str(tmp_path / "begun")}
    command = [sys.executable, "-c", slow, str(tmp_path), CHILD]
    parent = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert waited_for(tmp_path / "begun")
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
    assert parent.communicate(timeout=10)[1].count("\n") == 1
    assert parent.returncode == 130
    assert ended(int((tmp_path / "begun").read_text()))


def test_a_jobs_session_is_its_own_so_that_ctrl_c_comes_from_the_sweep_alone(script, tmp_path, monkeypatch):
    monkeypatch.setenv("HERE", str(tmp_path / "session"))
    assert run_jobs([script(0, "import os; open(os.environ['HERE'], 'w').write(str(os.getsid(0)))")], at_once=1) == [0]
    assert int((tmp_path / "session").read_text()) != os.getsid(0)
