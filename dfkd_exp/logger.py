"""Where the curves and figures of a run go: files, TensorBoard, or Weights & Biases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dfkd_exp import console
from dfkd_exp.errors import DfkdError
from dfkd_exp.settings import Settings


@dataclass
class LoggerSettings(Settings):
    """Where the curves of the training go."""

    flag: ClassVar[str] = "logger"

    def start(self, folder: Path, config: dict[str, Any]) -> None:
        """Called once at the start of a run: its folder, and its config as plain values."""
        self._folder = folder

    def for_phase(self, phase: str) -> Any:
        """A Lightning logger for one phase of the run, or False."""
        return False

    def finish(self, figures: dict[str, Any], picture: Path | None = None) -> None:
        """Called once at the end of a run, whatever happened; ``figures`` are empty if it failed."""


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

    def start(self, folder: Path, config: dict[str, Any]) -> None:
        super().start(folder, config)
        from importlib.util import find_spec

        if not (find_spec("tensorboard") or find_spec("tensorboardX")):
            raise DfkdError("logger=tensorboard needs TensorBoard: pip install 'dfkd_exp[tensorboard]'")

    def for_phase(self, phase: str) -> Any:
        from pytorch_lightning.loggers import TensorBoardLogger

        return TensorBoardLogger(self._folder, name="logs", version=phase)


@dataclass
class Wandb(LoggerSettings):
    """Weights & Biases; offline unless told otherwise, so that no account is needed."""

    project: str = "dfkd_exp"
    """Project on W&B."""
    offline: bool = True
    """Keep the run on this machine; ``wandb sync`` sends it later."""
    group: str | None = None
    """Name under which W&B groups runs."""

    def start(self, folder: Path, config: dict[str, Any]) -> None:
        import wandb

        try:
            self._run = wandb.init(
                project=self.project,
                group=self.group,
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

    def finish(self, figures: dict[str, Any], picture: Path | None = None) -> None:
        import wandb

        try:
            if figures:
                self._run.summary.update(figures)
            if picture is not None:
                self._run.log({"reconstructions": wandb.Image(str(picture))})
            if self.offline:
                console.note(f"to send this run to W&B: wandb sync {Path(self._run.dir).parent}")
        finally:
            wandb.finish()


LOGGERS: dict[str, type[LoggerSettings]] = {
    "csv": CsvLogger,
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "none": NoLogger,
}
