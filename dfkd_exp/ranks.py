"""The processes of one run, when it has several: which of them this is, what they agree on, and how they are started.

Each runs the whole pipeline. Training shares every batch, collection the images, reconstruction the groups; the rest the first
process does, and the others find it in the store. They are started by `launch`, by ``torchrun`` or by ``srun``.
"""

from __future__ import annotations

import json
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from dfkd_exp.errors import DfkdError
from dfkd_exp.processes import COMMAND, call, environment, start_method, stop, threads_to_share

T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""How long they wait for one another: the first may wait for another run's lock. One that fails ends them all, at once."""
SAID_AT = "nanoseconds"
"""When a process said what went wrong, beside what it said."""
SECONDS_TO_HEAR = 0.3
"""How long after one process ends it is known that another had ended before: the exit codes of copies come by way of what made them."""
LAUNCHED = "DFKD_LAUNCHED"
"""Set for the processes that `launch` starts, to the folder where they leave what went wrong in them: it says it."""


@dataclass(frozen=True)
class Ranks:
    """Process ``rank`` of ``world``. With ``world=1`` everything here is free."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes, and speaks, for all."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """Those of ``items`` that are this process's."""
        return list(items[self.rank :: self.world])

    def barrier(self) -> None:
        """Wait until all are here."""
        if self.world > 1:
            import torch.distributed as dist

            dist.barrier(_small_talk())

    def in_turn(self, do: Callable[[], T]) -> T:
        """What ``do()`` returns; the others do it when the first has done it."""
        if self.first:
            result = do()
            self.barrier()
            return result
        self.barrier()
        return do()

    def agreed(self, decide: Callable[[], T]) -> T:
        """What the first process decides; the others wait for it. A JSON-able value."""
        if self.world == 1:
            return decide()
        import torch.distributed as dist

        box: list[Any] = [decide() if self.first else None]
        dist.broadcast_object_list(box, src=0, group=_small_talk())
        return box[0]


ALONE = Ranks()
_group: Any = None


def _small_talk() -> Any:
    """A group on the CPU, whatever the devices: NCCL has no objects and no patience."""
    global _group
    if _group is None:
        import torch.distributed as dist

        _group = dist.new_group(backend="gloo", timeout=PATIENCE)
    return _group


def ranks_of_process() -> Ranks:
    """This process's place, as `launch`, ``torchrun`` or ``srun`` say it in the environment; alone if they say nothing."""
    if {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    # A batch script has a rank too; only what srun starts has a step of several tasks.
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return Ranks(int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_STEP_NUM_TASKS"]))
    return ALONE


def shared_name() -> str | None:
    """A name that all processes of this run know; None for a process that is alone."""
    if ranks_of_process().world == 1:
        return None
    if "RANK" in os.environ:
        return f"torchrun-{os.environ.get('TORCHELASTIC_RUN_ID', os.environ.get('MASTER_PORT', ''))}"
    return f"slurm-{os.environ['SLURM_JOB_ID']}-{os.environ['SLURM_STEP_ID']}"


def join(accelerator: str) -> None:
    """Meet the other processes of this run, if there are any."""
    if ranks_of_process().world == 1:
        return
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        return
    if "RANK" not in os.environ:
        from pytorch_lightning.plugins.environments import SLURMEnvironment

        slurm = SLURMEnvironment()
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = slurm.main_address, str(slurm.main_port)
        os.environ["RANK"], os.environ["WORLD_SIZE"] = (str(value) for value in vars(ranks_of_process()).values())
        os.environ["LOCAL_RANK"] = os.environ["SLURM_LOCALID"]
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)


def leave() -> None:
    """Close what `join` opened."""
    global _group
    if "torch" in sys.modules and sys.modules["torch"].distributed.is_initialized():
        sys.modules["torch"].distributed.destroy_process_group()
        _group = None


def launch(count: int, arguments: Sequence[str]) -> None:
    """Run ``dfkd ARGUMENTS`` as one run of ``count`` processes on this machine. DfkdError with what the first to fail said;
    the others are stopped then."""
    from torch.distributed import TCPStore

    threads = max(1, threads_to_share() // count)
    context: Any = multiprocessing.get_context(start_method())
    with tempfile.TemporaryDirectory(prefix="dfkd-") as folder, environment({"OMP_NUM_THREADS": str(threads)}):
        # Where they find one another, at any free port.
        meeting = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        variables = {
            **os.environ, LAUNCHED: folder, "WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(meeting.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",  # torch's word for: the meeting point is there already
        }  # fmt: skip
        places = [{**variables, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
        processes: list[BaseProcess] = []
        try:
            for place in places:
                process = context.Process(target=call, args=(COMMAND, list(arguments), place, threads))
                process.start()
                processes.append(process)
            exit_codes = _first_failures(processes)
        finally:
            stop(processes)
        if exit_codes:
            words = {int(path.stem): json.loads(path.read_text("utf-8")) for path in Path(folder).glob("*.json")}
            rank, said = _cause(exit_codes, words)
            raise DfkdError(f"process {rank} of {count} failed: {said}")


def _first_failures(processes: Sequence[BaseProcess]) -> dict[int, int]:
    """The exit codes that are not 0, by rank, as soon as there are any; none when all have ended well."""
    at_work: dict[Any, BaseProcess] = {process.sentinel: process for process in processes}
    while at_work:
        ended = [at_work.pop(sentinel) for sentinel in multiprocessing.connection.wait(list(at_work))]
        if any(process.exitcode for process in ended):
            time.sleep(SECONDS_TO_HEAR)
            return {rank: process.exitcode for rank, process in enumerate(processes) if process.exitcode}
    return {}


def _cause(exit_codes: Mapping[int, int], words: Mapping[int, Mapping[str, Any]]) -> tuple[int, str]:
    """The rank that failed first, and what it said: others fail too, within the second, when they lose its connections.

    Args:
        exit_codes: of those that had ended before the others were stopped.
        words: what each rank has said with `report_failure`.

    One that was killed leaves no word, and comes first.
    """
    for rank, code in exit_codes.items():
        if code < 0:
            return rank, f"killed by {signal.Signals(-code).name}"
    if words:
        rank = min(words, key=lambda rank: words[rank][SAID_AT])
        return rank, words[rank]["message"]
    rank = min(exit_codes)
    return rank, f"exit code {exit_codes[rank]}"


def report_failure(message: str) -> None:
    """Leave what went wrong where `launch` reads it."""
    path = Path(os.environ[LAUNCHED], f"{ranks_of_process().rank}.json")
    path.write_text(json.dumps({"message": message, SAID_AT: time.time_ns()}), "utf-8")
