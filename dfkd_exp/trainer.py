"""Lightning's Trainer as settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp import console
from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.ranks import WITHIN, ranks_of_process
from dfkd_exp.settings import Settings

if TYPE_CHECKING:
    import pytorch_lightning as pl
    import torch

ACCELERATORS = ("auto", "cpu", "cuda", "mps")
LAUNCHERS = ("local", "slurm")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@dataclass
class TrainerSettings(Settings):
    """On what the phases run: one device, or several of one machine or many, with a process for each."""

    flag: ClassVar[str] = "trainer"

    accelerator: str = "auto"
    """auto, cpu, cuda or mps."""
    precision: str = "32-true"
    """Lightning's precision for the training of teacher and student: 32-true, bf16-mixed or 16-mixed."""
    devices: int | None = 1
    """How many of a machine's devices one run uses, each by a process of its own; empty: all its GPUs."""
    nodes: int = 1
    """How many machines; more than one are started by srun (trainer=slurm) or torchrun, and share the folder of outputs."""
    launcher: str = "local"
    """local: this command starts the processes of one machine; slurm: srun has started them."""

    def __post_init__(self) -> None:
        self.require_choice("accelerator", ACCELERATORS)
        self.require_choice("precision", PRECISIONS)
        self.require_choice("launcher", LAUNCHERS)
        self.require("devices", self.devices is None or self.devices >= 1, "at least 1, or empty for all GPUs")
        self.require("nodes", self.nodes >= 1, "at least 1")
        if self.accelerator == "mps":
            self.require("devices", self.devices == 1, "1 with trainer.accelerator=mps: a Mac has one GPU")

    def identity(self) -> dict[str, Any]:
        """Devices are not part of an artifact's key; the precision is."""
        return {"precision": self.precision}

    def num_devices(self) -> int:
        """Of this machine."""
        if self.devices is not None:
            return self.devices
        import torch

        if self.accelerator == "cpu" or not (count := torch.cuda.device_count()):
            raise ConfigError(
                "trainer.devices is empty, for all GPUs, and there are none; say how many processes: trainer.devices=2"
            )
        ranks = ranks_of_process()
        if (
            count == 1 and ranks.world > 1
        ):  # of the machine's GPUs each process may have been given one (--gpus-per-task=1)
            return max(1, ranks.world // self.nodes)
        return count

    def must_launch(self, batch_size: int) -> bool:
        """Whether this process has yet to start those that do the run (`dfkd_exp.ranks.launch`). ConfigError if they cannot be."""
        ranks, wanted = ranks_of_process(), self.num_devices() * self.nodes
        if ranks.world == 1 and wanted == 1:
            return False
        self.require(
            "devices",
            wanted <= batch_size,
            f"at most the batch size, {batch_size}: every process has a share of each batch",
        )
        if ranks.world == 1 and (self.launcher == "slurm" or self.nodes > 1):
            raise ConfigError(
                f"trainer.launcher={self.launcher} trainer.nodes={self.nodes}: the {wanted} processes are started by srun (trainer=slurm) "
                f"or torchrun, and this one is alone: srun --nodes={self.nodes} --ntasks-per-node={self.num_devices()} dfkd …"
            )
        if ranks.world not in (1, wanted):
            raise ConfigError(
                f"{ranks.world} processes were started, but trainer.devices={self.devices} and trainer.nodes={self.nodes} "
                f"make {wanted}; give the same numbers to both"
            )
        return ranks.world == 1

    def device(self) -> torch.device:
        """The device that the phases run on."""
        return self.build().strategy.root_device

    def build(
        self, logger: Any = False, callbacks: list[Any] | None = None, plugins: Iterable[Any] = (), **options: Any
    ) -> pl.Trainer:
        """A quiet Trainer: no bars and no checkpoints of its own, gradients allowed in ``predict``."""
        import logging
        import warnings

        import pytorch_lightning as pl
        import torch
        from pytorch_lightning.utilities.exceptions import MisconfigurationException

        plugins = list(plugins)
        world, devices, nodes = ranks_of_process().world, 1, 1
        if world == 1:
            from pytorch_lightning.plugins.environments import LightningEnvironment

            plugins.append(
                LightningEnvironment()
            )  # it would take a batch script of several tasks for SLURM's processes, and refuse it
        else:
            from pytorch_lightning.plugins.environments import TorchElasticEnvironment
            from pytorch_lightning.strategies import DDPStrategy

            from dfkd_exp.batch_norm import BatchNormOverProcesses

            plugins.append(TorchElasticEnvironment())  # what `join` has put into the environment, whoever started us
            on_gpu = self.accelerator != "cpu" and torch.cuda.is_available()
            plugins += [] if on_gpu else [BatchNormOverProcesses()]
            devices, nodes = self.num_devices(), self.nodes
            if on_gpu and torch.cuda.device_count() == 1:  # each sees its own alone, as if each had a machine
                devices, nodes = 1, world
            options |= {"strategy": DDPStrategy(timeout=WITHIN), "sync_batchnorm": on_gpu}

        for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        # Our batches are slices of tensors on the device; workers would only slow them down.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*number of training batches.*is smaller than the logging interval.*")
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
        warnings.filterwarnings("ignore", ".*Couldn't infer the batch indices.*")
        warnings.filterwarnings("ignore", ".*GPU available but not used.*")
        try:
            runner = pl.Trainer(
                accelerator=self.accelerator,
                devices=devices,
                num_nodes=nodes,
                precision=self.precision,  # type: ignore[arg-type]
                logger=logger,
                callbacks=callbacks,
                plugins=plugins,
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
        if self.precision == "bf16-mixed" and runner.strategy.root_device.type == "cpu" and not _has_bf16():
            _warn_of_bf16(self.named("precision"))
        return runner


def _has_bf16() -> bool:
    """Whether this processor computes in bf16, or at least in the vectors that PyTorch's kernels for it need."""
    import torch

    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


@cache
def _warn_of_bf16(flag: str) -> None:
    """Once in a process: every phase has a Trainer."""
    console.warn(f"this processor has no bf16, which is emulated, many times slower than {flag}=32-true")
