"""One run of several processes: what it makes is what one process makes, and one that fails ends it with its error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dfkd_exp import ranks
from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.ranks import SAID_AT, Ranks, _cause, ranks_of_process, shared_name
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.batches import batches
from dfkd_exp.training.module import Share
from tests.conftest import run_main
from tests.copies import Copy

ROOT = Path(__file__).parents[1]
TWO = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
LITTLE = (
    "distillation.epochs=2", "reconstruction.images_per_class=20", "reconstruction.group_size=10",
    "reconstruction.steps=20", "engine=plain", "engine.images_per_batch=40",
)  # fmt: skip
UNLUCKY = """
import os, signal
from torch import nn

class Student(nn.Sequential):
    def __init__(self, how="raise"):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))
        self.how = how

    def forward(self, x):
        # Not while it is tried, which is on up to three images and before the first phase.
        if len(x) > 3 and os.environ.get("RANK") == "1" and not os.path.exists("mended"):
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("the second process has a bad day")
        return super().forward(x)
"""


def tensors(outputs: Path, phase: str) -> dict[str, torch.Tensor]:
    """All that one artifact of a phase holds."""
    [folder] = {path.parent for path in outputs.glob(f"store/{phase}/*/*.safetensors")}
    return {f"{path.name}/{k}": v for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()}


def test_two_processes_make_what_one_makes(tmp_path):
    """Batches of 64 of 1,437 digits: the last batch of an epoch does not divide evenly."""
    places = {"one": ("trainer=cpu",), "two": TWO}
    for name, processes in places.items():
        outputs = f"outputs={tmp_path / name}"
        owner = (
            "pipeline=release",
            f"release={tmp_path / f'{name}-release'}",
            "metadata=all_layers",
            "training.epochs=2",
        )
        assert run_main([*owner, *processes, outputs]) == 0
        receiver = ("pipeline=from_release", f"release={tmp_path / 'one-release'}", "data=digits")  # the same for both
        assert run_main([*receiver, *LITTLE, *processes, outputs]) == 0
    # Of the same teacher and metadata, the images are the same to the last bit.
    for phase, tolerance in (("teacher", 1e-5), ("metadata", 1e-4), ("reconstruction", 0), ("student", 1e-4)):
        expected, found = (tensors(tmp_path / name, phase) for name in places)
        assert expected.keys() == found.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, atol=tolerance, rtol=tolerance)
    assert len(list((tmp_path / "two").glob("store/reconstruction/*/groups-*"))) == 5


@pytest.mark.parametrize(("how", "said"), [("raise", "a bad day"), ("kill", "killed by SIGKILL")])
def test_a_process_that_fails_ends_the_run_with_its_error(how, said, dfkd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(Path.cwd())]))
    Path("unlucky.py").write_text(UNLUCKY)
    command = ("student=custom", "student.target=unlucky.Student", f"+student.kwargs.how={how}", "scale=smoke", *TWO)
    first = dfkd(*command, small=False)
    assert first.code == 1
    assert "process 1 of 2 failed" in first.err
    assert said in first.err
    assert not first.results()
    assert not list(first.outputs.glob("store/student/*/manifest.json"))
    if how == "raise":
        return
    Path("mended").touch()
    again = dfkd(*command, small=False)
    assert again.code == 0, again.err
    made = [name for name, phase in again.result["phases"].items() if not phase["reused"]]
    assert sorted(made) == ["evaluation", "student"]


COMMAND = "from dfkd_exp.app import main; main()"


def as_srun_does(rank: int, tasks: int = 2) -> dict[str, str]:
    return {
        "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": str(tasks), "SLURM_NTASKS": str(tasks),
        "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NODELIST": "localhost",
        "SLURM_NTASKS_PER_NODE": str(tasks),
        "MASTER_PORT": str(20000 + os.getpid() % 9999),
    }  # fmt: skip


def test_processes_that_srun_has_started_are_one_run(tmp_path):
    command = ("scale=smoke", "trainer=slurm", "trainer.devices=2", "trainer.accelerator=cpu", "outputs=outputs")
    both = [Copy(COMMAND, command, tmp_path, as_srun_does(rank)) for rank in range(2)]
    first, second = (copy.ended() for copy in both)
    assert (first.returncode, second.returncode) == (0, 0), (first, second)
    assert "student accuracy" in first.stdout
    assert (second.stdout, second.stderr) == ("", ""), "one speaks for both"
    [result] = (tmp_path / "outputs").glob("runs/digits/slurm-4711-0/result.json")
    assert result.stat().st_size


def test_a_sweep_in_each_of_several_processes_is_refused(dfkd, monkeypatch):
    for name, value in as_srun_does(0).items():
        monkeypatch.setenv(name, value)
    ran = dfkd("-m", "seed=0,1", "trainer=ddp", "trainer.devices=2", small=False)
    assert ran.code == 2
    assert "start the sweep once" in ran.err


WRONG = {
    "srun and nobody else": (dict(launcher="slurm", devices=2), {}, "srun --nodes=1 --ntasks-per-node=2"),
    "nodes and nobody else": (dict(nodes=2, devices=2), {}, "srun --nodes=2 --ntasks-per-node=2"),
    "another number": (dict(launcher="slurm", devices=3), as_srun_does(0), "2 processes were started"),
    "one run for each": (dict(), as_srun_does(0), "2 processes were started"),
    "more than a batch has": (dict(devices=65), {}, "at most the batch size, 64"),
    "no GPU": (dict(devices=None, accelerator="cpu"), {}, "trainer.devices is empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_processes_that_do_not_fit_are_refused(case, monkeypatch):
    settings, environment, said = WRONG[case]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        TrainerSettings(**settings).must_launch(batch_size=64)


def test_a_mac_has_one_gpu():
    with pytest.raises(ConfigError, match=r"trainer\.devices must be 1"):
        TrainerSettings(accelerator="mps", devices=2)


def test_a_batch_script_is_not_one_of_several(monkeypatch):
    for name, value in {**as_srun_does(0), "SLURM_STEP_NUM_TASKS": "1"}.items():
        monkeypatch.setenv(name, value)
    assert ranks_of_process() == Ranks()
    assert shared_name(lambda: "new") is None


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("num_rows", [64, 130, 65, 3])
def test_the_weighted_mean_over_processes_is_the_batchs_mean(world, num_rows):
    values = torch.arange(num_rows).double().square()
    shares = [Share.of(num_rows, 32, Ranks(rank, world)) for rank in range(world)]
    expected = [batch.mean() for batch in batches(values, 32)]
    for index, mean in enumerate(expected):
        parts = [share.rows.split(share.sizes)[index] for share in shares]
        weighted = [values[part].mean() * share.weights[index] for part, share in zip(parts, shares, strict=True)]
        torch.testing.assert_close(torch.stack(weighted).mean(), mean)
    assert set(torch.cat([share.rows for share in shares]).tolist()) == set(range(num_rows))


@pytest.mark.parametrize(
    ("exit_codes", "words", "cause"),
    [
        ({0: 1, 1: 1}, {1: ("why", 2), 0: ("lost it", 3)}, (1, "why")),
        ({0: 1, 1: -9}, {0: ("lost it", 1)}, (1, "killed by SIGKILL")),
        (
            {0: 1},
            {1: ("why", 2), 0: ("lost it", 3)},
            (1, "why"),
        ),  # the second had said why, and was stopped while it left
        ({1: 3}, {}, (1, "exit code 3")),
    ],
)
def test_of_several_failures_the_cause_is_told(exit_codes, words, cause):
    said = {rank: {"message": message, SAID_AT: at} for rank, (message, at) in words.items()}
    assert _cause(exit_codes, said) == cause


def as_srun_does_without(name: str, tasks: int = 2) -> dict[str, str]:
    return {key: value for key, value in as_srun_does(0, tasks).items() if key != name}


def test_a_batch_script_need_not_say_how_many_tasks_a_node_has(monkeypatch):
    """Lightning refuses it, whether or not srun starts the processes."""
    for name, value in {**as_srun_does_without("SLURM_NTASKS_PER_NODE"), "SLURM_NODELIST": "node[07-12,20]"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_PORT")
    said = ranks._as_torchrun_says_it(os.environ)
    assert said == {
        "MASTER_ADDR": "node07", "MASTER_PORT": "19711", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0",
    }  # fmt: skip
    assert ranks._as_torchrun_says_it({**os.environ, "SLURM_STEP_ID": "1"})["MASTER_PORT"] == "20711", "another step"
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")  # the script itself
    assert TrainerSettings(accelerator="cpu").build().world_size == 1


def test_processes_that_see_one_gpu_each_use_it(monkeypatch):
    """As ``srun --gpus-per-task=1`` starts them. gloo stands for NCCL."""
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert ranks.local_device() == 0
    assert TrainerSettings(devices=None).num_devices() == 4
    assert TrainerSettings(devices=None, nodes=2).num_devices() == 2
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert ranks.local_device() == 3
    assert TrainerSettings(devices=None).num_devices() == 8
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DfkdError, match="process 4 of this machine has no GPU: 2 are seen"):
        ranks.local_device()


def test_lightning_takes_a_process_that_sees_one_gpu_for_a_machine(monkeypatch):
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}.items():  # as `join` leaves them
        monkeypatch.setenv(name, value)
    asked = {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("pytorch_lightning.Trainer", lambda **options: asked.update(options))
    TrainerSettings(devices=4, accelerator="cuda").build()
    assert (asked["devices"], asked["num_nodes"]) == (1, 4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    TrainerSettings(devices=4, accelerator="cuda").build()
    assert (asked["devices"], asked["num_nodes"]) == (4, 1)


def test_processes_agree_on_a_name_that_is_new(monkeypatch):
    """As torchrun starts them without --rdzv-id; it calls all its runs ``none`` then."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    names = []
    for run in ("one", "two"):
        store = torch.distributed.HashStore()
        monkeypatch.setattr(ranks, "_meeting_place", lambda store=store: store)
        monkeypatch.setenv("RANK", "0")
        first = shared_name(lambda run=run: run)
        monkeypatch.setenv("RANK", "1")
        names.append((first, shared_name(lambda: "never")))
        monkeypatch.setenv("RANK", "0")
        assert shared_name(lambda: "asked again") == first
    assert names == [("one", "one"), ("two", "two")]


@pytest.mark.slow
def test_two_runs_of_torchrun_have_two_folders(tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "-m",
        "dfkd_exp",
        *TWO,
        "scale=smoke",
    ]
    for seed in range(2):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MASTER_PORT": str(20000 + os.getpid() % 9999)}
        subprocess.run([*command, f"seed={seed}"], cwd=tmp_path, env=environment, check=True, timeout=120)
    assert len(list((tmp_path / "outputs").glob("runs/digits/*/result.json"))) == 2


class Joined:
    """``torch.distributed`` of a process that has joined others."""

    def __init__(self, backend):
        self.open, self.get_backend = True, lambda: backend

    def is_initialized(self):
        return self.open

    def destroy_process_group(self):
        self.open = False


@pytest.mark.parametrize(
    ("backend", "whole", "closed"), [("nccl", True, True), ("nccl", False, False), ("gloo", False, True)]
)
def test_a_process_that_failed_does_not_wait_for_those_that_wait_for_it(backend, whole, closed, monkeypatch):
    """NCCL, which cannot be tried here, would wait when it is closed."""
    dist, left = Joined(backend), []
    monkeypatch.setattr(ranks, "_joined", lambda: dist if dist.open else None)
    monkeypatch.setattr(os, "_exit", left.append)
    ranks.leave(whole)
    assert dist.open is not closed
    if closed:
        with pytest.raises(SystemExit, match="3"):
            ranks.end(3)
    else:
        ranks.end(3)
        assert left == [3]
