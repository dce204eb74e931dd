"""Configs that are wrong are refused in one line that names the flag, before a network is trained. All of them: pytest -m slow."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import SMALL
from tests.wrong_configs import Wrong, every

WRONG = every()
SAMPLE = WRONG[::40]


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory, release_folder: Path) -> dict[str, str]:
    """The folders that are named in the configs."""
    tmp = tmp_path_factory.mktemp("places")
    for name in ("text.pt", "text.safetensors"):
        (tmp / name).write_text("hello")
    (tmp / "empty.pt").touch()
    (tmp / "one_class" / "a").mkdir(parents=True)
    for label in "ab":
        (tmp / "images" / label).mkdir(parents=True)
        for index in range(4):
            Image.new("L", (8, 8), index).save(tmp / "images" / label / f"{index}.png")
    rng = np.random.default_rng(0)
    np.savez(tmp / "table.npz", X=rng.normal(size=(30, 3)), y=np.arange(30) % 2)
    return {"tmp": str(tmp), "release": str(release_folder)}


@pytest.fixture
def refused(dfkd, places, monkeypatch):
    """``refused(wrong)`` runs it and fails unless it is refused as it should be."""

    def trained(*_, **__):
        raise AssertionError("a network was trained")

    for room in ("training.supervised", "distillation.distill"):
        monkeypatch.setattr(f"dfkd_exp.{room}.fit", trained)

    def check(wrong: Wrong) -> None:
        said = [text.replace("{tmp}", places["tmp"]).replace("{release}", places["release"]) for text in wrong.said]
        scale, trainer = SMALL
        free = [flag for flag, name in ((scale, "scale"), (trainer, "trainer")) if name not in str(wrong)]
        ran = dfkd(*free, *said, small=False)
        assert ran.code in (1, 2)
        assert [line[:7] for line in ran.err.splitlines()] == ["error: "]
        assert wrong.named in ran.err
        assert "traceback" not in ran.err.lower()
        assert not list(ran.outputs.glob("store/*/*/manifest.json")), "something was computed"

    return check


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(
    "wrong", [wrong if wrong in SAMPLE else pytest.param(wrong, marks=pytest.mark.slow) for wrong in WRONG], ids=str
)
def test_a_wrong_config_is_refused_by_name_before_a_network_is_trained(wrong, refused):
    refused(wrong)


def test_there_are_some_500_of_them():
    assert len(WRONG) > 500


def test_one_that_is_right_is_not_refused(refused):
    with pytest.raises(AssertionError):
        refused(Wrong(("seed=1",), "seed"))


def test_what_is_reused_is_not_tried_again(dfkd, monkeypatch):
    """Neither the trial nor its imports cost a run anything that computes nothing."""
    assert dfkd("source=noise").code == 0
    monkeypatch.setattr("dfkd_exp.phases.rehearsal.Rehearsal.__call__", lambda _: pytest.fail("tried"))
    assert dfkd("source=noise").code == 0


def test_a_student_that_does_not_fit_is_refused_on_either_side_of_the_wall(dfkd, release_folder):
    for where in (("data=digits",), ("pipeline=from_release", f"release={release_folder}")):
        ran = dfkd(*where, "student=lenet5")
        assert (ran.code, ran.err) == (
            1,
            "error: student lenet5: LeNet-5 needs images of at least 16x16 pixels, got 8x8; set data.size or data.pad\n",
        )
        assert "training" not in ran.out.replace("teacher: training", "")


def test_a_trial_leaves_torchs_generator_as_it_was(dfkd):
    import torch

    from dfkd_exp.inputs import InputSpec
    from dfkd_exp.models.networks import mlp
    from dfkd_exp.training.rehearsal import rehearse_training
    from dfkd_exp.training.settings import Training

    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    network = mlp()
    torch.manual_seed(3)
    rehearse_training(network, Training(), InputSpec.normalised((1, 8, 8), [], []), 10, "teacher")
    assert torch.rand(1) == expected


def test_a_setting_that_is_wrong_in_all_jobs_of_a_sweep_is_said_once(dfkd):
    ran = dfkd("-m", "seed=0,1,2", "optimizer.lr=-1")
    assert (ran.code, ran.err) == (2, "error: optimizer.lr must be positive, got -1.0\n")
    assert not list(ran.outputs.rglob("*.*")), "a mistake leaves nothing behind"


def test_what_fails_alike_in_several_jobs_is_said_once(dfkd):
    ran = dfkd("-m", "student=lenet5", "seed=0,1")
    assert ran.code == 1
    assert ran.err.count("LeNet-5 needs images") == 1
    [sweep] = ran.outputs.glob("runs/*/*")
    said = re.search(r"^error: jobs 0, 1 failed: (\S+)$", ran.err, re.MULTILINE)
    assert said
    assert Path(said[1]).absolute() == sweep / "{0,1}" / "error.txt", "as a shell takes it"
    assert (sweep / "0" / "error.txt").is_file()


@pytest.mark.parametrize(
    "value", ["epoch=9-step=100.ckpt", "a b'c.pt", 'say "yes"=no', "back\\slash=1\\", "run (1).pt", "#1,2"]
)
def test_an_argument_that_cannot_be_read_comes_with_one_that_can(dfkd, value, tmp_path):
    """As a shell takes it: what it makes of the line is read as the value that was meant."""
    import shlex

    (tmp_path / value).write_text("no weights")
    ran = dfkd(f"teacher.checkpoint={value}", small=False)
    assert (ran.code, ran.err.count("\n")) == (2 if "as " in ran.err else 1, 1)
    if "cannot read the argument" in ran.err:
        [argument] = shlex.split(ran.err.rpartition(" as ")[2])
        ran = dfkd(argument, "trainer=cpu", small=False)
    assert f"teacher.checkpoint={value} is neither safetensors nor" in ran.err


def test_in_a_sweep_each_value_is_quoted(dfkd):
    ran = dfkd("-m", "teacher.checkpoint=a=1.ckpt,b=2.ckpt", small=False)
    assert """as 'teacher.checkpoint="a=1.ckpt","b=2.ckpt"'\n""" in ran.err


def test_a_list_that_cannot_be_read_comes_with_its_entries_quoted(dfkd):
    ran = dfkd("data=image_folder", "data.classes=[zebra,red car,Große Äpfel]", small=False)
    assert """as 'data.classes=[zebra,"red car","Große Äpfel"]'\n""" in ran.err
