"""One run of several processes: what it makes is what one process makes, and one that fails ends it with its error."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from dfkd_exp.errors import ConfigError
from dfkd_exp.ranks import Ranks, _order, ranks_of_process, shared_name
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.batches import batches
from dfkd_exp.training.module import Share
from tests.conftest import run_main

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

    def forward(self, images):
        # Not for the few with which it is tried beforehand.
        if len(images) > 2 and os.environ.get("RANK") == "1" and not os.path.exists("mended"):
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("the second process has a bad day")
        return super().forward(images)
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


def started(arguments, environment, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "dfkd_exp", *arguments], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def as_srun_does(rank: int, tasks: int = 2) -> dict[str, str]:
    return {
        "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": str(tasks), "SLURM_NTASKS": str(tasks),
        "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NODELIST": "localhost",
        "SLURM_NTASKS_PER_NODE": str(tasks),
        "MASTER_PORT": str(20000 + os.getpid() % 9999),
    }  # fmt: skip


def test_processes_that_srun_has_started_are_one_run(tmp_path):
    command = ("scale=smoke", "trainer=slurm", "trainer.devices=2", "trainer.accelerator=cpu", "outputs=outputs")
    both = [started(command, as_srun_does(rank), tmp_path) for rank in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "student accuracy" in said[0][0]
    assert said[1] == ("", ""), "one speaks for both"
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
        TrainerSettings(**settings).check_processes(batch_size=64)


def test_a_mac_has_one_gpu():
    with pytest.raises(ConfigError, match=r"trainer\.devices must be 1"):
        TrainerSettings(accelerator="mps", devices=2)


def test_a_batch_script_is_not_one_of_several(monkeypatch):
    for name, value in {**as_srun_does(0), "SLURM_STEP_NUM_TASKS": "1"}.items():
        monkeypatch.setenv(name, value)
    assert ranks_of_process() == Ranks()
    assert shared_name() is None


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


def failed(exitcode: int, said_at: int | None = None):
    data = {"message": "<NONE>"} if said_at is None else {"message": "why", "nanoseconds": said_at}
    return SimpleNamespace(exitcode=exitcode, error_file_data=data)


@pytest.mark.parametrize(
    "failures",
    [
        [failed(1, 2), failed(1, 3)],  # the second lost the first
        [failed(-9), failed(1, 1)],  # the first was killed, and the second lost it
        [failed(-15, 2), failed(1, 3)],  # the first had said why, and was ended while it left
        [failed(1, 2), failed(-15)],  # the second was ended because of the first
    ],
)
def test_of_several_failures_the_cause_is_told(failures):
    assert min(failures, key=_order) is failures[0]
    assert min(reversed(failures), key=_order) is failures[0]
