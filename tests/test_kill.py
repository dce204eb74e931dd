"""A run that is killed, at any moment, and repeated is a run that was not killed."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dfkd_exp.store import verify
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
