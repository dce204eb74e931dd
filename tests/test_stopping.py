"""A command that is told to stop: at any moment, within seconds, with one line and the exit code of the signal."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECONDS = 0.5
"""What these processes have to leave by themselves."""
SCRIPT = """
import os, signal, sys, time
from dfkd_exp import stopping
stopping.SECONDS_TO_STOP = {seconds}
with stopping.at_signals():
{body}
"""
BEGUN = "print('begun', flush=True)"
SAID = {
    signal.SIGTERM: "error: stopped by SIGTERM; the same command continues where it was\n",
    signal.SIGINT: "error: interrupted; the same command continues where it was\n",
}


def begun(body: str, seconds: float = SECONDS, **options) -> subprocess.Popen:
    """A process that is in ``body``, where it has said so, within `at_signals`."""
    script = SCRIPT.format(seconds=seconds, body="\n".join(f"    {line}" for line in body.splitlines()))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, **options,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


MOMENTS = {
    "at work": f"{BEGUN}\nwhile True: time.sleep(0.01)",
    "in one long call": f"{BEGUN}\nimport hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)",
    "where exceptions are lost": f"{BEGUN}\nwhile True:\n    try: time.sleep(60)\n    except BaseException: pass",
    "where they become others": (
        f"{BEGUN}\ntry: time.sleep(60)\nexcept BaseException: raise ImportError('partially initialised') from None"
    ),
    "where they become an exit": f"{BEGUN}\ntry: time.sleep(60)\nexcept BaseException: sys.exit(1)",
    "where a library listens": (
        f"for number in (2, 15): signal.signal(number, lambda *_: None)\n{BEGUN}\nwhile True: time.sleep(0.01)"
    ),
    "while it leaves": f"import threading; threading.Thread(target=time.sleep, args=[60]).start()\n{BEGUN}\ntime.sleep(60)",
    "within another context": f"with stopping.at_signals():\n    {BEGUN}\n    time.sleep(60)",
}


@pytest.mark.parametrize("number", SAID)
@pytest.mark.parametrize("moment", MOMENTS)
def test_either_signal_ends_it_in_time_with_one_line(moment, number):
    process = begun(MOMENTS[moment])
    told = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert (out, err) == ("", SAID[number])
    assert time.monotonic() - told < SECONDS + 5


def test_a_second_signal_does_not_disturb_the_leaving():
    process = begun(
        f"try:\n    {BEGUN}\n    time.sleep(60)\nfinally:\n    {BEGUN}\n    time.sleep(0.2)\n    print('left')",
        seconds=20,
    )
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("left\n", SAID[signal.SIGTERM])
    assert process.returncode == 143


SLOW = """
import builtins
def slow(*args, print=print, **options):
    time.sleep(0.2)  # the process is to be ended in this very moment
    print(*args, **options)
builtins.print = slow
open(1, "w", closefd=False).write("begun\\n")
try: time.sleep(60)
except BaseException: time.sleep({seconds} - 0.1); raise
"""


def test_a_line_that_is_being_written_is_written():
    process = begun(SLOW.format(seconds=SECONDS))
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60) == ("", SAID[signal.SIGTERM])
    assert process.returncode == 143


STARTED = """
import multiprocessing
def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
child = multiprocessing.get_context("fork").Process(target=deaf)
child.start()
print("begun", flush=True)
print(child.pid, flush=True)
child.join()
"""


def test_what_it_has_started_ends_with_it():
    process = begun(STARTED)
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_signal_to_a_fork_is_no_signal_to_the_process():
    process = begun(
        "child = os.fork()\nif not child: time.sleep(60)\ntime.sleep(0.2)\nos.kill(child, signal.SIGTERM)\n"
        f"assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -15\n{BEGUN}\ntime.sleep(1)"
    )
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


def test_what_ignores_ctrl_c_from_the_start_goes_on_ignoring_it():
    ignore = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: E731
    process = begun(f"{BEGUN}\ntime.sleep(60)", preexec_fn=ignore)  # as `nohup … &` does
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(SECONDS + 1)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[1] == SAID[signal.SIGTERM]


@pytest.mark.parametrize("variables", [{"DFKD_LAUNCHED": "1"}, {"RANK": "1", "WORLD_SIZE": "2"}])
def test_of_several_processes_one_speaks(variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    process = begun(f"{BEGUN}\ntime.sleep(60)")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 143


def test_afterwards_signals_are_handled_as_before():
    from dfkd_exp.stopping import at_signals

    before = [signal.getsignal(number) for number in SAID]
    with at_signals():
        assert [signal.getsignal(number) for number in SAID] != before
    assert [signal.getsignal(number) for number in SAID] == before
