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
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from dfkd_exp.errors import DfkdError
from dfkd_exp.processes import COMMAND, begin, call, num_threads, stop

T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""How long they wait for one another between phases: the first may wait for another run's lock. One that fails ends them all, at once."""
WITHIN = timedelta(minutes=30)
"""How long within a phase, where they work in step: who waits longer has lost one, and fails."""
NAME = "dfkd-name"
"""What the processes of a run call it, where they meet."""
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
    """A group on the CPU, whatever the devices, where they wait with `PATIENCE`."""
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


def shared_name(propose: Callable[[], str]) -> str | None:
    """A name that all processes of this run know, and no other run's do; None for a process that is alone. ``propose()`` makes one that is
    new. A run that SLURM starts once more has the same again."""
    if ranks_of_process().world == 1:
        return None
    if "RANK" not in os.environ:
        return f"slurm-{os.environ['SLURM_JOB_ID']}-{os.environ['SLURM_STEP_ID']}"
    store = _meeting_place()
    if ranks_of_process().first:
        return store.compare_set(NAME, "", propose()).decode()
    return store.get(NAME).decode()  # waits for it


@cache
def _meeting_place() -> Any:
    """What the processes of a run find one another by, as MASTER_ADDR and MASTER_PORT say it. The first holds it, unless torchrun does."""
    import torch.distributed as dist

    # Asked for twice in one process it would wait for the others twice; so it is kept.
    return next(dist.rendezvous("env://", timeout=WITHIN))[0]


def local_device() -> int:
    """Which of the GPUs that this process sees is its own: that of its place on the machine, or the only one, if each of the machine's
    processes was given one (``--gpus-per-task=1``). DfkdError if there are too few."""
    import torch

    place, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if place >= count > 1:
        raise DfkdError(f"process {place + 1} of this machine has no GPU: {count} are seen; start as many processes")
    return min(place, count - 1)


def join(accelerator: str) -> None:
    """Meet the other processes of this run, if there are any."""
    if ranks_of_process().world == 1:
        return
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        return
    if "RANK" not in os.environ:
        os.environ.update(_as_torchrun_says_it(os.environ))
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    if on_gpu:
        os.environ["LOCAL_RANK"] = str(own := local_device())  # Lightning takes it for the number of the device
        torch.cuda.set_device(own)
    ranks = ranks_of_process()
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", store=_meeting_place(), rank=ranks.rank, world_size=ranks.world, timeout=WITHIN
    )


def _as_torchrun_says_it(slurm: Mapping[str, str]) -> dict[str, str]:
    """Place and meeting place of a process that ``srun`` has started; steps of one job do not meet."""
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    ranks, step = ranks_of_process(), int(slurm["SLURM_STEP_ID"])
    nodes = slurm.get("SLURM_STEP_NODELIST", slurm.get("SLURM_NODELIST", "127.0.0.1"))
    return {
        "MASTER_ADDR": slurm.get("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(nodes)),
        "MASTER_PORT": slurm.get("MASTER_PORT", str(15_000 + (int(slurm["SLURM_JOB_ID"]) + 1_000 * step) % 10_000)),
        "RANK": str(ranks.rank), "WORLD_SIZE": str(ranks.world), "LOCAL_RANK": slurm["SLURM_LOCALID"],
    }  # fmt: skip


def leave(whole: bool) -> None:
    """Close what `join` opened, if this process's part is ``whole``.

    NCCL waits, when it is closed, for work that has begun; a process that failed would wait for the others, who wait for it within a
    collective. So it is left open there, and `end` leaves the process. Source: ProcessGroupNCCL::shutdown, which flushes all collectives.
    """
    global _group
    dist = _joined()
    if dist is not None and (whole or dist.get_backend() != "nccl"):
        dist.destroy_process_group()
        _group = None
        _meeting_place.cache_clear()


def end(code: int) -> NoReturn:
    """Leave the process with an exit code: at once, where `leave` left something open. Whoever started it then ends the others."""
    if _joined() is None:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _joined() -> Any:
    """``torch.distributed``, if this process has joined others."""
    dist = sys.modules["torch"].distributed if "torch" in sys.modules else None
    return dist if dist is not None and dist.is_initialized() else None


def launch(count: int, arguments: Sequence[str]) -> None:
    """Run ``dfkd ARGUMENTS`` as one run of ``count`` processes on this machine. DfkdError with what the first to fail said;
    the others are stopped then."""
    from torch.distributed import TCPStore

    threads = max(1, num_threads() // count)
    with tempfile.TemporaryDirectory(prefix="dfkd-") as folder:
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
                processes.append(begin(call, COMMAND, list(arguments), place, threads))
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
