"""A search for hyper-parameters: an Optuna study in a file, which several workers on several machines may fill at once.

A trial is asked for, run by Hydra's launcher as any job of a sweep, and told. A worker that is killed leaves a trial that is
running and has nobody at it; the next worker takes it over.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkd_exp import console
from dfkd_exp.config.overrides import is_of
from dfkd_exp.errors import ConfigError
from dfkd_exp.files import read_json
from dfkd_exp.locks import FileLock, Timeout, lock
from dfkd_exp.run_folder import OBJECTIVES, PRUNED, RESULT, note_study, read_text
from dfkd_exp.seeding import derive_seed
from dfkd_exp.sweeps.journal import mend
from dfkd_exp.sweeps.trial import TRIAL, optuna_module, storage, without_warnings

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

OF_A_WORKER = ("outputs", "trainer", "logger", "name")
"""What each worker may have otherwise: where and how it computes."""
SAMPLERS = ("tpe", "random")


@dataclass
class Search:
    """``trials`` of ``space`` (flag: distribution), in all workers together, for the best ``objective``; the study is the file ``path``."""

    path: Path
    space: dict[str, BaseDistribution]
    fixed: list[str]
    objective: str = "agreement_mixed"
    trials: int = 20
    sampler: str = "tpe"
    seed: int = 0
    prune: bool = False

    def __post_init__(self) -> None:
        if self.prune and self.objective != "agreement_mixed":
            raise ConfigError(
                "hydra.sweeper.prune=true needs hydra.sweeper.objective=agreement_mixed, which is known while a student is trained"
            )
        if self.objective not in OBJECTIVES:
            raise ConfigError(f"hydra.sweeper.objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}")
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"hydra.sweeper.sampler must be one of {', '.join(SAMPLERS)}, got {self.sampler!r}")
        if self.trials < 1:
            raise ConfigError(f"hydra.sweeper.trials must be at least 1, got {self.trials}")
        if not self.space:
            raise ConfigError(
                "nothing is searched; give a flag choices or an interval: 'distillation.optimizer.lr=tag(log,interval(0.0005,0.02))'"
            )

    def run(self, launch: Callable[[list[list[str]]], list[Path]], at_once: int) -> None:
        """Run trials, ``at_once`` at a time, until there are enough. ``launch(overrides)``: run jobs; the folders that they wrote to."""
        study = self._study()
        study.sampler = self._sampler(study)
        while True:
            with ExitStack() as stack:
                with self._alone():  # so that workers together ask for no more than there are to be
                    trials = list(self._next(study, at_once, stack))
                if not trials:
                    return
                folders = launch([[*self.fixed, *_overrides(trial.params), *self._told(trial)] for trial in trials])
                for trial, folder in zip(trials, folders, strict=True):
                    self._tell(study, trial, folder)

    def _alone(self) -> FileLock:
        """Held by the one worker that looks at the study and changes it."""
        return lock(self.path.with_suffix(".lock"))

    def _sampler(self, study: optuna.Study) -> optuna.samplers.BaseSampler:
        """Of this worker: each draws other trials than those before and beside it."""
        optuna = optuna_module()
        with self._alone(), without_warnings():
            number = study.user_attrs.get("workers", 0)
            study.set_user_attr("workers", number + 1)
            seed = derive_seed(self.seed, "worker", number) % 2**32
            if self.sampler == "random":
                return optuna.samplers.RandomSampler(seed=seed)
            return optuna.samplers.TPESampler(
                seed=seed, constant_liar=True
            )  # which does not try what others are trying

    def _study(self) -> optuna.Study:
        optuna = optuna_module()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._held.mkdir(exist_ok=True)
        with self._alone(), without_warnings():
            mend(self.path)
            study = optuna.create_study(
                storage=storage(self.path), study_name=self.path.stem,
                direction=OBJECTIVES[self.objective], load_if_exists=True,
            )  # fmt: skip
            space = {name: str(distribution) for name, distribution in self.space.items()}
            fixed = sorted(text for text in self.fixed if not is_of(text, OF_A_WORKER))
            about = {"objective": self.objective, "space": space, "fixed": fixed}
            before = study.user_attrs.get("about")
            if before is None:
                study.set_user_attr("about", about)
            elif before != about:
                raise ConfigError(
                    f"{self.path} holds a study of something else ({_difference(before, about)}); give this one a name of its own: "
                    "hydra.sweeper.study=NAME"
                )
        return study

    @property
    def _held(self) -> Path:
        return self.path.with_suffix(".trials")

    def _next(self, study: optuna.Study, at_once: int, stack: ExitStack) -> Iterator[optuna.Trial]:
        """Trials for this worker, held until the stack is left: first those that a dead worker has left, then new ones."""
        import optuna

        found = 0
        known = study.get_trials(deepcopy=False)
        for frozen in known:
            if found < at_once and frozen.state is optuna.trial.TrialState.RUNNING:
                try:
                    stack.enter_context(lock(self._held / f"{frozen.number}.lock", timeout=0))
                except Timeout:
                    continue
                if study.get_trials(deepcopy=False)[frozen.number].state is not frozen.state:
                    continue  # its worker has just told the study
                if frozen.params.keys() != self.space.keys():  # killed while it was being asked for
                    study.tell(frozen.number, state=optuna.trial.TrialState.FAIL)
                    continue
                console.note(f"trial {frozen.number}: its worker is gone; taken over")
                found += 1
                yield optuna.Trial(study, frozen._trial_id)
        for _ in range(min(at_once - found, self.trials - len(known))):
            trial = study.ask(self.space)
            stack.enter_context(lock(self._held / f"{trial.number}.lock"))
            yield trial

    def _told(self, trial: optuna.Trial) -> list[str]:
        """What a job must know to report on its way."""
        if not self.prune:
            return []
        return [f"+hydra.job.env_set.{TRIAL}='{self.path.absolute()}:{trial.number}'"]

    def _tell(self, study: optuna.Study, trial: optuna.Trial, folder: Path) -> None:
        """A figure that is missing, or no number, is a failed trial, and the search goes on."""
        import optuna

        place = os.path.relpath(
            folder.absolute(), self.path.absolute().parent
        )  # outputs may be moved, or seen from elsewhere
        trial.set_user_attr("folder", place)
        if (folder / PRUNED).is_file():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            console.note(f"trial {trial.number} ended early: {read_text(folder / PRUNED).strip()}")
            return
        try:
            value = read_json(folder / RESULT)[self.objective]
        except (OSError, ValueError, KeyError, TypeError):
            value, why = None, "the job left no result"
        else:
            why = f"{self.objective} is {value}"
        if value is None or not math.isfinite(value):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            console.note(f"trial {trial.number} failed: {why} ({folder})")
            return
        study.tell(trial, value)
        console.note(
            f"trial {trial.number}: {self.objective} {value:.4g}; best {study.best_value:.4g} of trial {study.best_trial.number}"
        )

    def note(self, folder: Path) -> None:
        """Leave in a sweep's ``folder`` what its report needs of the study."""
        import optuna

        finished = self._study().get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        note_study(folder, self.objective, [self.path.parent / trial.user_attrs["folder"] for trial in finished])

    def summary(self) -> str:
        """How many trials there are, and the best as a command's arguments."""
        from collections import Counter

        study = self._study()
        trials = study.get_trials(deepcopy=False)
        counts = Counter(trial.state.name.lower() for trial in trials)
        states = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
        lines = [f"study    {self.path}: {len(trials)} of {self.trials} trials ({states})"]
        if counts["complete"]:
            best = study.best_trial
            lines.append(
                f"best     trial {best.number}: {self.objective} {best.value:.4g}: {' '.join(_overrides(best.params))}"
            )
        return "\n".join(lines)


def _overrides(params: dict[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in params.items()]


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    names = [name for name in now if before.get(name) != now[name]]
    return "; ".join(f"{name}: {before.get(name)} and not {now[name]}" for name in names)


def space_and_fixed(overrides: Sequence[Any]) -> tuple[dict[str, BaseDistribution], list[str]]:
    """From Hydra's parsed overrides: what is searched, by flag, and what is the same for all trials.

    ``a,b`` and ``choice(…)``: one of these; ``range(1,10)``; ``interval(0.1,1)``, with whole numbers as ends ``int(interval(1,10))``;
    ``tag(log,interval(…))``: on a logarithmic scale.
    """
    optuna_module()
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space: dict[str, BaseDistribution] = {}
    fixed: list[str] = []
    for override in overrides:
        name = override.input_line.partition("=")[0]  # with a plus, if there is one
        if not override.is_sweep_override():
            fixed.append(override.input_line)
            continue
        sweep = override.value()
        if override.is_interval_sweep():
            log = "log" in sweep.tags
            ends = sweep.start, sweep.end
            whole = all(isinstance(end, int) for end in ends)
            try:
                space[name] = IntDistribution(*ends, log=log) if whole else FloatDistribution(*ends, log=log)
            except ValueError as error:
                raise ConfigError(
                    f"{override.input_line}: an interval goes from the smaller number to the larger, and with tag(log,…) from one above 0"
                ) from error
        else:
            space[name] = CategoricalDistribution(list(override.sweep_string_iterator()))
    return space, fixed
