"""Jobs of a sweep as processes of their own, several at once: what happens to one does not disturb the others."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from dfkd_exp import console
from dfkd_exp.config.overrides import is_of
from dfkd_exp.processes import num_threads, start, stop
from dfkd_exp.run_folder import ERROR, STDERR, read_text

PARENTS_OWN = (
    "hydra/launcher",
    "hydra.launcher",
    "hydra/sweeper",
    "hydra.sweeper",
    "hydra.sweep",
    "hydra.mode",
    "hydra.run",
)
"""What is for the sweep, or the starting process, and not for the run."""

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Job:
    """One run of the command: its ``arguments``, the ``folder`` it writes to, and what it is called."""

    title: str
    folder: Path
    arguments: tuple[str, ...]


def single_run(overrides: Sequence[str], hydra: Any, folder: Path) -> tuple[str, ...]:
    """The command's arguments for one run of its own in ``folder``: ``overrides``, and what of Hydra's own config (``hydra``) is for
    runs: its overrides, and the user's config folder."""
    shared = [text for text in hydra.overrides.hydra if not is_of(text, PARENTS_OWN)]
    quoted = str(folder.absolute()).replace("\\", "\\\\").replace("'", "\\'")
    own = [
        f"--config-dir={source.path}" for source in hydra.runtime.config_sources if source.provider == "command-line"
    ]
    return (*own, *overrides, *shared, f"hydra.run.dir='{quoted}'", "hydra.mode=RUN")


def devices() -> list[str]:
    """The GPUs that jobs are spread over, as CUDA_VISIBLE_DEVICES names them; empty on a machine without one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    import torch  # takes some seconds

    return [str(index) for index in range(torch.cuda.device_count())]


def in_groups(gpus: Sequence[str], size: int) -> list[str]:
    """The GPUs by ``size``, each group as CUDA_VISIBLE_DEVICES names it; what is left over is not used."""
    return [",".join(gpus[start : start + size]) for start in range(0, len(gpus) - size + 1, size)]


def run_jobs(jobs: Sequence[Job], at_once: int, gpus: Sequence[str] = ()) -> list[int]:
    """Run ``jobs``, ``at_once`` at a time, each in a process of its own; their exit codes, in order. 0 is success.

    The processor's threads are divided among those that run side by side, since two processes that each want all of them
    are many times slower than one; the jobs take turns with the ``gpus``, one, or a group of them, for each. A job that fails, or
    is killed, leaves ``error.txt`` in its folder. Whatever ends this early stops them all.
    """
    codes: dict[int, int] = {}
    at_once = max(1, min(at_once, len(jobs)))
    running: dict[int, tuple[BaseProcess, int]] = {}
    free, waiting, started = list(range(at_once)), list(range(len(jobs))), time.monotonic()
    threads = max(1, num_threads() // at_once)
    if len(jobs) > 1:
        console.note(f"{len(jobs)} jobs, {at_once} at a time, {threads} threads each")
    try:
        while waiting or running:
            while waiting and free:
                index, slot = waiting.pop(0), free.pop(0)
                try:
                    running[index] = (_start(jobs[index], gpus[slot % len(gpus)] if gpus else None, threads), slot)
                except OSError as error:  # a full disk, no more processes: the next one may be luckier
                    free.append(slot)
                    codes[index] = 1
                    console.error(f"{jobs[index].title} could not be started: {error}")
            time.sleep(POLL_SECONDS)
            for index, (process, slot) in list(running.items()):
                code = process.exitcode
                if code is not None:
                    del running[index]
                    free.append(slot)
                    codes[index] = code
                    _report(jobs[index], code, len(codes), len(jobs), time.monotonic() - started)
    finally:
        stop([process for process, _ in running.values()])  # what they have finished stays
    return [codes[index] for index in range(len(jobs))]


def _start(job: Job, gpus: str | None, threads: int) -> BaseProcess:
    job.folder.mkdir(parents=True, exist_ok=True)
    variables = {**os.environ, **({"CUDA_VISIBLE_DEVICES": gpus} if gpus else {})}
    return start(job.arguments, variables, errors=job.folder / STDERR, threads=threads)


def _report(job: Job, code: int, done: int, total: int, seconds: float) -> None:
    progress = f"{done} of {total}" + (
        f", about {console.duration(seconds / done * (total - done))} left" if done < total else ""
    )
    if code == 0:
        console.note(f"{progress}: done {job.title}")
        return
    reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    if code == -signal.SIGKILL:
        reason += "; if nobody did it, memory ran out: run fewer at a time"
    said = ""
    with suppress(OSError):  # on a full disk it is said here alone
        said = read_text(job.folder / STDERR).strip()
        if not (job.folder / ERROR).exists():
            (job.folder / ERROR).write_text(f"{reason}\n{said}\n", "utf-8")
    last = said.splitlines()[-1] if said else ""
    console.note(f"{progress}: FAILED ({reason}) {job.title} {last}")
