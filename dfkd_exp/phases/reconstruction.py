"""Right of the wall: images from the release and nothing else, a file per batch of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkd_exp import console
from dfkd_exp.damage import move_aside
from dfkd_exp.files import WORK, write_atomically
from dfkd_exp.inputs import noun
from dfkd_exp.phases.context import RunContext
from dfkd_exp.reconstruction.engine.settings import Engine, ResolvedEngine
from dfkd_exp.reconstruction.optimizers import Optimizer
from dfkd_exp.reconstruction.parametrisation.base import Parametrisation
from dfkd_exp.reconstruction.settings import Reconstruction
from dfkd_exp.reconstruction.terms.term import Term
from dfkd_exp.release.folder import Release
from dfkd_exp.store import Artifact

if TYPE_CHECKING:
    from torch import nn

    from dfkd_exp.metadata.metadata import ResolvedMetadata
    from dfkd_exp.reconstruction.objective import Objective

KEPT = "resolved.safetensors"


@dataclass(frozen=True)
class Asked:
    """How images are to be made of a release: everything that decides which, and ``engine``, which decides how fast."""

    settings: Reconstruction
    parametrisation: Parametrisation
    terms: Sequence[Term]
    optimizer: Optimizer
    engine: Engine
    seed: int

    def identity(self) -> dict[str, Any]:
        """What the images' key is made of. A precision that is left open is chosen once for all work with a kind of teacher."""
        return {
            "reconstruction": self.settings.identity(), "parametrisation": self.parametrisation.identity(),
            "terms": [term.identity() for term in self.terms], "optimizer": self.optimizer.identity(),
            "engine": self.engine.identity(), "seed": self.seed,
        }  # fmt: skip

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.settings.steps:,} steps, match: {self.settings.match}"


def signals_of(context: RunContext, release: Release) -> Artifact | None:
    """What needs the basis of the metadata's graph, which may take minutes, and is kept; None where there is no graph. A run that has its
    images already asks for it too, so that it says what they took."""
    if not release.has_graph:
        return None

    def make(folder: Path) -> dict[str, Any]:
        from safetensors.torch import save

        write_atomically(folder / KEPT, save(release.metadata().resolved(release.teacher()).kept()))
        return {}

    title = "signals: the statistics as activations, through the graph's basis"
    return context.phase("signals", title, release.identity, make)


def resolved(release: Release, teacher: nn.Module, signals: Artifact | None) -> ResolvedMetadata:
    """The release's metadata in values of the layers."""
    from safetensors.torch import load_file

    kept = load_file(signals.file(KEPT)) if signals else None
    return release.metadata().resolved(teacher, kept)


def objective_of(context: RunContext, release: Release, asked: Asked) -> Objective:
    """What images of the release are to fulfil: for those that are made while a student learns."""
    from dfkd_exp.models.recording import frozen
    from dfkd_exp.reconstruction.engine.choose import describe_computation, engine_in_the_loop
    from dfkd_exp.reconstruction.objective import Objective
    from dfkd_exp.reconstruction.problem import Problem

    teacher = release.teacher()
    metadata = resolved(release, teacher, signals_of(context, release))
    teacher = frozen(teacher).to(context.device)
    problem = Problem(teacher, metadata, asked.settings, asked.parametrisation, asked.terms)
    engine = engine_in_the_loop(asked.engine, problem, context.engines)
    console.note(f"images in {describe_computation(engine)}")
    return Objective(problem, engine)


def make_reconstruction(context: RunContext, release: Release, asked: Asked) -> Artifact:
    """Reconstruct images from the release; one safetensors file per batch of groups. Continues from the files there are."""
    settings, ranks = asked.settings, context.ranks
    signals = signals_of(context, release)

    def make(folder: Path) -> dict[str, Any]:
        from torch.utils.data import DataLoader

        from dfkd_exp.reconstruction.engine.choose import describe, resolve_engine
        from dfkd_exp.reconstruction.module import ReconstructionModule, ShardWriter
        from dfkd_exp.reconstruction.problem import Problem
        from dfkd_exp.reconstruction.shards import is_sound, read_losses, shard_name

        teacher = release.teacher()
        metadata = resolved(release, teacher, signals)
        # Every process has some groups.
        at_once = (
            1 if asked.optimizer.couples_images else -(-settings.groups_per_class * metadata.num_classes // ranks.world)
        )
        teacher = teacher.to(context.device)
        problem = Problem(teacher, metadata, settings, asked.parametrisation, asked.terms, at_once)
        # One of several processes measures, and the others, who wait, do not disturb it.
        cache = context.engines
        chosen = ranks.agreed(lambda: vars(resolve_engine(asked.engine, problem, cache)))
        engine = ResolvedEngine(**chosen)
        console.note(describe(engine))
        num_groups = problem.num_groups
        batches = problem.batches(engine.images_per_batch)
        expected = {shard_name(groups): groups for groups in batches}

        def tidied() -> list[list[int]]:
            for path in list(folder.iterdir()):
                if path.name not in expected and path.is_file():
                    path.unlink()  # of another division into batches
                elif path.name in expected and not is_sound(path):
                    move_aside(path, f"{path} is not as it was written", into=folder / WORK)
            return [groups for name, groups in expected.items() if not (folder / name).exists()]

        left = ranks.agreed(tidied)
        mine = ranks.share(left)
        steps_per_group = settings.group_size * settings.steps
        done = (num_groups - sum(map(len, left))) // ranks.world * steps_per_group
        with console.Progress("image-steps", done + sum(map(len, mine)) * steps_per_group) as progress:
            progress.skip(done)
            module = ReconstructionModule(problem, asked.optimizer, engine, asked.seed, progress)
            # The trainer's precision is for training; the images' is not its business.
            runner = replace(context.trainer, precision="32-true").build(callbacks=[ShardWriter(folder)])
            if left:
                batches_left: Any = DataLoader(mine, batch_size=None, collate_fn=list)  # type: ignore[arg-type]
                runner.predict(module, batches_left, return_predictions=False)
        ranks.barrier()
        all_losses, steps, evaluations = read_losses(folder)
        losses = all_losses.mean(1).tolist()
        if logger := context.logger.for_phase("reconstruction"):
            for index, loss in enumerate(losses):
                logger.log_metrics({"loss": loss}, step=min(index * max(1, settings.steps // 10), settings.steps))
            logger.save()
            logger.finalize("success")
        images = settings.images_per_class * metadata.num_classes
        return {
            "images": images, "losses": losses, "steps": steps.double().mean().item(), "precision": engine.precision,
            "evaluations": evaluations.double().mean().item(),
        }  # fmt: skip

    count = settings.images_per_class * len(release.classes)
    title = f"reconstruction: {count:,} {noun(release.inputs.shape)}, {asked.title}"
    identity = {**release.identity, **asked.identity()}
    return context.phase("reconstruction", title, identity, make, by="all")
