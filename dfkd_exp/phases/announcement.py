"""How long a run and the sweep that it is of will take, and how much disk: said before its first phase."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dfkd_exp import console
from dfkd_exp.config.composition import config_of_job
from dfkd_exp.errors import DfkdError
from dfkd_exp.files import write_atomically
from dfkd_exp.harmless import in_brief
from dfkd_exp.phases.forecast import Forecast, forecast
from dfkd_exp.phases.sweep_forecast import (
    Overrides,
    Setting,
    in_words,
    num_teachers,
    of_sweep,
    settings_left,
    without_seed,
)
from dfkd_exp.run_folder import FORECAST, jobs_left

if TYPE_CHECKING:
    from torch import nn

    from dfkd_exp.config.tree import Config
    from dfkd_exp.data.base import Outline
    from dfkd_exp.models.layers import Layer
    from dfkd_exp.reconstruction.pace import Pace

WORTH_SAYING = 120.0
"""Seconds of a run, and of the sweep that it is of, below which nothing is said."""


@dataclass
class Announcement:
    """Of a run that was told these ``overrides``, one of the ``sweep`` in a folder, if it is; the phases ``done`` are in the store.

    ``teacher`` and ``student``: as they will be but for their weights; no student where the run ends with the release. ``outline``: of the
    owner's data, if there is some. ``published``: the layers of a release's metadata, where the run begins with one.
    """

    config: Config
    pace: Pace
    teacher: nn.Module
    student: nn.Module | None
    done: Collection[str]
    outline: Outline | None
    published: Sequence[Layer] | None
    overrides: Sequence[str] = ()
    sweep: Path | None = None

    def __call__(self) -> None:
        """Say it, if it is minutes; of the sweep once, to the first job that asks."""
        try:
            this = self._forecast(self.config, self.student, self.done, self.published)
            said, seconds = this.text(), this.total
            if of_jobs := self._of_sweep(this):
                words, seconds = of_jobs
                said = f"{said}. {words}"
                if self.sweep is not None and seconds > WORTH_SAYING:
                    write_atomically(self.sweep / FORECAST, f"{said}\n".encode())
        except Exception as error:  # of a step that is taken for this alone: the run itself may well go on
            console.note(f"how long it will take could not be found out ({in_brief(error)})")
            return
        if seconds > WORTH_SAYING:
            console.note(said)

    def _of_sweep(self, this: Forecast) -> tuple[str, float] | None:
        """What the jobs of the sweep that are left will take, in words, and the seconds; None where there is nothing to say of them."""
        jobs = self._jobs_to_tell_of()
        if len(jobs) < 2 or (len(jobs) * self._whole.total <= WORTH_SAYING and self.config.source.reconstructs):
            return None
        settings, times = settings_left(jobs, self._look)
        seconds, num_bytes = of_sweep(this, settings, num_teachers(jobs), times)
        unlike = round(times * sum(setting.jobs for setting in settings if setting.alike))
        return in_words(seconds, num_bytes, len(jobs), unlike), seconds

    def _jobs_to_tell_of(self) -> list[list[str]]:
        """The overrides of the sweep's jobs that are left, those of this one's setting first; none once it has been said what they take."""
        if self.sweep is None or (self.sweep / FORECAST).exists():
            return []
        own = sorted(without_seed(self.overrides))
        return sorted(jobs_left(self.sweep), key=lambda job: sorted(without_seed(job)) != own)

    def _forecast(
        self, config: Config, student: nn.Module | None, done: Collection[str], published: Sequence[Layer] | None
    ) -> Forecast:
        """Of a run with this one's teacher."""
        from dfkd_exp.models.recording import device_of

        example = self.pace.inputs.example().to(device_of(self.teacher))
        layers = published or config.metadata.recorded(self.teacher, example)
        return forecast(config, self.pace, done, self.teacher, student, layers, self.outline)

    @cached_property
    def _whole(self) -> Forecast:
        """Of this run from its beginning."""
        return self._forecast(self.config, self.student, (), self.published)

    def _look(self, job: Overrides, count: int) -> Setting:
        """At ``count`` jobs of other settings with this one's teacher; what is wrong, or has another, is taken for like this one."""
        mine = self.config
        if sorted(job) == sorted(without_seed(self.overrides)):
            return Setting.of(count, self._whole, mine)
        try:
            other = config_of_job(job)
            if (other.data, other.teacher, other.pipeline) != (mine.data, mine.teacher, mine.pipeline):
                return Setting.of(count, self._whole, mine, alike=True)
            other = replace(other, metadata=other.metadata.suited_to(self.teacher, self.pace.inputs))
            published = self.published if mine.pipeline == "from_release" else None
            return Setting.of(count, self._forecast(other, self._student_of(other), (), published), other)
        except DfkdError:
            return Setting.of(count, self._whole, mine, alike=True)

    def _student_of(self, other: Config) -> nn.Module | None:
        if self.student is None or other.student == self.config.student:
            return self.student
        return other.student.build(self.pace.inputs, self.pace.num_classes, self.config.seed)
