"""Rows of an experiment: each composes, is run by its name, and is carried into the result."""

import json

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from dfkd_exp.config.effect import beyond_scale
from dfkd_exp.config.groups import CONF, choices
from dfkd_exp.config.own import instead_of_own
from dfkd_exp.config.rows import Row, naming_row, said_otherwise, with_row
from dfkd_exp.config.typed import rows_of, typed
from dfkd_exp.data.base import Outline
from dfkd_exp.errors import ConfigError
from tests.mnist import make_mnist

ROWS = [
    Row("top", "top layer", ["metadata=top_layer"]),
    Row("rank4", "rank 4", ["metadata=all_layers", "metadata.rank=4"]),
]
EXPERIMENTS = choices("experiment")


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=True)


def written(experiment):
    """The rows that stand in the experiment's own file."""
    said = yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text())
    return [Row(**row) for row in said.get("rows", [])]


WITH_ROWS = {name: rows for name in EXPERIMENTS if (rows := written(name))}
DIFFERENT = {tuple(row.set): (experiment, row) for experiment, rows in WITH_ROWS.items() for row in rows}
"""What rows set, each once, with an experiment that has such a row: to compose takes a while."""


def test_the_papers_tables_and_the_trade_off_have_rows():
    assert {"paper/table1", "paper/table2", "paper/table3", "tradeoff"} <= set(WITH_ROWS)


def test_an_experiment_that_starts_from_another_has_its_rows():
    assert rows_of(composed("experiment=tradeoff_mnist_hinton")) == WITH_ROWS["tradeoff"]


@pytest.mark.parametrize(
    ("experiment", "row"), [pytest.param(*value, id=" ".join(key)) for key, value in DIFFERENT.items()]
)
def test_what_every_row_sets_composes(experiment, row):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = with_row([f"experiment={experiment}", f"row={row.name}"], WITH_ROWS[experiment], experiment)
        config = typed(compose("config", overrides=overrides))
    assert config.row == row.name


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_rows_of_an_experiment_differ_and_its_sweep_chooses_some_of_them(experiment):
    config = composed(f"experiment={experiment}")
    rows = rows_of(config)
    for what in ("name", "title", "set"):
        values = [str(getattr(row, what)) for row in rows]
        assert len(set(values)) == len(values), f"two rows of {experiment} have the same {what}"
    if not rows:
        return
    params = config.hydra.sweeper.params
    [said] = OverridesParser.create().parse_overrides([f"row={params.get('row', rows[0].name)}"])
    chosen = said.value().list if said.is_sweep_override() else [said.value()]
    assert {str(name) for name in chosen} <= {row.name for row in rows}


def test_a_rows_overrides_stand_before_what_was_said():
    assert with_row(["row=rank4", "seed=1"], ROWS, "e") == [
        "metadata=all_layers",
        "metadata.rank=4",
        "row=rank4",
        "seed=1",
    ]
    twice = with_row(with_row(["row=top"], ROWS, "e"), ROWS, "e")
    assert twice == ["metadata=top_layer", "row=top"]
    assert with_row(["seed=1"], ROWS, "e") == ["seed=1"]


def test_what_is_said_in_the_place_of_the_rows_is_told():
    row = ROWS[1].plain()
    assert said_otherwise(row, ["metadata=all_layers", "row=rank4", "metadata.rank=8"]) == ["metadata.rank=8"]
    assert said_otherwise(row, ["metadata=all_layers", "metadata.rank=4", "row=rank4", "seed=1"]) == []
    assert said_otherwise({}, ["metadata.rank=8"]) == []


def test_a_value_that_is_said_is_in_the_place_of_the_rows():
    said = ["row=rank4", "metadata.rank=8"]
    assert with_row(said, ROWS, "e") == ["metadata=all_layers", "row=rank4", "metadata.rank=8"]
    assert with_row(with_row(said, ROWS, "e"), ROWS, "e") == with_row(said, ROWS, "e")


@pytest.mark.parametrize(
    ("overrides", "rows", "said"),
    [
        (["row=tpo"], ROWS, r"row=tpo: experiment=e has no such row; choose one of top, rank4 \(did you mean top\?\)"),
        (["row="], ROWS, "row=: experiment=e has no such row; choose one of top, rank4$"),
        (["row=top"], [], "experiment=e has no rows"),
        (["row=top", "metadata=spatial"], ROWS, "metadata=spatial: row=top is metadata=top_layer"),
        (["row=top"], [*ROWS, ROWS[0]], "two rows called top"),
    ],
)
def test_a_row_that_cannot_be_is_refused(overrides, rows, said):
    with pytest.raises(ConfigError, match=said):
        with_row(overrides, rows, "e")


@pytest.mark.parametrize(
    "wrong",
    [{"name": "a b", "title": "t"}, {"name": "a"}, {"name": "a", "title": "t", "set": ["metadata"]},
     {"name": "a", "title": "t", "set": ["row=b"]}],
)  # fmt: skip
def test_a_row_is_checked(wrong):
    with pytest.raises(ConfigError):
        Row(**wrong)


def test_a_mistake_is_laid_at_the_rows_door_only_if_it_is_the_rows():
    assert naming_row("metadata.rank must be at least 1", ["row=rank4"], ROWS, "e") == (
        "experiment=e, row rank4: metadata.rank must be at least 1"
    )
    assert naming_row("metadata.rank_of must be", ["row=rank4"], ROWS, "e") == "metadata.rank_of must be"
    assert naming_row("optimizer.lr must be positive", ["row=rank4"], ROWS, "e") == "optimizer.lr must be positive"


MINE = """# @package _global_
# mine: an experiment of my own
name: mine
rows:
  - {name: top, title: the logits, set: [metadata=top_layer], published: 12.5}
  - {name: noise, title: only noise, set: [source=noise]}
  - {name: wrong, title: impossible, set: [metadata.rank=0]}
  - {name: odd, title: unheard of, set: [metadata=top_lyer]}
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      row: top,noise
"""


HEIR = """# @package _global_
# heir: some of its rows
defaults:
  - mine

name: heir
hydra:
  sweeper:
    params:
      row: noise
"""


@pytest.fixture
def mine(dfkd, tmp_path):
    """``mine(…)`` runs the command with experiments of somebody's own."""
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(MINE)
    (folder / "heir.yaml").write_text(HEIR)
    return lambda *arguments: dfkd("--config-dir", str(folder.parent), *arguments)


def test_a_sweep_runs_the_rows_that_it_has_chosen_and_plans_what_is_run(mine):
    ran = mine("experiment=mine")
    assert ran.code == 0, ran.err
    assert [result["row"]["title"] for result in ran.results()] == ["the logits", "only noise"]
    assert ran.results()[0]["row"]["published"] == 12.5
    assert [result["metadata"] for result in ran.results()] == ["TopLayer", "AllLayers"]
    [path] = ran.outputs.glob("runs/mine/*/sweep.json")
    plan = json.loads(path.read_text())
    assert [job[:2] for job in plan["jobs"]] == [["metadata=top_layer", "row=top"], ["source=noise", "row=noise"]]
    assert [row["name"] for row in plan["rows"]] == ["top", "noise"]
    assert "the logits" in ran.out


def test_an_experiment_may_choose_rows_of_the_one_it_starts_from(mine):
    ran = mine("experiment=heir")
    assert ran.code == 0, ran.err
    assert [(result["name"], result["row"]["name"]) for result in ran.results()] == [("heir", "noise")]


@pytest.mark.parametrize("how", [[], ["hydra.mode=RUN"], ["hydra/sweeper=basic"]])
def test_a_single_row_is_the_same_however_it_is_run(mine, how):
    ran = mine("experiment=mine", "row=top", *how)
    assert ran.code == 0, ran.err
    assert ran.result["metadata"] == "TopLayer"
    assert ran.result["row"] == {"name": "top", "title": "the logits", "set": ["metadata=top_layer"], "published": 12.5}
    assert ran.result["words"]["metadata=top_layer"] == "top layer"
    [config] = ran.outputs.glob("runs/mine/**/config.yaml")
    assert "only noise" not in config.read_text()


def test_rows_run_in_processes_of_their_own(dfkd):
    ran = dfkd(
        "experiment=tradeoff",
        "row=noise",
        "seed=0",
        "privacy=false",
        "hydra/launcher=processes",
        "hydra.launcher.jobs=1",
    )
    assert ran.code == 0, ran.out + ran.err
    assert ran.result["row"]["title"] == "noise"
    assert ran.result["source"] == "FromNoise"


@pytest.mark.parametrize("how", [[], ["hydra.mode=RUN"]])
@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("", "row=: experiment=mine has no such row; choose one of top, noise, wrong, odd"),
        ("tpo", "row=tpo: experiment=mine has no such row; choose one of top, noise, wrong, odd (did you mean top?)"),
        ("wrong", "experiment=mine, row wrong: metadata.rank must be at least 1, got 0"),
        ("odd", "experiment=mine, row odd: metadata=top_lyer: there is no such metadata"),
    ],
)
def test_a_mistake_in_a_row_names_it(mine, row, said, how):
    ran = mine("experiment=mine", f"row={row}", *how)
    assert ran.code == 2
    assert f"error: {said}" in ran.err
    assert not ran.results()


@pytest.mark.parametrize("how", [[], ["hydra.mode=RUN"]])
def test_values_of_what_a_row_chooses_may_be_said_beside_it(dfkd, how):
    flags = ("source.student_steps=3", "source.images=64", "seed=0", "training.epochs=1", "distillation.epochs=1")
    ran = dfkd("experiment=field", "row=fast", *flags, *how)
    assert ran.code == 0, ran.err
    [config] = ran.outputs.glob("runs/field/**/config.yaml")
    said = yaml.safe_load(config.read_text())
    assert (said["source"]["student_steps"], said["source"]["images"]) == (3, 64)
    assert (said["choices"]["method"], said["choices"]["source"]) == ("fast", "synthesis")
    assert ran.result["row"]["name"] == "fast"
    assert {"method=fast", *flags} <= set(ran.result["overrides"])
    ran = dfkd("experiment=field", "row=fast", "source.student_stesp=3", *how)
    assert ran.code == 2
    assert "source has no student_stesp" in ran.err


def test_what_only_one_of_several_rows_has_is_refused_before_any_runs(dfkd):
    ran = dfkd("experiment=field", "row=fast,dfkd", "source.student_steps=3", "seed=0")
    assert ran.code == 2
    assert "source.student_steps: the chosen source has no student_steps" in ran.err
    assert not ran.results()


def test_a_config_is_shown_with_what_its_row_sets(dfkd):
    ran = dfkd("--cfg", "job", "--package", "parametrisation", "experiment=field", "row=dafl", small=False)
    assert ran.code == 0, ran.err
    assert "width: 16" in ran.out
    ran = dfkd("--cfg", "job", "--package", "choices", "experiment=field", "row=dafl", small=False)
    assert yaml.safe_load(ran.out)["parametrisation"] == "dafl"
    ran = dfkd("--cfg", "job", "experiment=field", "row=nothing", small=False)
    assert ran.code == 2
    assert "experiment=field has no such row" in ran.err


def test_a_run_without_a_row_has_none(dfkd):
    assert dfkd().result["row"] is None
    ran = dfkd("row=top")
    assert ran.code == 2
    assert "rows are those of an experiment" in ran.err


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        ([], []),
        (["data=mnist", "data.root=elsewhere", "recipe=best", "teacher=hinton_net"], []),
        (["data=digits", "teacher=mlp"], ["data=digits", "teacher=mlp"]),
        (["data.limit=100"], ["data.limit=100"]),
    ],
)
def test_what_is_not_the_experiments_own_is_told(said, instead):
    own = composed("experiment=paper/table1")
    run = composed("experiment=paper/table1", *said)
    assert instead_of_own(run, said, own, own.hydra.runtime.choices) == instead


def test_every_table_of_the_paper_says_by_which_recipe():
    for experiment in (name for name in EXPERIMENTS if name.startswith("paper/")):
        assert "recipe" in composed(f"experiment={experiment}").hydra.sweeper.params, experiment


def test_a_single_run_of_a_table_is_told_which_choices_of_the_table_it_lacks(dfkd, monkeypatch, tmp_path):
    make_mnist(tmp_path / "data", monkeypatch)
    run = ["experiment=paper/table1", "hydra.mode=RUN", "row=noise", "seed=0"]
    lacks = "the experiment's own runs have: {}; this one has none of it"
    assert lacks.format("recipe=paper,best") in " ".join(dfkd(*run).err.split())
    assert "none of it" not in dfkd(*run, "recipe=best").err


@pytest.mark.parametrize(
    "scale", [[], ["scale=smoke"], ["reconstruction.images_per_class=30", "reconstruction.group_size=10"]]
)
def test_students_of_the_field_learn_for_as_many_updates_whatever_the_scale(scale):
    rows, updates = WITH_ROWS["field"], set()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for row in (
            row for row in rows if row.name in ("data", "noise", "dfkd", "adaptive_deep_inversion", "dafl", "cmi")
        ):
            config = typed(
                compose("config", overrides=with_row(["experiment=field", f"row={row.name}", *scale], rows, "field"))
            )
            made = 10 * config.reconstruction.images_per_class
            shown = made - round(made * config.distillation.holdout)
            updates.add(
                config.distillation.num_steps(config.source.num_images(shown, Outline((1, 8, 8), 10, 1437, 64)))
            )
    assert len(updates) == 1


def test_what_of_a_rows_budget_is_not_the_scales_is_told():
    row = ["method=dafl", "source.images=9500", "distillation.epochs=83"]
    assert beyond_scale([*row, "scale=smoke"], row) == ["distillation.epochs=83"]
    assert beyond_scale([*row[:2], "scale=smoke", "distillation.epochs=1"], row) == []
    assert beyond_scale(row, row) == beyond_scale([*row, "scale=null"], row) == []
