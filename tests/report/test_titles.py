"""Runs are called in words: by their row, and by what else is not the same for all of them."""

import pytest

from dfkd_exp.config.groups import CONF, choices, groups
from dfkd_exp.config.words import headline, in_words, words_of
from dfkd_exp.report.titles import described, teachers_in_words, titles
from tests.each import each

TOP = {"name": "top", "title": "top layer", "set": ["metadata=top_layer"], "published": None}
ALL = {"name": "all", "title": "all layers", "set": ["metadata=all_layers"], "published": None}


def run(row, *overrides):
    own = [*row["set"], f"row={row['name']}"] if row else []
    return {"overrides": [*own, *overrides], "row": row, "words": words_of(overrides)}


def test_a_run_is_called_by_its_row_and_by_what_differs_but_the_seed():
    told = [("data=mnist", f"recipe={recipe}", f"seed={seed}") for recipe in ("paper", "best") for seed in (0, 1)]
    runs = [run(row, *overrides) for row in (TOP, ALL) for overrides in told]
    assert list(dict.fromkeys(titles(runs))) == [
        "top layer; the paper's recipe", "top layer; our recipe", "all layers; the paper's recipe", "all layers; our recipe",
    ]  # fmt: skip
    assert titles(runs)[0] == titles(runs)[1]


def test_a_row_that_all_share_is_said_too():
    assert titles([run(TOP, "seed=0"), run(TOP, "seed=1")]) == ["top layer", "top layer"]
    assert titles([run(TOP, "metadata.rank=4"), run(TOP, "metadata.rank=8")]) == [
        "top layer; rank 4",
        "top layer; rank 8",
    ]
    assert titles([run(None, "data=mnist", "seed=0")]) == [""]
    assert titles([]) == []


def test_what_is_said_in_the_place_of_a_rows_value_is_always_said():
    row = {"name": "ranks", "title": "low rank", "set": ["metadata=all_layers", "metadata.rank=4"], "published": None}
    run = {"overrides": ["metadata=all_layers", "row=ranks", "metadata.rank=8"], "row": row, "words": {}}
    assert titles([run]) == ["low rank; metadata.rank=8"]
    other = {**run, "overrides": [*run["overrides"][:-1], "metadata.rank=16"]}
    assert titles([run, other]) == ["low rank; metadata.rank=8", "low rank; metadata.rank=16"]
    assert described(run) == "low rank; metadata.rank=8"


def test_two_settings_never_have_one_title():
    runs = [
        {"overrides": [text], "words": {"metadata=a": "same", "metadata=b": "same"}}
        for text in ("metadata=a", "metadata=b")
    ]
    assert titles(runs) == ["same; metadata=a", "same; metadata=b"]


def test_a_teacher_is_told_from_others_by_what_was_said_of_it_and_of_its_data():
    runs = [run(TOP, f"teacher={name}", "data=mnist", "student=mlp") for name in ("lenet5", "cnn")]
    taught = [{**run, "teacher": run["overrides"][2]} for run in runs]
    assert teachers_in_words(taught) == ["teacher LeNet-5", "teacher small convolutional network"]
    at_length = [{**run(TOP, f"training.epochs={epochs}"), "teacher": "mlp"} for epochs in (1, 9)]
    assert len(set(teachers_in_words(at_length))) == 2
    by_default = [{**run(TOP), "teacher": "mlp"}, {**run(TOP), "teacher": "lenet5"}]
    assert teachers_in_words(by_default) == ["mlp", "lenet5"]
    assert teachers_in_words(by_default[:1]) == [""]


def test_what_has_no_words_is_called_as_it_was_said():
    assert titles([{"overrides": ["point=a"]}, {"overrides": ["point=b"]}]) == ["point=a", "point=b"]


def test_a_run_by_itself_says_all_that_it_was_told():
    assert described(run(TOP, "metadata.rank=4", "seed=7")) == "top layer; rank 4; seed=7"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("metadata=top_layer", "top layer"),
        ("student=lenet5", "student LeNet-5"),
        ("metadata=my_package.kinds.Median", "metadata Median"),
        ("distillation.lr=0.01", "distillation learning rate 0.01"),
        ("distillation.lr=0.016117051229165152", "distillation learning rate 0.01612"),
        ("distillation.lr=6.053470775818013e-05", "distillation learning rate 6.053e-05"),
        ("metadata.dp.epsilon=null", "epsilon none"),
        ("+student.kwargs.width=8", "student width 8"),
        ("reconstruction.images_per_class=20", "images per class 20"),
        ("privacy=true", "privacy yes"),
    ],
)
def test_an_override_in_words(override, words):
    assert in_words(override) == words


def test_a_seed_and_a_row_have_no_words():
    assert words_of(["seed=1", "row=a", "metadata.rank=2"]) == {"metadata.rank=2": "rank 2"}


@each((group, name) for group in groups() for name in choices(group))
def test_every_choice_has_a_short_title_of_its_own(group, choice):
    title, _ = headline(CONF / group / f"{choice}.yaml")
    assert 2 < len(title) <= 60, f"{group}/{choice}: begin its first comment with '# TITLE: explanation'"
    assert [headline(CONF / group / f"{name}.yaml")[0] for name in choices(group)].count(title) == 1
