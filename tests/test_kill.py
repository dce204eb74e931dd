"""A run that is killed or stopped, at any moment, and repeated is a run that was not."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from dfkd_exp.manifest import verify
from tests.test_pipeline import figures

PHASES = ("teacher", "metadata", "release", "reconstruction", "student", "evaluation")
LONG_ENOUGH_TO_KILL = [
    "trainer=cpu", "training.epochs=20", "distillation.epochs=10", "reconstruction.images_per_class=100",
    "reconstruction.group_size=20", "engine.images_per_batch=200", "reconstruction.steps=60",
]  # fmt: skip


def run_process(folder: Path, kill: Callable[[str], float | None] = lambda line: None) -> int:
    """The command as a process of its own, with its outputs in ``folder``; its exit code.

    It is killed so many seconds after the first line for which ``kill(line)`` is a number.
    """
    command = [sys.executable, "-u", "-m", "dfkd_exp", *LONG_ENOUGH_TO_KILL, f"outputs={folder}/outputs"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder)
    assert process.stdout is not None
    for line in process.stdout:
        if (delay := kill(line)) is not None:
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    return process.returncode


RUNS = {
    "one": ("trainer=cpu",),
    "two processes": ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"),
    "a sweep": ("-m", "trainer=cpu", "seed=0,1"),
    "a sweep of processes": ("-m", "trainer=cpu", "hydra/launcher=processes", "hydra.launcher.jobs=2", "seed=0,1"),
}
SECONDS_TO_LEAVE = 6


def marked(mark: str) -> list[str]:
    """The processes at work that have ``mark`` in their environment, as all have that one of them has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("run", RUNS)
def test_a_signal_at_any_moment_ends_a_run_and_all_that_it_has_started(run, number, tmp_path):
    command = [sys.executable, "-m", "dfkd_exp", *RUNS[run], *LONG_ENOUGH_TO_KILL[1:], f"outputs={tmp_path}/outputs"]
    began = time.monotonic()
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    seconds_of_a_run = time.monotonic() - began
    shutil.rmtree(tmp_path / "outputs")
    chance, told = random.Random(number), 0
    for attempt in range(20):
        mark = f"{tmp_path.name}-{number}-{attempt}"
        process = subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, "DFKD_TEST": mark}, stderr=subprocess.PIPE, text=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        after = chance.uniform(0.3, seconds_of_a_run)
        time.sleep(after)
        if process.poll() is not None:  # what the attempts before it have done is done
            assert process.returncode == 0, process.communicate()
            process.communicate()
            shutil.rmtree(tmp_path / "outputs")
            continue
        told += 1
        process.send_signal(number)
        sent = time.monotonic()
        _, said = process.communicate(timeout=120)
        while left := marked(mark):
            assert time.monotonic() - sent < 60, left
            time.sleep(0.1)
        assert time.monotonic() - sent < SECONDS_TO_LEAVE, f"after {after:.1f} s"
        if (
            process.returncode == -number and not said
        ):  # Python was leaving, with all done; a shell calls that 128 + number too
            assert list((tmp_path / "outputs").glob("runs/*/**/result.json"))
            continue
        assert process.returncode == 128 + number, f"after {after:.1f} s: {said}"
        assert said.count("\n") == said.count("the same command continues") == 1, f"after {after:.1f} s: {said}"
    assert told >= 6
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


def results_in(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in (folder / "outputs").glob("runs/*/*/result.json")]


@pytest.mark.slow
def test_a_run_killed_in_any_phase_and_repeated_ends_in_the_same_figures(tmp_path):
    (tmp_path / "whole").mkdir()
    assert run_process(tmp_path / "whole") == 0
    [whole] = results_in(tmp_path / "whole")
    chance = random.Random(0)
    for kill in range(20):
        folder, phase = tmp_path / str(kill), PHASES[kill % len(PHASES)]
        folder.mkdir()
        delay = chance.uniform(0, whole["phases"][phase]["seconds"])
        killed = run_process(folder, lambda line, phase=phase, delay=delay: delay if f"▸ {phase}" in line else None)
        assert killed == -signal.SIGKILL
        assert run_process(folder) == 0
        found = [figures(result) for result in results_in(folder)]
        assert found, "the repeated run has a result, and the killed one may have got as far"
        assert all(result == figures(whole) for result in found), f"killed {delay:.3f} s into {phase}"
        for manifest in (folder / "outputs" / "store").glob("*/*/manifest.json"):
            verify(manifest.parent)
        left = {path.suffix for path in (folder / "outputs" / "store").glob("*/*") if path.is_dir()}
        assert left == {""}, "nothing half done, nothing damaged"
