"""Lightning's Trainer as settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.errors import DfkdError
from dfkd_exp.settings import Settings

if TYPE_CHECKING:
    import pytorch_lightning as pl
    import torch

ACCELERATORS = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@dataclass
class TrainerSettings(Settings):
    """On what the phases run. One device; a machine's other devices are for other runs of a sweep."""

    flag: ClassVar[str] = "trainer"

    accelerator: str = "auto"
    """auto, cpu, cuda or mps."""
    precision: str = "32-true"
    """Lightning's precision for the training of teacher and student: 32-true, bf16-mixed or 16-mixed."""

    def __post_init__(self) -> None:
        self.require_choice("accelerator", ACCELERATORS)
        self.require_choice("precision", PRECISIONS)

    def identity(self) -> dict[str, Any]:
        """The device is not part of an artifact's key; the precision is."""
        return {"precision": self.precision}

    def device(self) -> torch.device:
        """The device that the phases run on."""
        return self.build().strategy.root_device

    def build(self, logger: Any = False, callbacks: list[Any] | None = None, **options: Any) -> pl.Trainer:
        """A quiet Trainer: no bars of its own, no checkpoints but ours, gradients allowed in ``predict``."""
        import logging
        import warnings

        import pytorch_lightning as pl
        from pytorch_lightning.utilities.exceptions import MisconfigurationException

        from dfkd_exp.checkpoint import AtomicCheckpointIO

        for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        # Our batches are slices of tensors on the device; workers would only slow them down.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*number of training batches.*is smaller than the logging interval.*")
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
        warnings.filterwarnings("ignore", ".*Couldn't infer the batch indices.*")
        warnings.filterwarnings("ignore", ".*GPU available but not used.*")
        try:
            return pl.Trainer(
                accelerator=self.accelerator,
                devices=1,
                precision=self.precision,  # type: ignore[arg-type]
                logger=logger,
                callbacks=callbacks,
                plugins=[AtomicCheckpointIO()],
                enable_progress_bar=False,
                enable_model_summary=False,
                enable_checkpointing=False,
                inference_mode=False,
                use_distributed_sampler=False,
                num_sanity_val_steps=0,
                **options,
            )
        except (MisconfigurationException, ValueError) as error:
            raise DfkdError(
                f"trainer.accelerator={self.accelerator} cannot be used here: {str(error).splitlines()[0]}; "
                "trainer.accelerator=cpu always can"
            ) from error
