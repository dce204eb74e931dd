"""What the jobs of a sweep that are left will take: each setting as what it is, and what several of them share once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dfkd_exp import console
from dfkd_exp.config.overrides import is_of, tells_teachers
from dfkd_exp.config.tree import Config
from dfkd_exp.phases.forecast import Forecast

SEED = ("seed",)
MOST_SETTINGS = 40
"""So many settings are looked at, evenly spread; to compose the config of one takes up to a second."""

Overrides = tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """Of a sweep, ``jobs`` that differ in their seed alone: what one of them takes from its beginning. ``metadata`` and ``images``: equal
    for settings that share these. ``alike``: whether it is taken for like the job that asks, for it has other data or another teacher."""

    jobs: int
    forecast: Forecast
    metadata: str = ""
    images: str = ""
    alike: bool = False

    @classmethod
    def of(cls, jobs: int, forecast: Forecast, config: Config, alike: bool = False) -> Setting:
        making = (
            config.metadata,
            config.reconstruction,
            config.parametrisation,
            config.terms,
            config.optimizer,
            config.source,
        )
        return cls(jobs, forecast, repr(config.metadata), repr(making), alike)


def without_seed(job: Sequence[str]) -> Overrides:
    """What a job is told beside its seed."""
    return tuple(text for text in job if not is_of(text, SEED))


def num_teachers(jobs: Sequence[Sequence[str]]) -> int:
    """How many teachers jobs of those overrides have together."""
    told = {tuple(text for text in job if is_of(text, SEED) or tells_teachers(text)) for job in jobs}
    return max(1, len(told))


def settings_left(
    jobs: Sequence[Sequence[str]], look: Callable[[Overrides, int], Setting]
) -> tuple[list[Setting], float]:
    """The settings of ``jobs``, each as ``look(overrides, number of jobs)`` sees it, or an even choice of them, and how many times more
    there are."""
    counted = [*Counter(map(without_seed, jobs)).items()]
    step = -(-len(counted) // MOST_SETTINGS)
    chosen = counted[::step]
    return [look(*each) for each in chosen], len(counted) / len(chosen)


def of_sweep(this: Forecast, settings: Sequence[Setting], teachers: int, times: float = 1.0) -> tuple[float, float]:
    """Seconds, and bytes on the disk, of all jobs of the ``settings`` that are left, the first of which is of the job that asks, of which
    ``this`` is left; ``times`` more settings are like them. A teacher that is there for this job is taken to be there for all seeds."""
    first = settings[0].forecast
    found = []
    for values in ("seconds", "num_bytes"):
        whole, own = getattr(first, values), getattr(this, values)
        shared: dict[tuple[str, object], tuple[int, float]] = {}
        for number, setting in enumerate(settings):
            keys = {"metadata": setting.metadata, "images": setting.images}
            for phase, value in getattr(setting.forecast, values).items():
                if phase != "teacher":
                    key = phase, keys.get(phase) or number
                    jobs, most = shared.get(key, (0, 0.0))
                    shared[key] = max(jobs, setting.jobs), max(most, value)
        rest = sum(jobs * value for jobs, value in shared.values()) * times
        done = sum(whole.values()) - whole.get("teacher", 0) - (sum(own.values()) - own.get("teacher", 0))
        found.append(rest - done + (teachers * whole["teacher"] if "teacher" in own else 0))
    return found[0], found[1]


def in_words(seconds: float, num_bytes: float, jobs: int, alike: int) -> str:
    """What ``jobs`` of a sweep take, of which so many are taken for ``alike``."""
    but = f" ({alike:,} of them, of other data or another teacher, taken for like this one)" if alike else ""
    return (
        f"The sweep's {jobs:,} jobs that are left{but}: about {console.duration(seconds)} one after another, and "
        f"{console.size(round(num_bytes))} of disk"
    )
