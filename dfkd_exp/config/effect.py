"""Flags that decide nothing: what a pipeline does not reach, how images are made where the source does not make them so, and a protocol
without its method. `Source.unread` and `Source.reads` say what a source has no use for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from dfkd_exp.config.errors import CONFIG_ERRORS
from dfkd_exp.config.groups import choices, file_of, kinds
from dfkd_exp.config.overrides import is_of, key_of
from dfkd_exp.config.tree import Config
from dfkd_exp.config.typed import part_of
from dfkd_exp.distillation.source import MAKING, Source
from dfkd_exp.errors import ConfigError
from dfkd_exp.metadata.kind import MetadataKind
from dfkd_exp.reconstruction.settings import Reconstruction

OWN = "protocol=own"
ONE_IMAGE = "reconstruction.one_image="

WITHOUT_EFFECT = {
    "from_release": ("metadata", "training"),
    "release": (
        "privacy",
        "shadow_students",
        "likeness",
        "student",
        "reconstruction",
        "parametrisation",
        "terms",
        "optimizer",
        "engine",
        "distillation",
        "source",
    ),
}
"""Per pipeline, the groups that it does not reach."""


def require_effect(overrides: Sequence[str], config: Config, chosen: Mapping[str, str], of_sweep: bool) -> None:
    """Raise ConfigError for one of a run's ``overrides`` that decides nothing, or contradicts another. In a sweep (``of_sweep``) a flag may
    be for other jobs: `effective` has looked at them. ``chosen``: in groups, where nothing is said."""
    for override in overrides:
        if override.startswith("metadata="):
            continue  # none leaves a release's aside; another package's, so that its form can be read
        if is_of(override, WITHOUT_EFFECT.get(config.pipeline, ())):
            raise ConfigError(f"{override} has no effect with pipeline={config.pipeline}; leave it out")
    said = {key_of(text): text for text in overrides}
    other, method = said.get("distillation", ""), said.get("method", "").partition("=")[2]
    if said.get("protocol") == OWN and other not in ("", f"distillation={method}"):
        raise ConfigError(
            f"{other} beside {OWN}, which chooses distillation as the method is called; leave one of them out"
        )
    of_row = [text for row in config.rows for text in row.set]
    kind = None if config.release else config.metadata
    for override, why in without_effect(overrides, config.source, config.reconstruction, kind, chosen).items():
        if not of_sweep and override not in of_row:
            raise ConfigError(why)


def without_effect(
    overrides: Sequence[str],
    source: Source,
    making: Reconstruction,
    kind: MetadataKind | None,
    chosen: Mapping[str, str],
) -> dict[str, str]:
    """Those of a run's ``overrides`` that decide nothing of the student, each with what to say of it. ``kind``: of the metadata, None for a
    release's."""
    said = {**chosen, **{key_of(text): text.partition("=")[2] for text in overrides}}
    found = {text: _unread(text, source) for text in overrides if _is_unread(text, source, making)}
    if kind is not None and not kind.records_pairs:
        for text in overrides:
            if _plain(text).startswith(ONE_IMAGE) and text not in found:
                found[text] = (
                    f"{ONE_IMAGE}… has no effect without records of pairs of layers (metadata=spectral_layer_pairs); leave it out"
                )
    if OWN in overrides and "distillation" not in (key_of(text) for text in overrides) and said["method"] == "default":
        found[OWN] = (
            f"{OWN} is how a method's own students are trained, and has no effect without one; choose it: method=NAME"
        )
    return found


def beyond_scale(overrides: Sequence[str], of_row: Sequence[str]) -> list[str]:
    """What of ``of_row`` was said in the place of the scale's own values, so that the budget is not that of the scale."""
    scale = {key_of(text): text.partition("=")[2] for text in overrides}.get("scale", "")
    if scale not in choices("scale"):
        return []
    budget = {
        f"{group}.{name}": str(value)
        for group, values in file_of("scale", scale).items()
        for name, value in values.items()
    }
    return [
        text
        for text in of_row
        if text in overrides and budget.get(key_of(text), said := text.partition("=")[2]) != said
    ]


def effective(
    jobs: Sequence[Sequence[str]], said: Collection[str], of_rows: Collection[str], compose: Callable[[list[str]], Any]
) -> list[list[str]]:
    """A sweep's ``jobs`` without the flags that decide nothing in them.

    ConfigError for a flag that was ``said``, and not by an experiment, if no job has a use for it. ``of_rows``: overrides that are
    rows', which stay. ``compose(job)``: its config; one that is wrong is left as it is, for whoever runs it to say so."""
    idle: dict[str, str] = {}
    used: set[str] = set()
    kept: list[list[str]] = []
    for job in jobs:
        found = _found(job, of_rows, compose)
        idle |= {key_of(text): why for text, why in found.items()}
        used |= {key_of(text) for text in job if text not in found}
        kept.append([text for text in job if text not in found])
    for key, why in idle.items():
        if key in said and key not in used:
            raise ConfigError(why)
    return kept


def _found(job: Sequence[str], of_rows: Collection[str], compose: Callable[[list[str]], Any]) -> dict[str, str]:
    own = [text for text in job if text not in of_rows]
    if not any(text == OWN or is_of(_plain(text), MAKING) for text in own):
        return {}
    try:
        config = compose(list(job))
        source, kind = part_of(config, "source"), part_of(config, "metadata")
    except (ConfigError, *CONFIG_ERRORS):
        return {}
    kind = None if config.release else kind
    found = without_effect(job, source, config.reconstruction, kind, config.hydra.runtime.choices)
    return {text: why for text, why in found.items() if text in own}


def _is_unread(override: str, source: Source, making: Reconstruction) -> bool:
    return is_of(_plain(override), source.unread) and not is_of(_plain(override), source.reads(making.balance))


def _unread(override: str, source: Source) -> str:
    flag, kind = _plain(override).partition("=")[0], type(source)
    name = next((name for name, known in kinds("source").items() if known is kind), kind.__name__)
    last = flag.rpartition(".")[2]
    instead = f", or say source.{last}" if last in {field.name for field in fields(source)} else ""
    return f"{flag} has no effect with source={name}; leave it out{instead}"


def _plain(override: str) -> str:
    """``terms.ink=…`` of ``+terms@terms.ink=…``."""
    flag, equals, value = override.lstrip("+~").partition("=")
    return f"{flag.rpartition('@')[2]}{equals}{value}"
