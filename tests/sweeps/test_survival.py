"""Whole sweeps as a user runs them: shared phases once, kills, a full disk, two sweeps at once, and a search by three workers.

``pytest -m slow -n 0 -s tests/test_sweep_survival.py`` prints the figures of docs/results/sweeps.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from dfkd_exp.manifest import verify

pytestmark = pytest.mark.slow

LITTLE = (
    "trainer=cpu", "engine=plain", "training.epochs=30", "distillation.epochs=15", "reconstruction.images_per_class=100",
    "reconstruction.group_size=20", "reconstruction.steps=60", "engine.images_per_batch=200",
)  # fmt: skip
SWEEP = (
    "-m", "hydra/launcher=processes", "hydra.launcher.jobs=2", "teacher=mlp,cnn",
    "metadata=top_layer,all_layers_diagonal,all_layers", "student=mlp,cnn", *LITTLE,
)  # fmt: skip
MADE = {"teacher": 2, "metadata": 6, "release": 6, "reconstruction": 6, "student": 12, "evaluation": 12}


def start(outputs: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "dfkd_exp", *arguments, f"outputs={outputs}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("OMP_NUM_THREADS", None)
    outputs.parent.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        command, cwd=outputs.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen) -> tuple[int, str]:
    out, _ = process.communicate(timeout=900)
    return process.returncode, out


def newest_sweep(outputs: Path) -> Path:
    return max(outputs.glob("runs/*/*"), key=lambda path: (path / "sweep.json").stat().st_mtime)


def results(sweep: Path) -> list[dict]:
    found = [json.loads(path.read_text()) for path in sweep.glob("*/result.json")]
    return sorted(found, key=lambda result: result["overrides"])


def table(sweep: Path) -> dict[tuple[str, ...], tuple]:
    """What a sweep has found, by setting; times and places left out."""
    names = ("accuracy", "agreement", "agreement_held_out", "teacher_accuracy", "source_bytes", "reconstruction_loss")
    return {
        tuple(o for o in result["overrides"] if not o.startswith("outputs=")): tuple(result[name] for name in names)
        for result in results(sweep)
    }


def made(*sweeps: Path) -> Counter:
    """How often each phase was computed, and not found in the store."""
    phases = [item for sweep in sweeps for result in results(sweep) for item in result["phases"].items()]
    return Counter(name for name, phase in phases if not phase["reused"])


def hits(sweep: Path) -> int:
    return sum(phase["reused"] for result in results(sweep) for phase in result["phases"].values())


def check_store(outputs: Path) -> int:
    """Every artifact is whole, and nothing half done is left; how many there are."""
    folders = [path.parent for path in outputs.glob("store/*/*/manifest.json")]
    for folder in folders:
        verify(folder)
    assert not list(outputs.glob("store/*/*.partial"))
    return len(folders)


def children(*parents: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", ",".join(map(str, parents))], capture_output=True, text=True)
    return [int(line) for line in listed.stdout.split()]


def jobs_of(process: subprocess.Popen) -> list[int]:
    """The processes of a sweep's jobs: copies that a child of the sweep's makes."""
    return children(*children(process.pid))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    outputs = tmp_path_factory.mktemp("undisturbed") / "outputs"
    started = time.monotonic()
    code, out = finish(start(outputs, *SWEEP))
    seconds = time.monotonic() - started
    assert code == 0, out
    sweep = newest_sweep(outputs)
    parts = sum(p["seconds"] for r in results(sweep) for p in r["phases"].values() if not p["reused"])
    print(
        f"\n12 jobs: {seconds:.0f} s, of phases {parts:.0f} s, made {dict(made(sweep))}, {hits(sweep)} phases from the store"
    )
    return sweep


def test_what_jobs_share_is_made_once(undisturbed):
    assert len(results(undisturbed)) == 12
    assert made(undisturbed) == MADE
    assert hits(undisturbed) == 12 * len(MADE) - sum(MADE.values())
    check_store(undisturbed.parents[2])


@pytest.fixture
def small_disk(tmp_path):
    """A file system in memory of 512 MiB, for the outputs alone."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("cannot mount a file system here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_kills_and_a_full_disk_leave_a_sweep_that_ends_as_if_undisturbed(undisturbed, small_disk):
    outputs, chance, attempts = small_disk / "outputs", random.Random(0), 0

    # Three of its jobs, at moments that have nothing to do with theirs.
    attempts += 1
    process = start(outputs, *SWEEP)
    killed = 0
    while killed < 3 and process.poll() is None:
        time.sleep(chance.uniform(4, 9))
        for job in jobs_of(process)[:1]:
            os.kill(job, signal.SIGKILL)
            killed += 1
    code, out = finish(process)
    assert killed == 3
    assert code == 1, out
    assert out.count("killed by SIGKILL") == 3

    # The sweep itself; its jobs stop by themselves.
    attempts += 1
    process = start(outputs, *SWEEP)
    time.sleep(chance.uniform(8, 12))
    orphans = jobs_of(process)
    process.kill()
    process.communicate()
    until = time.monotonic() + 90
    while any(Path(f"/proc/{orphan}").exists() for orphan in orphans) and time.monotonic() < until:
        time.sleep(0.5)
    assert not any(Path(f"/proc/{orphan}").exists() for orphan in orphans)

    # A disk with no room left.
    attempts += 1
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(b"0" * 65536)
                file.flush()
        except OSError:
            pass
    code, out = finish(start(outputs, *SWEEP))
    assert code == 1, out
    assert "No space left on device" in out
    filler.unlink()

    code = 1
    while code:
        attempts += 1
        code, out = finish(start(outputs, *SWEEP))
        assert attempts < 10, out
    print(f"\nthree jobs killed, the sweep killed, a full disk: done in attempt {attempts}")
    assert table(newest_sweep(outputs)) == table(undisturbed)
    check_store(outputs)


def test_two_sweeps_that_start_together_share_the_work(undisturbed, tmp_path):
    outputs = tmp_path / "outputs"
    both = [start(outputs, *SWEEP) for _ in range(2)]
    ended = [finish(process) for process in both]
    assert [code for code, _ in ended] == [0, 0], ended
    sweeps = sorted(outputs.glob("runs/*/*"))
    assert len(sweeps) == 2
    assert table(sweeps[0]) == table(sweeps[1]) == table(undisturbed)
    assert made(*sweeps) == MADE
    print(f"\ntwo at once: {check_store(outputs)} artifacts, made {[dict(made(sweep)) for sweep in sweeps]}")


def test_a_search_by_three_workers_of_which_one_is_killed(tmp_path):
    outputs = tmp_path / "outputs"
    search = (
        "-m", "hydra/sweeper=study", "hydra.sweeper.trials=30", "hydra.sweeper.sampler=random", "scale=smoke", "trainer=cpu",
        "distillation.epochs=4", "reconstruction.images_per_class=100", "engine=plain",
        "distillation.optimizer.lr=tag(log,interval(0.0005,0.05))",
        "distillation.batch_size=0,64,64,64",  # trials that fail
    )  # fmt: skip
    workers = [start(outputs, *search) for _ in range(3)]
    time.sleep(20)
    workers[0].kill()
    for worker in workers:
        worker.communicate(timeout=900)
    assert workers[0].returncode == -signal.SIGKILL
    code, out = finish(start(outputs, *search))  # again: nothing is left, or what the killed one was at
    assert code == 0, out
    [line] = [line for line in out.splitlines() if line.startswith("study")]
    assert "30 of 30 trials" in line
    assert "running" not in line
    assert "fail" in line
    code, out = finish(start(outputs, *search, "hydra.sweeper.trials=32"))
    assert "32 of 32 trials" in out
    print(f"\n{line}\n" + "\n".join(text for text in out.splitlines() if text.startswith(("study", "best"))))
