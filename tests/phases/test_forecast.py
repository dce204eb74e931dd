"""What a run will take is said at its start, where it is minutes: of the phases that are left, from a step of each."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from dfkd_exp.data.base import Outline
from dfkd_exp.metadata import SpectralLayerPairs, TopLayer
from dfkd_exp.models.layers import Layer
from dfkd_exp.phases import announcement
from dfkd_exp.phases.forecast import Forecast, forecast
from dfkd_exp.phases.sweep_forecast import Setting, in_words, num_teachers, of_sweep, settings_left
from dfkd_exp.reconstruction import pace as pace_module
from dfkd_exp.reconstruction.engine import known
from dfkd_exp.reconstruction.pace import Pace
from dfkd_exp.training.settings import Training
from tests.test_config import composed
from tests.toy import INPUTS, dropout_teacher, toy_teacher


@pytest.fixture
def paced(monkeypatch):
    """Steps of a teacher take 0.1 s and of a student 0.2 s, and 500 images a second go through it, or 50 with the gradient."""
    monkeypatch.setattr(
        Pace, "of_training", lambda self, network, settings, precision, teacher=None: 0.1 if teacher is None else 0.2
    )
    monkeypatch.setattr(
        Pace, "images_per_second", lambda self, teacher, layers, precision=None: 50.0 if precision else 500.0
    )


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 10))


def of(tmp_path, *overrides, done=(), num_images=1_000):
    pace = Pace(INPUTS, 10, torch.device("cpu"), tmp_path / "engine.json")
    return forecast(
        composed(*overrides), pace, done, net(), net(), [], Outline((1, 6, 6), list("0123456789"), num_images, 36)
    )


IMAGES = "reconstruction.images_per_class=20", "reconstruction.group_size=20", "reconstruction.steps=30"
STUDENT = "distillation.epochs=6", "distillation.batch_size=50"


WEIGHTS = 4 * (36 * 10 + 10)


def test_each_phase_takes_its_steps(tmp_path, paced):
    found = of(tmp_path, *IMAGES, *STUDENT, "training.epochs=3", "training.batch_size=100", "metadata=top_layer")
    assert found.seconds == pytest.approx({"teacher": 3.0, "metadata": 2.0, "images": 120.0, "student": 4.8})
    metadata = 4 * 10 * (10 + 55)
    assert found.num_bytes == {
        "teacher": 2 * WEIGHTS,
        "metadata": 2 * metadata,
        "images": 200 * 36 * 2,
        "student": WEIGHTS,
    }
    assert found.plainly


def test_what_is_done_is_not_counted_again(tmp_path, paced):
    found = of(tmp_path, *IMAGES, *STUDENT, done=["teacher", "metadata", "reconstruction"])
    assert list(found.seconds) == ["student"]


def test_a_line_search_evaluates_more_than_once_a_step(tmp_path, paced):
    found = of(tmp_path, *IMAGES, *STUDENT, "optimizer=lbfgs", "optimizer.max_iter=4")
    assert found.seconds["images"] == pytest.approx(4 * 120.0)


def test_of_a_release_that_is_given_the_owners_phases_are_not_counted(tmp_path, paced):
    found = of(tmp_path, *IMAGES, *STUDENT, "pipeline=from_release", "release=somewhere", "source=data", "data=digits")
    assert found.seconds == pytest.approx({"student": 6 * 20 * 0.2})


@pytest.mark.parametrize(
    ("source", "images", "student"),
    [
        ("source=data", None, 6 * 20 * 0.2),
        ("source=data source.images=300", None, 6 * 4 * 0.2),
        ("source=noise", None, 6 * 4 * 0.2),
        ("source=same_bytes metadata=top_layer", None, 6 * 4 * 0.2),
        # 6 epochs of 8 batches, and for every 4 of them one of 40 images by 3 steps.
        (
            "source=synthesis source.images=400 source.batch_size=40 source.steps=3 source.student_steps=4",
            None,
            6 * 8 * 0.2 + 12 * 40 * 3 / 50,
        ),
    ],
)
def test_a_student_is_shown_what_its_source_has(tmp_path, paced, source, images, student):
    found = of(tmp_path, *IMAGES, *STUDENT, *source.split())
    assert found.seconds.get("images") == images
    assert found.seconds["student"] == pytest.approx(student)


@pytest.mark.parametrize("done", [[], ["reconstruction"], ["reconstruction", "student"]])
def test_shadows_are_counted_with_their_students_whatever_is_done_of_the_run(tmp_path, paced, done):
    asked = *IMAGES, *STUDENT, "privacy=true", "shadows=8"
    assert of(tmp_path, *asked, done=done).seconds["shadows"] == pytest.approx(8 * 1.0)
    found = of(tmp_path, *asked, "shadow_students=true", done=done)
    assert found.seconds["shadows"] == pytest.approx(8 * (1.0 + 120.0 + 4.8))
    assert found.num_bytes["shadows"] == 8 * (WEIGHTS + 200 * 36 * 2)


def test_a_rate_that_was_measured_on_this_machine_is_taken_for_such_a_teacher(tmp_path, paced):
    pace = Pace(INPUTS, 10, torch.device("cpu"), tmp_path / "engine.json")
    engine = {
        "precision": "fp32",
        "convolutions": "direct",
        "compile": False,
        "cuda_graphs": False,
        "images_per_batch": 100,
    }
    entry = {**engine, "seconds_allowed": None}
    here = {**known._machine(pace.device), "layers": [], "group_size": 3}
    rates = {
        json.dumps([known.kind_of_teacher(net()), circumstances]): {**entry, "image_steps_per_second": rate}
        for circumstances, rate in (
            ({**here, "machine": "another"}, 1.0),
            ({**here, "layers": [["0", "", 3]]}, 2.0),
            (here, 6_000.0),
        )
    }
    (tmp_path / "engine.json").write_text(json.dumps({known.PRECISION: {}, **rates}))
    found = of(tmp_path, *IMAGES, *STUDENT)
    assert found.seconds["images"] == pytest.approx(1.0)
    assert not found.plainly
    assert pace.of_engine(dropout_teacher(), []) is None
    assert replace(pace, world=4).of_engine(net(), []) == 24_000


SECONDS = {"teacher": 60.0, "metadata": 0.2, "images": 5_400.0, "student": 600.0}
BYTES = {"teacher": 1_000_000, "images": 2_900_000_000, "student": 100_000_000}


def test_it_is_said_in_words():
    assert Forecast(SECONDS, BYTES, plainly=True).text() == (
        "about 1.7 h in all: teacher 60 s, images 90 min, less if an engine is faster, student 10 min; 3.0 GB of disk"
    )
    assert Forecast({"student": 0.2}, {"student": 1_000}).text() == "about 0 s in all; 1 kB of disk"


def test_jobs_of_a_sweep_have_a_teacher_for_each_seed_and_one_for_all_rows():
    seeds, rows = [["seed=0"], ["seed=1"], ["seed=2"]], [["row=a", "source=data"], ["row=b", "metadata=channels"]]
    assert [num_teachers(jobs) for jobs in (seeds, rows, [])] == [3, 1, 1]


def test_jobs_of_a_sweep_are_each_counted_as_what_it_is_and_what_they_share_once():
    """Two seeds of a student of real images, which asks, and of two students of the same reconstructions, each of 600 s."""
    data = Setting(2, Forecast({"teacher": 60.0, "student": 600.0}, {"teacher": 10, "student": 5}), "none", "data")
    one, other = (Setting(2, Forecast(SECONDS, BYTES), "channels", "waves") for _ in range(2))
    this = Forecast({"student": 600.0}, {"student": 5})
    students = 6 * 600.0
    assert of_sweep(this, [data, one, other], teachers=2) == pytest.approx(
        (students + 2 * (5_400.0 + 0.2), 2 * 5 + 4 * 100_000_000 + 2 * 2_900_000_000)
    ), "this job's teacher is there, and so is the other seed's"
    seconds, num_bytes = of_sweep(data.forecast, [data, one, other], teachers=2)
    assert seconds == pytest.approx(2 * 60.0 + students + 2 * (5_400.0 + 0.2))
    assert num_bytes == 2 * 10 + 2 * 5 + 4 * 100_000_000 + 2 * 2_900_000_000
    assert in_words(7_200.0, 6e9, 6, 2) == (
        "The sweep's 6 jobs that are left (2 of them, of other data or another teacher, taken for like this one): about 2.0 h one after "
        "another, and 6.0 GB of disk"
    )


def test_of_many_settings_some_are_looked_at():
    looked = []
    settings, times = settings_left(
        [[f"student.kwargs.width={n}"] for n in range(1, 101)], lambda job, count: looked.append(job)
    )
    assert len(settings) == len(looked) == 34
    assert times == pytest.approx(100 / 34)


def test_how_large_metadata_is_of_many_classes_is_not_found_out(tmp_path, monkeypatch):
    monkeypatch.setattr(TopLayer, "num_bytes", lambda *_: 7)
    few, many = (Pace(INPUTS, count, torch.device("cpu"), tmp_path) for count in (10, 1_000))
    assert (few.bytes_of(TopLayer(), net()), many.bytes_of(TopLayer(), net())) == (7, 0)
    assert few.bytes_of(SpectralLayerPairs(), net()) == 0, "follows from the images"


def test_a_basis_takes_longer_the_more_units_it_is_of(tmp_path):
    pace = Pace(INPUTS, 3, torch.device("cpu"), tmp_path)
    small, large = pace.of_basis([100, 50]), pace.of_basis([100, 100, 50])
    assert 0 < small < large
    layers = [Layer(name, (units,)) for name, units in (("a", 30), ("b", 20), ("c", 10))]
    assert SpectralLayerPairs().basis_sizes(layers) == [[30, 20], [20, 10]]
    assert SpectralLayerPairs(graph_rank=4).basis_sizes(layers) == []


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_step_is_timed_and_leaves_the_network_as_it_was(precision, tmp_path):
    teacher, pace = toy_teacher(), Pace(INPUTS, 3, torch.device("cpu"), tmp_path)
    before, state = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}, torch.get_rng_state()
    assert 0 < pace.of_training(teacher, Training(batch_size=16), precision, teacher) < 10
    assert pace.images_per_second(teacher, []) > 0
    assert pace.images_per_second(teacher, [], "fp32") > 0
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
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
    monkeypatch.setattr(announcement, "WORTH_SAYING", 0.0)
    ran = dfkd("-m", "seed=0,1")
    assert ran.code == 0, ran.err
    first, second = (line for line in ran.out.splitlines() if " in all: " in line)
    assert "images 20 s" in first
    assert "The sweep's 2 jobs that are left" in first
    assert "left" not in second, "one is left"
    assert ran.out.index(" in all: ") < ran.out.index("metadata: collecting")
    assert " in all: " not in dfkd("-m", "seed=0,1").out, "all of it is there"
    owner = dfkd("-m", "pipeline=release", "seed=2,3")
    first, second = (line for line in owner.out.splitlines() if " in all: " in line)
    assert "images" not in first + second
    assert "The sweep's 2 jobs that are left" in first
    assert "left" not in second


def test_a_table_is_forecast_by_what_its_rows_do(dfkd, monkeypatch, paced):
    """The row that begins makes no images; the other makes 200, each of 5 steps, at 50 a second."""
    monkeypatch.setattr(announcement, "WORTH_SAYING", 0.0)
    rows = "row=labels,top_layer", "seed=0", "recipe=paper", "teacher=mlp", "student=mlp", "data=digits"
    ran = dfkd("experiment=paper/table1", *rows)
    assert ran.code == 0, ran.err
    said = " ".join(ran.out.split())
    [left] = re.findall(r"The sweep's 2 jobs that are left: about (\d+) s one after another", said)
    assert int(left) > 20
    assert "images" not in said[said.index(" in all: ") : said.index("The sweep's")]


def test_jobs_that_reuse_a_teacher_or_a_release_forecast_the_rest_of_their_sweep(dfkd, monkeypatch):
    """With everything timed as it is: two recipes of two kinds of metadata, of one teacher."""
    monkeypatch.setattr(announcement, "WORTH_SAYING", 0.0)
    told = "experiment=paper/table1", "row=top_layer,spectral_all_layers", "teacher=mlp", "student=mlp", "data=digits"
    ran = dfkd(*told, "seed=0", "recipe=paper")
    assert ran.code == 0, ran.err
    for _ in range(2):
        again = dfkd(*told, "seed=0", "recipe=paper,best")
        assert again.code == 0, again.err
        assert "could not be found out" not in ran.out + again.out
        for student in ran.outputs.glob("store/student/*/"):
            shutil.rmtree(student)
    assert "jobs that are left: about" in " ".join(again.out.split())


def test_what_cannot_be_timed_does_not_end_the_run(dfkd, monkeypatch):
    def fails(*_):
        raise RuntimeError("a step of 17 images is not to be had")

    monkeypatch.setattr(Pace, "of_training", fails)
    ran = dfkd()
    assert ran.code == 0, ran.err
    assert (
        "how long it will take could not be found out (RuntimeError: a step of 17 images is not to be had)" in ran.out
    )
