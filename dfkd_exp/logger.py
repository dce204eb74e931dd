"""Where the curves and figures of a run go: files, TensorBoard, or Weights & Biases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dfkd_exp import console
from dfkd_exp.errors import DfkdError
from dfkd_exp.run_folder import SWEEP
from dfkd_exp.settings import Settings


@dataclass
class LoggerSettings(Settings):
    """Where the curves of the training go."""

    flag: ClassVar[str] = "logger"

    def start(self, folder: Path, config: dict[str, Any], tags: Sequence[str] = ()) -> None:
        """Called once at the start of a run: its folder, its config as plain values, and what to find it by."""
        self._folder = folder

    def for_phase(self, phase: str) -> Any:
        """A Lightning logger for one phase of the run, or False."""
        return False

    def finish(self, figures: dict[str, Any], picture: Path | None = None, failed: bool = False) -> None:
        """Called once at the end of a run, whatever happened; ``figures`` are those of its result, if it has one."""


@dataclass
class NoLogger(LoggerSettings):
    """No curves."""


@dataclass
class CsvLogger(LoggerSettings):
    """``logs/PHASE/metrics.csv`` in the run's folder."""

    def for_phase(self, phase: str) -> Any:
        from pytorch_lightning.loggers import CSVLogger

        return CSVLogger(self._folder, name="logs", version=phase)


@dataclass
class TensorBoard(LoggerSettings):
    """TensorBoard files under ``logs/`` in the run's folder (extra: ``tensorboard``)."""

    def start(self, folder: Path, config: dict[str, Any], tags: Sequence[str] = ()) -> None:
        super().start(folder, config, tags)
        from importlib.util import find_spec

        if not (find_spec("tensorboard") or find_spec("tensorboardX")):
            raise DfkdError("logger=tensorboard needs TensorBoard: pip install 'dfkd_exp[tensorboard]'")

    def for_phase(self, phase: str) -> Any:
        from pytorch_lightning.loggers import TensorBoardLogger

        return TensorBoardLogger(self._folder, name="logs", version=phase)

    def finish(self, figures: dict[str, Any], picture: Path | None = None, failed: bool = False) -> None:
        """The run's settings and figures as TensorBoard's hyper-parameters, side by side for a sweep; and the picture."""
        if not figures:
            return
        from torch.utils.tensorboard import SummaryWriter

        settings = dict(override.lstrip("+").split("=", 1) for override in figures["overrides"] if "=" in override)
        numbers = {name: value for name, value in figures.items() if isinstance(value, int | float)}
        with SummaryWriter(str(self._folder / "logs" / "result")) as writer:
            writer.add_hparams(settings, {f"result/{name}": value for name, value in numbers.items()}, run_name=".")
            if picture is not None:
                import numpy as np
                from PIL import Image

                writer.add_image("reconstructions", np.asarray(Image.open(picture).convert("RGB")), dataformats="HWC")


@dataclass
class Wandb(LoggerSettings):
    """Weights & Biases; offline unless told otherwise, so that no account is needed."""

    project: str = "dfkd_exp"
    """Project on W&B."""
    offline: bool = True
    """Keep the run on this machine; ``wandb sync`` sends it later."""
    group: str | None = None
    """Name under which W&B groups runs; empty: that of the sweep's folder."""

    def start(self, folder: Path, config: dict[str, Any], tags: Sequence[str] = ()) -> None:
        import wandb

        try:
            self._run = wandb.init(
                project=self.project,
                group=self.group or (folder.parent.name if (folder.parent / SWEEP).is_file() else None),
                job_type=config["pipeline"],
                tags=[tag[:64] for tag in tags],  # W&B takes no longer ones
                name=f"{folder.parent.name}/{folder.name}",
                mode="offline" if self.offline else "online",
                dir=folder,
                config=config,
                settings=wandb.Settings(silent=True),
            )
        except wandb.Error as error:
            raise DfkdError(
                f"logger=wandb cannot start ({str(error).splitlines()[0]}); run wandb login, or set logger.offline=true"
            ) from error

    def for_phase(self, phase: str) -> Any:
        from pytorch_lightning.loggers import WandbLogger

        return WandbLogger(experiment=self._run, prefix=phase, log_model=False)

    def finish(self, figures: dict[str, Any], picture: Path | None = None, failed: bool = False) -> None:
        import wandb

        try:
            if figures:
                self._run.summary.update(figures)
            if picture is not None:
                self._run.log({"reconstructions": wandb.Image(str(picture))})
            if self.offline:
                console.note(f"to send this run to W&B: wandb sync {Path(self._run.dir).parent}")
        finally:
            wandb.finish(exit_code=int(failed))
