"""Shortened, Hydra composes the same, and knows as well whether a command is a sweep."""

import inspect
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import OmegaConf

from dfkd_exp.config import composition
from dfkd_exp.config.groups import CONF, choices, groups
from tests import compositions

AS_IT_IS = ConfigLoaderImpl._load_configuration_impl
"""When tests are collected, before `tests.conftest` replaces it."""


@pytest.fixture(autouse=True)
def as_hydra_is(monkeypatch):
    """Whatever ran in this process before, and though tests compose the same choices once."""
    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", AS_IT_IS)
    monkeypatch.setattr(Hydra, "get_mode", composition._get_mode)
    monkeypatch.setattr(Hydra, "compose_config", composition._compose_config)
    monkeypatch.setattr(defaults_list, "_create_interpolation_map", composition._create_interpolation_map)


@pytest.fixture
def shortened(as_hydra_is):
    """As in a command."""
    composition.shorten()


def mode(*overrides: str, before: Path | None = None):
    """``hydra.mode`` as Hydra finds it for ``dfkd OVERRIDES``; a folder ``before`` ours is that of ``--config-dir``."""
    path = create_config_search_path(str(CONF))
    if before is not None:
        path.prepend(provider="command-line", path=f"file://{before}")
    try:
        return Hydra.create_main_hydra2("dfkd", path).get_mode("config", list(overrides))
    finally:
        GlobalHydra.instance().clear()


def counted(monkeypatch) -> list:
    """Every composition from now on."""
    composed, real = [], Hydra.compose_config

    def compose_config(self, *args, **kwargs):
        composed.append(args)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Hydra, "compose_config", compose_config)
    return composed


@pytest.mark.parametrize(
    ("overrides", "sweeps"),
    [
        (["hydra.mode=MULTIRUN"], True),
        (["hydra.mode=RUN", "experiment=tradeoff"], False),
        (["experiment=tradeoff", "seed=1"], True),
        (["experiment=mnist_lenet_quick"], False),
        (["sweep=seeds"], True),
        (["scale=smoke", "+sweep=seeds"], False),  # it cannot be composed; the run says why
    ],
)
def test_a_mode_that_is_said_is_honoured(shortened, overrides, sweeps):
    assert (mode(*overrides) is RunMode.MULTIRUN) is sweeps


def test_a_run_that_says_nothing_of_it_is_not_composed_for_its_mode(shortened, monkeypatch):
    composed = counted(monkeypatch)
    assert (
        mode("metadata=top_layer,all_layers", "scale=smoke", "distillation/optimizer=sgd", "metadata.rank=3", "seed=1")
        is None
    )
    assert not composed
    mode("sweep=seeds")
    assert composed


def composed(*overrides: str):
    """The config of a sweep, as Hydra composes it before there are jobs."""
    try:
        hydra = Hydra.create_main_hydra2("dfkd", create_config_search_path(str(CONF)))
        return hydra.compose_config("config", list(overrides), RunMode.MULTIRUN)
    finally:
        GlobalHydra.instance().clear()


def test_a_sweep_keeps_all_values_but_those_that_are_nowhere_without_a_row(shortened):
    said = ["experiment=field", "row=fast", "source.student_steps=3", "trainer=ddp", "trainer.devices=2", "name=mine"]
    config = composed(*said, "hydra.verbose=false")
    assert (config.trainer.devices, config.name) == (2, "mine")
    assert list(config.hydra.overrides.task) == said
    assert "student_steps" not in config.source
    assert "source.student_steps=3" in config.hydra.job.override_dirname


def test_a_value_that_is_nowhere_is_refused_where_there_are_no_rows(shortened):
    with pytest.raises(ConfigCompositionException):
        composed("experiment=mnist_lenet_quick", "source.student_steps=3", "seed=0,1")


def test_a_choice_of_somebody_elses_may_say_the_mode(shortened, monkeypatch):
    composed = counted(monkeypatch)
    assert mode("scale=theirs") is None  # there is no such file
    assert composed


def test_a_folder_of_configs_may_say_the_mode(shortened, tmp_path):
    (tmp_path / "scale").mkdir()
    (tmp_path / "scale" / "smoke.yaml").write_text("# @package _global_\nhydra:\n  mode: MULTIRUN\n")
    assert mode("scale=smoke", before=tmp_path) is RunMode.MULTIRUN
    assert mode("scale=smoke") is None


def test_no_other_choice_of_ours_says_the_mode():
    for group in groups():
        if not group.startswith(("experiment", "sweep")):
            for name in choices(group):
                path = CONF / group / f"{name}.yaml"
                text = path.read_text() if path.is_file() else ""
                assert "mode:" not in text, f"{path}: composition.py looks for it in experiments and sweeps"
                assert "/experiment" not in text
                assert "/sweep:" not in text


INTERPOLATED = {
    "main.yaml": "defaults:\n- one: b\n- two: ${one}_small\n- three@other: plain\n- _self_\nmain: 1\n",
    "one/a.yaml": "name: a\n",
    "one/b.yaml": "defaults:\n- inner: y\n- _self_\nname: b\n",
    "one/inner/x.yaml": "inner: x\n",
    "one/inner/y.yaml": "inner: y\n",
    "two/a_small.yaml": "size: 1\n",
    "two/b_small.yaml": "size: 2\n",
    "three/plain.yaml": "plain: true\n",
}


@pytest.mark.parametrize("overrides", [[], ["one=a"], ["two=a_small"], ["one/inner=x"], ["~three@other"]])
def test_choices_that_follow_from_others_are_composed_the_same(tmp_path, overrides, request):
    for name, text in INTERPOLATED.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def composed() -> dict:
        with initialize_config_dir(str(tmp_path), version_base="1.3"):
            return OmegaConf.to_container(compose("main", overrides=overrides))

    plain = composed()
    request.getfixturevalue("shortened")
    assert composed() == plain
    assert plain["two"]["size"] == (1 if overrides in (["one=a"], ["two=a_small"]) else 2)


@pytest.mark.parametrize(
    "overrides", [["experiment=paper/table1"], ["recipe=paper", "terms=[l2,label]", "teacher=cnn"]]
)
def test_our_own_config_is_composed_the_same(overrides, request):
    def composed() -> dict:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return OmegaConf.to_container(compose("config", overrides=overrides), resolve=False)

    plain = composed()
    request.getfixturevalue("shortened")
    assert composed() == plain


ONCE = [
    (["seed=1", "scale=smoke", "distillation.epochs=3", "distillation.epochs=4"], 1),
    (["scale=smoke", "seed=2", "outputs=/a b", "name=${oc.env:HOME}"], 1),
    (["experiment=paper/table1", "row=labels"], 2),
    (["terms=[l2,label]", "terms.l2.weight=3"], 3),
    (["student=mlp", "+student.kwargs.depth=2", "training/optimizer=sgd", "training.optimizer.lr=0.5"], 4),
    (["hydra.job.name=mine", "scale=smoke", "seed=1", "hydra.mode=RUN"], 5),
    (["hydra.job.name=mine", "scale=smoke", "seed=2", "hydra.mode=RUN"], 5),
    (["hydra/launcher=processes"], 6),
    (["metadata=dfkd_exp.metadata.AllLayers", "metadata.rank=3"], 6),
    (["~scale"], 6),
]
"""What is said, and how many choices tests have composed once by then."""


def test_what_tests_compose_once_is_the_same(monkeypatch):
    def composed(overrides: list[str]) -> dict:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return OmegaConf.to_container(compose("config", overrides=overrides, return_hydra_config=True))

    plain = [composed(overrides) for overrides, _ in ONCE]
    monkeypatch.setattr(compositions, "COMPOSED", {})
    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", compositions.once(AS_IT_IS))
    for (overrides, kept), expected in zip(ONCE, plain, strict=True):
        assert composed(overrides) == expected
        assert len(compositions.COMPOSED) == kept
    for wrong in ("sed=3", "seed=x", "+seed=3", "seed=1,2", "scale=none"):
        with pytest.raises(ConfigCompositionException):
            composed(["scale=smoke", wrong])


JOBS = [
    ["student=mlp", "seed=0"],
    ["student=mlp", "seed=1", "distillation.optimizer.lr=0.1"],
    ["seed=2", "student=cnn", "name=${oc.env:HOME}"],
    ["student=mlp", "seed=0", "+student.kwargs.depth=2"],
    ["student=mlp", "scale=smoke", "distillation.epochs=3", "distillation.epochs=4", "terms=[l2]"],
    ["student=mlp", "scale=smoke", "distillation.epochs=3", "terms=[l2]", "hydra.job.name=mine"],
    ["~scale", "training/optimizer=sgd", "training.optimizer.lr=0.5"],
]


def test_a_sweeps_jobs_are_composed_the_same(monkeypatch):
    loader = Hydra.create_main_hydra2("dfkd", create_config_search_path(str(CONF))).config_loader
    GlobalHydra.instance().clear()
    master = loader.load_configuration("config", ["seed=0,1", "hydra.job.name=master"], RunMode.MULTIRUN)
    plain = [OmegaConf.to_container(loader.load_sweep_config(master, job)) for job in JOBS]
    composed, real = [], loader.load_sweep_config
    monkeypatch.setattr(loader, "load_sweep_config", lambda *given: composed.append(given) or real(*given))
    jobs = composition.JobConfigs(SimpleNamespace(config_loader=loader))
    checked = [jobs.load(master, job) for job in JOBS]
    assert [OmegaConf.to_container(config) for config in checked] == plain
    assert all(jobs.load(master, job) is config for job, config in zip(JOBS, checked, strict=True)), "checked, then run"
    assert len(composed) == len(JOBS) - 1, "one more has the choices of the first"
    assert jobs.load(master, JOBS[0]) is not checked[0], "a run changes its config"
    with pytest.raises(ConfigCompositionException, match="Could not override 'sed'"):
        jobs.load(master, ["student=mlp", "sed=3"])


def test_what_is_replaced_is_as_hydra_has_it():
    """A Hydra of another shape would be shortened into something else."""
    assert list(inspect.signature(composition._get_mode).parameters) == ["self", "config_name", "overrides"]
    assert list(inspect.signature(composition._get_sanitized_cfg).parameters) == ["self", "cfg", "cfg_type"]
    replaced = list(inspect.signature(composition._create_interpolation_map).parameters)
    assert replaced == ["overrides", "defaults_list", "self_added"]


def test_a_choice_that_names_another_finds_it(tmp_path, monkeypatch):
    monkeypatch.setattr(defaults_list, "_create_interpolation_map", composition._map_where_needed)
    (tmp_path / "one").mkdir()
    for name in ("a", "b"):
        (tmp_path / "one" / f"{name}.yaml").write_text(f"is: {name}\n")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "of_b.yaml").write_text("found: true\n")
    (tmp_path / "config.yaml").write_text("defaults:\n  - one: a\n  - optional two: of_${one}\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert "two" not in compose("config")
        assert compose("config", overrides=["one=b"]).two.found
