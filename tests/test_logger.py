"""What the loggers are told of a run, of a sweep, and of a failure."""

from types import SimpleNamespace

import pytest
import wandb
from PIL import Image

from dfkd_exp.logger import TensorBoard, Wandb
from dfkd_exp.run_folder import plan_sweep

FIGURES = {
    "accuracy": 0.5,
    "agreement": None,
    "name": "digits",
    "overrides": ["seed=3", "+student.kwargs.width=4", "-m"],
}
CONFIG = {"pipeline": "full", "seed": 3}


@pytest.fixture
def told(monkeypatch):
    """What W&B is told."""
    heard = SimpleNamespace(init=None, finished=[], logged={}, summary={})
    run = SimpleNamespace(dir="wandb/run/files", summary=heard.summary, log=heard.logged.update)

    def init(**options):
        heard.init = options
        return run

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "finish", lambda exit_code=None: heard.finished.append(exit_code))
    return heard


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_the_jobs_of_a_sweep_are_one_group_on_wandb(told, tmp_path, picture):
    folder = tmp_path / "20261124-1" / "7"
    folder.mkdir(parents=True)
    plan_sweep(folder.parent, [["seed=3"]])
    logger = Wandb()
    logger.start(folder, CONFIG, ["digits", "x" * 100])
    assert told.init["group"] == "20261124-1"
    assert told.init["job_type"] == "full"
    assert told.init["tags"] == ["digits", "x" * 64]
    assert told.init["config"] == CONFIG
    assert told.init["mode"] == "offline"
    logger.finish(FIGURES, picture)
    assert told.summary["accuracy"] == 0.5
    assert set(told.logged) == {"reconstructions"}
    assert told.finished == [0]


def test_a_run_alone_has_no_group_unless_it_is_given_one(told, tmp_path):
    Wandb().start(tmp_path, CONFIG)
    assert told.init["group"] is None
    Wandb(group="mine").start(tmp_path, CONFIG)
    assert told.init["group"] == "mine"


def test_a_run_that_fails_is_a_failed_one_on_wandb(told, tmp_path):
    logger = Wandb()
    logger.start(tmp_path, CONFIG)
    logger.finish({}, None, failed=True)
    assert told.finished == [1]


def test_tensorboard_has_the_settings_beside_the_figures_and_the_picture(tmp_path, picture):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoard()
    logger.start(tmp_path, CONFIG)
    logger.finish(FIGURES, picture)
    events = EventAccumulator(str(tmp_path / "logs" / "result")).Reload()
    assert events.Scalars("result/accuracy")[0].value == 0.5
    assert events.Images("reconstructions")
    assert "_hparams_/session_start_info" in events.summary_metadata
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"seed" in content
    assert b"student.kwargs.width" in content
