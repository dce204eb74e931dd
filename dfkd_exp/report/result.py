"""One run's figures, as result.json has them. Tables are made from these files and from nothing else."""

from __future__ import annotations

import itertools
import platform
import statistics
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkd_exp.config.words import words_of
from dfkd_exp.release.folder import Release
from dfkd_exp.store import Artifact
from dfkd_exp.training.transfer_set import TransferSet

if TYPE_CHECKING:
    from dfkd_exp.config.tree import Config

SCHEMA_VERSION = 1
LIBRARIES = ("torch", "pytorch-lightning", "hydra-core", "omegaconf", "safetensors", "numpy")


def build_result(
    config: Config,
    overrides: list[str],
    instead: Sequence[str],
    release: Release,
    transfer_set: TransferSet,
    artifacts: dict[str, Artifact],
) -> dict[str, Any]:
    """The figures of a run whose phases made or found ``artifacts``. Accuracies and agreements are in [0, 1], or null.

    ``instead``: what of its data, teacher and student stands in the place of its experiment's own."""
    evaluation, student = artifacts["evaluation"].info, artifacts["student"].info
    curve = _curve(artifacts)
    reconstruction = artifacts.get("reconstruction")
    parameters = release.config["num_parameters"]
    return {
        "schema_version": SCHEMA_VERSION,
        "name": config.name,
        "overrides": overrides,
        "row": config.rows[0].plain() if config.row else None,
        "instead": list(instead),
        "words": words_of(overrides),
        "seed": config.seed,
        "config_hash": config.hash(),
        "teacher": release.config["architecture"]["name"],
        "student": config.student.title,
        "metadata": release.metadata_kind,
        "source": type(config.source).__name__,
        "source_words": config.source.shown(),
        "match": type(config.reconstruction).__name__.lower() if reconstruction else None,
        "accuracy": evaluation["accuracy"],
        "accuracy_last_tenth": _last_tenth(curve, config.distillation.epochs),
        "accuracy_best_epoch": max((point["accuracy"] for point in curve), default=None),
        "curve": curve or None,
        "agreement": evaluation["agreement"],
        "agreement_held_out": student["agreement_held_out"],
        "agreement_mixed": student["agreement_mixed"],
        "agreement_mixed_by_class": student.get("agreement_mixed_by_class"),
        "agreement_training": evaluation["agreement_training"],
        "teacher_accuracy": evaluation["teacher_accuracy"],
        "teacher_accuracy_by_owner": release.teacher_accuracy,
        "published_teacher": config.published_teacher,
        "data_limit": config.data.limit,
        "test_images": evaluation["test_images"],
        "privacy": _privacy(artifacts),
        "likeness": artifacts["likeness"].info["likeness"] if "likeness" in artifacts else None,
        "teacher_parameters": parameters,
        "student_parameters": student["num_parameters"],
        "compression": parameters / student["num_parameters"],
        "metadata_bytes": release.metadata_bytes,
        "source_bytes": transfer_set.num_bytes,
        "images": student["images"],
        "image_steps": student["image_steps"],
        "student_image_steps": student["images_per_epoch"] * config.distillation.epochs,
        "steps": reconstruction.info["steps"] if reconstruction else None,
        "reconstruction_loss": reconstruction.info["losses"][-1] if reconstruction else None,
        "seconds": sum(map(_seconds, artifacts.values())),
        "peak_memory_bytes": max(
            artifact.info["peak_memory_bytes"] for name, artifact in artifacts.items() if name != "teacher"
        ),
        "phases": {
            name: {
                "seconds": _seconds(artifact),
                "peak_memory_bytes": artifact.info["peak_memory_bytes"],
                "device": artifact.info["device"],
                "reused": artifact.reused,
                "resumed": artifact.manifest["resumed"],
                "artifact": artifact.key,
            }
            for name, artifact in artifacts.items()
        },
        "device": artifacts["student"].info["device"],
        "machine": artifacts["student"].info["machine"],
        "code_version": code_version(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _seconds(artifact: Artifact) -> float:
    """Of a phase, with what was made beside the run for it."""
    return artifact.seconds + artifact.info.get("seconds_of_shadows", 0.0)


def _curve(artifacts: dict[str, Artifact]) -> list[dict[str, Any]]:
    """The student's accuracy over its training, the seconds of all that came before it but the teacher among its own; empty without
    snapshots or a test set."""
    until = itertools.takewhile(lambda name: name != "student", artifacts)
    before = sum(artifacts[name].seconds for name in until if name != "teacher")
    # None where a store has an older evaluation of the same weights.
    measured = artifacts["evaluation"].info.get("snapshots") or []
    kept = artifacts["student"].info["snapshots"] if measured else []
    return [
        {**snapshot, "seconds": before + snapshot["seconds"], "accuracy": accuracy}
        for snapshot, accuracy in zip(kept, measured, strict=True)
    ]


def _last_tenth(curve: list[dict[str, Any]], epochs: int) -> float | None:
    """Mean accuracy of the snapshots of the last tenth of the epochs."""
    late = [point["accuracy"] for point in curve if 10 * point["epoch"] > 9 * epochs]
    return statistics.fmean(late) if late else None


def _privacy(artifacts: dict[str, Artifact]) -> dict[str, Any] | None:
    if "privacy" not in artifacts:
        return None
    found = {name: artifacts["privacy"].info[name] for name in ("attacks", "nearest")}
    if "shadows" in artifacts:
        found["attacks"] = {**found["attacks"], **artifacts["shadows"].info["attacks"]}
    return found


def code_version() -> str:
    """The package's version, and in a clone the commit, with ``+changes`` if files differ from it."""
    try:
        number = version("dfkd_exp")
    except PackageNotFoundError:
        number = "unknown"
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return number
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+changes", "--exclude=*"],
            cwd=root, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return number
    return f"{number} ({described.stdout.strip()})"
