"""Every file in conf/ composes into usable objects; every field is documented."""

import ast
import inspect
from dataclasses import fields
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, flag_override

from dfkd_exp.config import CONF, SCHEMA, Config, choices, groups, kinds, typed
from dfkd_exp.settings import Settings, import_by_path

NEEDS = {
    "data=image_folder": ["data.path=somewhere"],
    "data=hub": ["data.name=somebody/something"],
    "teacher=custom": ["teacher.target=a.B"],
    "student=custom": ["student.target=a.B"],
    "optimizer=custom": ["optimizer._target_=torch.optim.RMSprop"],
    "pipeline=from_release": ["release=somewhere"],
    "data=none": ["pipeline=from_release", "release=somewhere"],
}
CHOICES = [f"{group}={name}" for group in groups() for name in choices(group)]


def composed(*overrides: str) -> Config:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose("config", overrides=list(overrides)))


@pytest.fixture(scope="module")
def default() -> DictConfig:
    """The whole tree, before it is made into objects; composing it takes half a second."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config")


def chosen(default: DictConfig, choice: str) -> Config:
    """The tree with one choice. One of a single group is composed alone and put into its place."""
    group, _, name = choice.partition("=")
    needs = NEEDS.get(choice, [])
    if not SCHEMA.search((CONF / group / f"{name}.yaml").read_text()) or not all(n.startswith(group) for n in needs):
        return composed(choice, *needs)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        alone = compose(f"{group}/{name}", overrides=["hydra.searchpath=[import://]", *needs])
    tree = default.copy()
    with flag_override(tree, "struct", False):
        tree[group] = alone[group]
    return typed(tree)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_into_objects(choice, default):
    config = chosen(default, choice)
    group, _, name = choice.partition("=")
    if schema := kinds(group).get(name):
        assert type(getattr(config, group)) is schema
        assert getattr(config, group).flag == group
    if group == "pipeline":
        assert config.pipeline == name
    if group == "experiment":
        assert config.name == name.replace("/", "_")
    config.hash()
    config.plain()


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_no_file_repeats_a_default(path):
    content = OmegaConf.to_container(OmegaConf.load(path))
    schema = SCHEMA.search(path.read_text())
    if schema is None or path.name == "config.yaml":
        return
    defaults = {f.name: f for f in fields(import_by_path(schema[1], ""))}
    for name, value in content.items():
        if name not in ("defaults", "name"):
            assert value != defaults[name].default, f"{path} repeats the default of {name}"


@pytest.mark.parametrize("path", sorted((CONF / "experiment").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_says_command_expected_figure_cost_and_table(path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("command ", "expected ", "cost ", "table "):
        line = next((line for line in header if line.startswith(f"# {word}")), "")
        assert len(line) > 20, f"{path}: the header has no line '# {word}…'"
        assert "TODO" not in line
    name = path.relative_to(CONF / "experiment").with_suffix("")
    assert f"dfkd experiment={name}" in path.read_text()


def test_recipe_and_scale_win_over_the_experiment_and_flags_over_all():
    config = composed("experiment=mnist_lenet_quick", "recipe=paper", "scale=smoke", "reconstruction.steps=7")
    assert type(config.reconstruction).__name__ == "Sample"
    assert config.reconstruction.images_per_class == 20
    assert config.reconstruction.steps == 7
    assert config.teacher.name == "lenet5"


def test_right_of_the_wall_an_experiment_brings_no_data():
    config = composed("experiment=mnist_lenet_quick", "pipeline=from_release", "release=somewhere")
    assert not config.data.available
    assert composed("pipeline=from_release", "release=somewhere", "data=mnist").data.available


def test_where_and_how_it_is_logged_does_not_change_the_hash():
    plain = composed().hash()
    assert composed("outputs=elsewhere", "logger=none", "name=other", "trainer=cpu").hash() == plain
    assert composed("seed=1").hash() != plain
    assert composed("distillation.temperature=4").hash() != plain


def all_settings() -> list[type[Settings]]:
    found, queue = [], [Settings]
    while queue:
        for child in queue.pop().__subclasses__():
            found.append(child)
            queue.append(child)
    return sorted(set(found), key=lambda cls: cls.__qualname__)


@pytest.mark.parametrize("cls", all_settings(), ids=lambda cls: cls.__name__)
def test_every_field_says_what_it_is(cls):
    body = ast.parse(inspect.getsource(cls)).body[0].body
    for node, following in zip(body, [*body[1:], None], strict=True):
        is_field = isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation)
        if is_field and not (cls is Config and kinds(node.target.id)):
            documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            assert documented, f"{cls.__name__}.{node.target.id} has no docstring"


def test_the_reference_of_all_fields_is_current():
    from dfkd_exp.report.config_reference import config_reference

    path = Path(__file__).parents[1] / "docs" / "config.md"
    assert path.read_text() == config_reference(), "run: python -m dfkd_exp.report.config_reference"
