"""What a run will take is said at its start, where it is minutes: of the phases that are left, from a step of each."""

import json

import pytest
import torch

from dfkd_exp.phases import forecast as module
from dfkd_exp.phases.forecast import Forecast, forecast
from dfkd_exp.reconstruction import pace as pace_module
from dfkd_exp.reconstruction.engine.choose import _kind_of_teacher
from dfkd_exp.reconstruction.pace import Pace
from dfkd_exp.training.settings import Training
from tests.test_config import composed
from tests.toy import INPUTS, toy_teacher


@pytest.fixture
def paced(monkeypatch):
    """Steps of a teacher take 0.1 s and of a student 0.2 s, and 500 images a second go through it, or 50 with the gradient."""
    monkeypatch.setattr(
        Pace, "of_training", lambda self, network, settings, precision, teacher=None: 0.1 if teacher is None else 0.2
    )
    monkeypatch.setattr(
        Pace, "images_per_second", lambda self, teacher, layers, precision=None: 50.0 if precision else 500.0
    )


def of(tmp_path, *overrides, done=(), num_images=1_000):
    pace = Pace(INPUTS, 10, torch.device("cpu"), tmp_path / "engine.json")
    return forecast(composed(*overrides), pace, done, toy_teacher(), toy_teacher(), [], num_images)


IMAGES = "reconstruction.images_per_class=20", "reconstruction.group_size=20", "reconstruction.steps=30"
STUDENT = "distillation.epochs=6", "distillation.batch_size=50"


def test_each_phase_takes_its_steps(tmp_path, paced):
    found = of(tmp_path, *IMAGES, *STUDENT, "training.epochs=3", "training.batch_size=100")
    assert found.seconds == pytest.approx({"teacher": 3.0, "metadata": 2.0, "images": 120.0, "student": 4.8})
    assert found.num_bytes == 200 * 36 * 2 + sum(tensor.nbytes for tensor in toy_teacher().state_dict().values())
    assert found.plainly


def test_what_is_done_is_not_counted_again(tmp_path, paced):
    found = of(tmp_path, *IMAGES, *STUDENT, done=["teacher", "metadata", "reconstruction"])
    assert list(found.seconds) == ["student"]


def test_of_a_release_that_is_given_the_owners_phases_are_not_counted(tmp_path, paced):
    found = of(tmp_path, *IMAGES, *STUDENT, "pipeline=from_release", "release=somewhere", "source=data", "data=digits")
    assert found.seconds == pytest.approx({"student": 6 * 20 * 0.2})


@pytest.mark.parametrize(
    ("source", "images", "student"),
    [
        ("source=data", None, 6 * 20 * 0.2),
        ("source=data source.images=300", None, 6 * 6 * 0.2),
        ("source=noise", None, 6 * 4 * 0.2),
        # 6 epochs of 8 batches, a batch of 40 images and 3 steps for every 4 of them.
        (
            "source=synthesis source.images=400 source.batch_size=40 source.steps=3 source.student_steps=4",
            12 * 40 * 3 / 50,
            6 * 8 * 0.2,
        ),
    ],
)
def test_a_student_is_shown_what_its_source_has(tmp_path, paced, source, images, student):
    found = of(tmp_path, *IMAGES, *STUDENT, *source.split())
    assert found.seconds.get("images") == (images and pytest.approx(images))
    assert found.seconds["student"] == pytest.approx(student)


def test_shadows_are_counted_with_their_students(tmp_path, paced):
    alone = of(tmp_path, *IMAGES, *STUDENT, "privacy=true", "shadows=8")
    assert alone.seconds["shadows"] == pytest.approx(8 * 1.0)
    students = of(tmp_path, *IMAGES, *STUDENT, "privacy=true", "shadows=8", "shadow_students=true")
    assert students.seconds["shadows"] == pytest.approx(8 * (1.0 + 120.0 + 4.8))


def test_a_rate_that_was_measured_is_taken_for_such_a_teacher(tmp_path, paced):
    engine = {
        "precision": "fp32",
        "convolutions": "direct",
        "compile": False,
        "cuda_graphs": False,
        "images_per_batch": 100,
    }
    entry = {**engine, "image_steps_per_second": 6_000.0, "seconds_allowed": None}
    key = json.dumps([_kind_of_teacher(toy_teacher()), {}], separators=(",", ":"))
    (tmp_path / "engine.json").write_text(
        json.dumps({key: entry, "of another": {**entry, "image_steps_per_second": 1.0}})
    )
    found = of(tmp_path, *IMAGES, *STUDENT)
    assert found.seconds["images"] == pytest.approx(1.0)
    assert not found.plainly


def test_it_is_said_in_words():
    found = Forecast(
        {"teacher": 60.0, "metadata": 0.2, "images": 5_400.0, "student": 600.0}, 3_000_000_000, plainly=True
    )
    assert found.text() == (
        "about 1.7 h in all: teacher 60 s, images 90 min at most, an engine may be faster, student 10 min; 3.0 GB of disk"
    )
    assert found.text(jobs=4).endswith(
        "The sweep's 4 jobs that are left, if they are alike, about 6.7 h one after another and 12 GB"
    )


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_step_is_timed_and_leaves_the_network_as_it_was(precision, tmp_path):
    teacher, pace = toy_teacher(), Pace(INPUTS, 3, torch.device("cpu"), tmp_path)
    before, state = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}, torch.get_rng_state()
    assert 0 < pace.of_training(teacher, Training(batch_size=16), precision, teacher) < 10
    assert pace.images_per_second(teacher, []) > pace.images_per_second(teacher, [], "fp32") / 10 > 0
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert not teacher.training


def test_of_a_slow_step_a_part_is_timed(monkeypatch, tmp_path):
    """A step takes a second an image: two images are all that is tried, and 1,000 take 1,000 s, in two processes 500."""
    now, tried = [0.0], []
    monkeypatch.setattr(pace_module.time, "perf_counter", lambda: now[0])

    def step(count):
        tried.append(count)
        now[0] += count
        return torch.zeros(())

    assert Pace(INPUTS, 3, torch.device("cpu"), tmp_path)._of(step, 1_000) == 1_000
    assert Pace(INPUTS, 3, torch.device("cpu"), tmp_path, world=2)._of(step, 1_000) == 500
    assert set(tried) == {2}


def test_a_run_of_minutes_says_so_at_its_start_and_the_sweep_what_is_left(dfkd, monkeypatch, paced):
    monkeypatch.setattr(module, "WORTH_SAYING", 0.0)
    ran = dfkd("-m", "seed=0,1")
    assert ran.code == 0, ran.err
    first, second = (line for line in ran.out.splitlines() if " in all: " in line)
    assert "images" in first
    assert "The sweep's 2 jobs that are left" in first.replace("\n", " ")
    assert "left" not in second, "one is left"
    assert ran.out.index(" in all: ") < ran.out.index("metadata: collecting")
    assert " in all: " not in dfkd("-m", "seed=0,1").out, "all of it is there"
    owner = dfkd("pipeline=release", "seed=2")
    assert " in all: " in owner.out
    assert "images" not in next(line for line in owner.out.splitlines() if " in all: " in line)
