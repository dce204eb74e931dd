"""A sweep around its jobs: what it plans, what it refuses, its table at the end, and what failed, wherever the jobs ran."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.markup import escape

from dfkd_exp import console
from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.locks import FileLock, Timeout, lock
from dfkd_exp.ranks import ranks_of_process
from dfkd_exp.run_folder import ERROR, LOG, RUNNING, STDERR, SWEEP, last_line, leave_traceback, plan_sweep
from dfkd_exp.stopping import check
from dfkd_exp.sweeps.jobs import Job, run_jobs, single_run

if TYPE_CHECKING:
    from dfkd_exp.report.status import Status
    from dfkd_exp.report.summary import Sweep

failures: list[Exception] = []
"""What went wrong in the run, or in a sweep's jobs; the command's exit code follows from it."""

begun: list[DictConfig] = []
"""The config of the sweep that has begun and not ended."""

_at_it: list[FileLock] = []
"""What says in its folder that somebody is at it."""


class SweepTable(Callback):
    """Writes what a sweep is going to run, prints its table at its end, and names the jobs that failed."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        begun.append(config)
        if ranks_of_process().first:
            folder = Path(config.hydra.sweep.dir)
            with counted(folder, "the sweep's plan could not be written"):
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except OSError:
                    return  # Hydra makes it too, and that ends the command
                plan_sweep(folder, None)  # a grid says more, once it knows its jobs
            with counted(folder, "the sweep could not be begun"), suppress(Timeout):  # another command is at it too
                held = lock(folder / RUNNING, timeout=1)
                held.acquire()
                _at_it.append(held)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        begun.clear()
        folder = Path(config.hydra.sweep.dir)
        with counted(folder, "the sweep could not be summed up"):
            _end(folder)
        _leave()


def _leave() -> None:
    """Say that nobody is at the sweep any more."""
    for held in _at_it:
        Path(held.lock_file).unlink(missing_ok=True)
        held.release()
    _at_it.clear()


@contextmanager
def counted(folder: Path, what: str) -> Iterator[None]:
    """An error within the context is said, and ends the command with exit code 1: Hydra would warn of it, and go on as if all were well."""
    try:
        yield
    except Exception as error:
        check()
        failures.append(error)
        reason = (
            str(error) if isinstance(error, DfkdError) else f"{type(error).__name__}: {error}{leave_traceback(folder)}"
        )
        console.error(f"{what}: {reason}")


def _end(folder: Path) -> None:
    from dfkd_exp.report.summary import read

    sweep = read(folder)
    lost = [job for job in sweep.unfinished if job.state != "running" and job.folder.is_dir()]
    not_started = [
        job.folder.name for job in sweep.unfinished if job.state in ("waiting", "not begun") and job not in lost
    ]
    running = [job.folder.name for job in sweep.unfinished if job.state == "running"]
    with console.log_to(folder / LOG):
        with counted(folder, "the sweep's table could not be made"):
            _show_table(folder, sweep)
        if (lost or not_started) and not failures:  # it was in another process
            failures.append(DfkdError("jobs left no result"))
        for jobs, where in _alike(lost):
            console.error(f"job{'s' * (len(jobs) > 1)} {', '.join(jobs)} failed: {where}")
        if not_started:
            console.error(f"not started: job {', '.join(not_started)}")
        if running:
            if not failures:
                failures.append(DfkdError("jobs are still running"))
            console.warn(f"still running: job {', '.join(running)} (dfkd-status {console.short(folder)})")
        if next(folder.glob("*/wandb/offline-run-*"), None):
            console.show(escape(f"W&B      wandb sync {console.short(folder)}/*/wandb/offline-run-*"))
        if sweep.settings:
            again = f"dfkd-report {console.short(folder)} tries again"
            with counted(folder, f"the report could not be made ({again})"):
                from dfkd_exp.report.page import write_report

                console.show(escape(f"report   {console.short(write_report(sweep, folder))}"))
        states = [job.state for job in sweep.jobs if job.state != "pruned"]
        done = f"{states.count('done')} of {len(states)} jobs done"
        console.show(escape(f"sweep    {console.short(folder)}: {done}"))


def _alike(lost: Sequence[Status]) -> list[tuple[list[str], str]]:
    """The names of the jobs that failed in one way, and where that is said, for each way; of several as a shell takes it,
    ``sweep/{0,1}/error.txt``."""
    ways: dict[str, tuple[list[str], Path | str]] = {}
    for job in lost:
        wrong = job.doing if job.state == "unreadable" else ""
        said = next((path for name in (ERROR, LOG, STDERR) if (path := job.folder / name).is_file()), job.folder)
        way = wrong or (last_line(said) if said.name == ERROR else str(said))
        ways.setdefault(way, ([], wrong or said))[0].append(job.folder.name)
    return [(jobs, where if isinstance(where, str) else _each(where, jobs)) for jobs, where in ways.values()]


def _each(file: Path, jobs: Sequence[str]) -> str:
    """The path of the first job's ``file``, and of the others'."""
    if len(jobs) == 1:
        return console.short(file)
    return console.short(file.parent.with_name(f"{{{','.join(jobs)}}}") / file.name)


def _show_table(folder: Path, sweep: Sweep) -> None:
    from dfkd_exp.report.notes import notes
    from dfkd_exp.report.published import published_rows, show, write_published
    from dfkd_exp.report.tables import sweep_table

    said = notes(result for setting in sweep.settings for result in setting.results)
    if rows := published_rows(sweep.settings):
        console.show(show(rows, said))
        for path in write_published(sweep.settings, folder):
            console.show(escape(f"table    {console.short(path)}"))
    if sweep.settings and (sweep.objective or not rows):
        console.show(sweep_table(sweep.settings, sweep.objective, [] if rows else said))


def end_without_launcher(error: Exception) -> None:
    """The table of what is done, when the launcher has left with an error: those of submitit and Ray do, when a machine dies."""
    config = begun[0]
    failures.append(error)
    launcher = config.hydra.runtime.choices["hydra/launcher"]
    folder = console.short(Path(config.hydra.sweep.dir))
    console.error(
        f"{launcher} ended the sweep: {type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}; jobs that it has started "
        f"may go on (dfkd-status {folder}); the same command again runs the rest"
    )
    SweepTable().on_multirun_end(config)


def forget_refused() -> None:
    """Remove what was written of a sweep that was refused before its first job."""
    for config in begun:
        folder = Path(config.hydra.sweep.dir)
        _leave()
        if os.path.isdir(folder) and {path.name for path in folder.iterdir()} <= {SWEEP, "multirun.yaml"}:
            shutil.rmtree(folder)


def refuse_launcher(settings: Any) -> None:
    """Raise ConfigError for launchers that do something else than they seem to. ``settings``: Hydra's own config of the job."""
    if settings.mode is not RunMode.MULTIRUN:
        return
    if _launched_by(settings, "JoblibLauncher"):
        raise ConfigError(
            "hydra/launcher=joblib ends a sweep when one of its jobs is killed, and gives each job all threads; "
            "use hydra/launcher=processes"
        )
    if _launched_by(settings, "RayLauncher") and settings.launcher.ray.remote.get("max_retries") != 0:
        raise ConfigError(
            "hydra/launcher=ray starts a job whose machine is lost up to three times more, in the same folder; "
            "use hydra/launcher=ray_jobs, or say +hydra.launcher.ray.remote.max_retries=0"
        )


def is_sent_elsewhere(settings: Any) -> bool:
    """Whether this process is a worker of Ray or submitit, and not the job itself."""
    return settings.mode is RunMode.MULTIRUN and _launched_by(settings, "RayLauncher", "SlurmLauncher", "LocalLauncher")


def run_as_process(settings: Any, folder: Path) -> None:
    """Run the job of a worker as a process of its own: if that is killed, the worker is not, and the sweep hears of it."""
    overrides = list(settings.overrides.task)
    job = Job(" ".join(overrides), folder, single_run(overrides, settings, folder))
    if any(run_jobs([job], at_once=1)):
        failures.append(DfkdError("the job failed"))


def _launched_by(settings: Any, *names: str) -> bool:
    return str(settings.launcher.get("_target_")).endswith(names)
