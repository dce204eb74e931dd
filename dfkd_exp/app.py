"""The command ``dfkd``: typed config in, exit code out. Nothing heavy is imported before the config is known to be good."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.markup import escape

from dfkd_exp import console
from dfkd_exp.arguments import check_arguments
from dfkd_exp.config import composition
from dfkd_exp.config.effect import beyond_scale, require_effect
from dfkd_exp.config.errors import CONFIG_ERRORS, explain
from dfkd_exp.config.groups import CONF
from dfkd_exp.config.own import instead_of_own, left_open, of_task
from dfkd_exp.config.rows import chosen, naming_row, said_otherwise, with_row
from dfkd_exp.config.tree import Config
from dfkd_exp.config.typed import at_home, choices_of, experiment_of, rows_of, typed
from dfkd_exp.config.words import words_of
from dfkd_exp.errors import ConfigError, DfkdError, Pruned
from dfkd_exp.help import asks_for_help, help_page
from dfkd_exp.processes import keep_freed_memory, stop_without_parent
from dfkd_exp.ranks import LAUNCHED, end, launch, leave, ranks_of_process, report_failure, shared_name
from dfkd_exp.run_folder import ERROR, LIKENESS, LOG, NEAREST, PICTURE, PRUNED, RESULT, SWEEP, at_work, leave_traceback
from dfkd_exp.stopping import at_signals, check
from dfkd_exp.sweeps import callback
from dfkd_exp.sweeps.jobs import single_run


@at_signals()
def main() -> None:
    """Run, and say in one line what is wrong if something is. Exit code 0, 1 (failed), 2 (bad config), 130 (interrupted) or 143
    (stopped by SIGTERM)."""
    if asks_for_help(sys.argv[1:]):
        try:
            console.show(help_page(sys.argv[1:]))
        except DfkdError as error:
            console.error(str(error))
            sys.exit(2)
        return
    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra prints errors by itself, at length, unless told to let them through.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    OmegaConf.register_new_resolver("dfkd_run", _run_name, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("dfkd_first", lambda *names: at_home(next(filter(None, names), "")), replace=True)
    composition.shorten()
    callback.failures.clear()
    callback.begun.clear()
    stop_without_parent()
    keep_freed_memory()
    if not ranks_of_process().first:
        console.be_quiet()
    whole = False
    try:
        check_arguments(sys.argv[1:])
        _hydra_main()
        whole = not callback.failures
    except (DfkdError, *CONFIG_ERRORS) as error:
        check()
        callback.forget_refused()
        console.error(explain(error))
        sys.exit(2)
    except Exception as error:
        check()
        if callback.begun and os.path.isdir(
            callback.begun[0].hydra.sweep.dir
        ):  # Path's own raises for a name that is too long
            callback.end_without_launcher(error)
        elif isinstance(error, OSError) and error.filename:  # Hydra makes the run's folder
            console.error(
                f"outputs: {error.strerror}: {error.filename}; name a folder that can be written: outputs=FOLDER"
            )
            sys.exit(1)
        elif show_traceback:
            raise
        else:  # there is no folder yet for a traceback
            console.error(f"{explain(error)} ({type(error).__name__}; HYDRA_FULL_ERROR=1 shows the traceback)")
            sys.exit(1)
    finally:
        leave(whole)
    if callback.failures:
        end(2 if all(isinstance(error, ConfigError) for error in callback.failures) else 1)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _hydra_main(settings: DictConfig) -> None:
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    try:
        check()
        callback.refuse_launcher(hydra_config)
        if callback.is_sent_elsewhere(hydra_config):
            callback.run_as_process(hydra_config, folder)
            return
        _job(settings, folder, list(hydra_config.overrides.task))
    except Pruned as pruned:
        if ranks_of_process().first:
            (folder / PRUNED).write_text(f"{pruned}\n", "utf-8")
        console.note(f"ended early: {pruned}")
    except Exception as error:  # not let through: Hydra would print it too, and end a sweep whose other jobs can go on
        check()
        said_before = [_in_one_line(earlier, folder) for earlier in callback.failures]
        callback.failures.append(error)
        begun = (folder / LOG).exists() or hydra_config.mode is RunMode.MULTIRUN
        if begun or not isinstance(error, DfkdError | OSError):
            leave_traceback(folder)
        message = _in_one_line(error, folder)
        if LAUNCHED in os.environ:
            report_failure(message)  # the process that started this one says it
            return
        with console.log_to(folder / LOG) if (folder / LOG).exists() else nullcontext():
            if message in said_before:
                console.note("failed as a job before it did")
            else:
                console.error(message)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # Hydra makes it before the config is checked


def _job(settings: DictConfig, folder: Path, said: list[str]) -> None:
    config, choices, overrides, instead = _with_its_row(settings, said)
    require_effect(overrides, config, choices, of_sweep=_is_of_sweep(folder))
    if ranks_of_process().world > 1 and HydraConfig.get().mode is RunMode.MULTIRUN:
        raise ConfigError(
            "several processes were started, and each would run the whole sweep by itself; start the sweep once, without torchrun or "
            "srun, and say trainer=ddp: each of its jobs then starts its own processes"
        )
    if config.trainer.must_launch(min(config.training.batch_size, config.distillation.batch_size)):
        launch(config.trainer.num_devices(), single_run(overrides, HydraConfig.get(), folder))
        return
    ranks = ranks_of_process()
    row = config.rows[0].plain() if config.row else None
    at_it = at_work(folder, overrides, row, words_of(overrides)) if ranks.first else nullcontext()
    with at_it, console.log_to(folder / (LOG if ranks.first else f"log-process{ranks.rank}.txt")):
        console.show(f"[bold]dfkd[/] {escape(' '.join(overrides))}")
        if row is not None:
            console.note(f"row: {'; '.join([row['title'], *said_otherwise(row, overrides)])}")
            if own := beyond_scale(overrides, row["set"]):
                console.note(f"the row's own, and not the scale's: {' '.join(own)}; students learn for unequal times")
        chosen_by_sweep = {} if _is_of_sweep(folder) else HydraConfig.get().sweeper.get("params") or {}
        if unsaid := left_open(chosen_by_sweep, choices):
            console.warn(
                f"nothing was said of what the experiment's own runs have: {' '.join(unsaid)}; this one has none of it"
            )
        if ranks.first:
            (folder / "config.yaml").write_text(OmegaConf.to_yaml({"choices": choices, **config.plain()}), "utf-8")

        from dfkd_exp.pipeline import run
        from dfkd_exp.report.tables import run_table

        result = run(config, folder, overrides, instead)
        if result is not None:
            console.show(run_table(result))
            files = {"result": RESULT, "picture": PICTURE, "likeness": LIKENESS, "nearest": NEAREST}
            made = [
                f"{what:8} {console.short(folder / file)}" for what, file in files.items() if (folder / file).exists()
            ]
            console.show(escape("\n".join(made)))


def _with_its_row(settings: DictConfig, said: list[str]) -> tuple[Config, dict[str, Any], list[str], list[str]]:
    """The config of a run, which keeps of its experiment's rows the one that it is; what was chosen in each group; what it was told, with
    what that row sets; and what of its data, teacher and student stands in the place of those for which the experiment has published
    figures.

    A sweep has put the row's overrides in; for a run of its own, or another sweeper's, the config is composed once more with them.
    """
    rows, experiment = rows_of(settings), experiment_of(HydraConfig.get())
    choices = choices_of(HydraConfig.get())
    overrides = with_row(said, rows, experiment, settings.row)
    try:
        if sorted(overrides) != sorted(said):
            told = [*HydraConfig.get().overrides.hydra, *overrides]
            settings = hydra.compose("config", told, return_hydra_config=True)
            with open_dict(settings):
                choices = choices_of(settings.pop("hydra"))
        config = typed(settings)
    except (ConfigError, *CONFIG_ERRORS) as error:
        raise ConfigError(naming_row(explain(error), overrides, rows, experiment)) from error
    config.rows = [row for row in config.rows if row.name == chosen(overrides)]
    config.name = config.name or choices["data"]
    return config, choices, overrides, _instead(settings, config, overrides, experiment)


def _is_of_sweep(folder: Path) -> bool:
    return HydraConfig.get().mode is RunMode.MULTIRUN or (folder.parent / SWEEP).is_file()


def _instead(settings: DictConfig, config: Config, overrides: list[str], experiment: str | None) -> list[str]:
    """`instead_of_own`, where anything was published."""
    if config.published_teacher is None and all(row.published is None for row in config.rows):
        return []
    of_rows = of_task([text for row in config.rows for text in row.set])
    chosen_alone = [f"experiment={experiment}"] if experiment else []
    own = hydra.compose("config", [*chosen_alone, *of_rows], return_hydra_config=True)
    return instead_of_own(settings, overrides, own, own.hydra.runtime.choices)


def _in_one_line(error: Exception, folder: Path) -> str:
    """What is wrong; for what nobody foresaw, where the traceback is."""
    if isinstance(error, DfkdError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename or folder}; mend that, and the same command continues where it was"
    if "operator torchvision::" in str(error):  # Lightning imports torchvision wherever it is installed
        return f"torchvision was built for another torch ({error}); install its build for this one, or pip uninstall torchvision"
    return f"{type(error).__name__}: {error}; the traceback is in {console.short(folder / ERROR)}"


def _run_name() -> str:
    """Sorts by time, and is unique for runs that start in the same second; the same in all processes of one run."""

    def new() -> str:
        return f"{datetime.now():%Y%m%d-%H%M%S}-{uuid4().hex[:6]}"

    return shared_name(new) or new()
