"""Every file in conf/ composes into usable objects; every field is documented."""

import ast
import inspect
import re
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, flag_override

from dfkd_exp.config import composition
from dfkd_exp.config.groups import CONF, SCHEMA, choices, groups, home, kinds, on_command_line, said_by, sharing
from dfkd_exp.config.tree import Config
from dfkd_exp.config.typed import typed
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.help import COMMANDS
from dfkd_exp.settings import Settings, import_by_path
from dfkd_exp.training.augmentation import Affine, NoAugmentation
from dfkd_exp.training.optimizers import Adam, Sgd
from dfkd_exp.training.schedules import Constant
from dfkd_exp.training.settings import Training
from tests.each import each

NEEDS = {
    "data=image_folder": ["data.path=somewhere"],
    "data=arrays": ["data.path=somewhere"],
    "data=hub": ["data.name=somebody/something"],
    "teacher=custom": ["teacher.target=a.B"],
    "student=custom": ["student.target=a.B"],
    "optimizer=custom": ["optimizer._target_=torch.optim.RMSprop"],
    "training/optimizer=custom": ["training.optimizer._target_=torch.optim.RMSprop"],
    "distillation/optimizer=custom": ["distillation.optimizer._target_=torch.optim.RMSprop"],
    "pipeline=from_release": ["release=somewhere"],
    "data=none": ["pipeline=from_release", "release=somewhere"],
}
CHOICES = [f"{each}={name}" for group in groups() for each in (group, *sharing(group)) for name in choices(group)]


@dataclass
class Darkened(Affine):
    """A policy of somebody else's."""

    most: float = 0.5
    """Largest share of the light that is taken away."""


composition.shorten()  # tests/test_composition.py: what is composed stays the same


def plain(value: object) -> object:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def composed(*overrides: str) -> Config:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose("config", overrides=list(overrides)))


@pytest.fixture(scope="module")
def default() -> DictConfig:
    """The whole tree, before it is made into objects; composing it takes half a second."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config")


def chosen(default: DictConfig, choice: str) -> Config:
    """The tree with one choice. One that says nothing of other groups is composed alone and put into its place."""
    group, _, name = choice.partition("=")
    needs, text = NEEDS.get(choice, []), (home(group) / f"{name}.yaml").read_text()
    flag = flag_of(choice)
    reaches_others = "override /" in text or not all(need.startswith(flag) for need in needs)
    if not SCHEMA.search(text) or reaches_others or not (CONF / group / f"{name}.yaml").is_file():
        return composed(f"terms=[{name}]" if group == "terms" else choice, *needs)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        alone = compose(f"{group}/{name}", overrides=["hydra.searchpath=[import://]", *needs])
    tree = default.copy()
    with flag_override(tree, "struct", False):
        OmegaConf.update(tree, flag, OmegaConf.select(alone, flag), merge=False)
    return typed(tree)


def flag_of(choice: str) -> str:
    """Where a choice stands in the tree: a term under its own name, as there may be several."""
    group, _, name = choice.partition("=")
    return f"terms.{name}" if group == "terms" else group.replace("/", ".")


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_into_objects(choice, default):
    config = chosen(default, choice)
    group, _, name = choice.partition("=")
    if schema := kinds(group).get(name):
        *path, last = flag_of(choice).split(".")
        parent = attrgetter(".".join(path))(config) if path else config
        made = parent[last] if isinstance(parent, dict) else getattr(parent, last)
        assert type(made) is schema
        assert made.flag == flag_of(choice)
    if group == "pipeline":
        assert config.pipeline == name
    if group == "experiment":
        assert config.name == name.replace("/", "_")
    config.hash()
    config.plain()


@each(sorted(CONF.rglob("*.yaml")))
def test_no_file_repeats_a_default(path):
    content = OmegaConf.to_container(OmegaConf.load(path))
    schema = SCHEMA.search(path.read_text())
    if schema is None or path.name == "config.yaml":
        return
    defaults = {f.name: f for f in fields(import_by_path(schema[1], ""))}
    for name, value in content.items():
        if name not in ("defaults", "name"):
            assert value != defaults[name].default, f"{path} repeats the default of {name}"


@each(sorted((CONF / "experiment").rglob("*.yaml")))
def test_every_experiment_says_command_expected_figure_cost_and_table(path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("command ", "expected ", "cost ", "table "):
        line = next((line for line in header if line.startswith(f"# {word}")), "")
        assert len(line) > 20, f"{path}: the header has no line '# {word}…'"
        assert "TODO" not in line
    name = path.relative_to(CONF / "experiment").with_suffix("")
    assert f"dfkd experiment={name}" in path.read_text()


@pytest.mark.parametrize("command", [text for text in COMMANDS if text.startswith("dfkd") and "--help" not in text])
def test_every_example_of_the_help_page_composes(command):
    said = [word.partition(",")[0] for word in command.split() if "=" in word]
    assert isinstance(composed(*said), Config)


def test_recipe_and_scale_win_over_the_experiment_and_flags_over_all():
    config = composed("experiment=mnist_lenet_quick", "recipe=paper", "scale=smoke", "reconstruction.steps=7")
    assert type(config.reconstruction).__name__ == "Sample"
    assert config.reconstruction.images_per_class == 20
    assert config.reconstruction.steps == 7
    assert config.teacher.name == "lenet5"


def test_networks_are_trained_as_their_classes_say():
    config = composed("teacher=lenet5")
    assert (config.training, config.distillation) == (Training(), Distillation())
    assert composed("teacher=mlp").training == composed("teacher=cnn").training == Training(epochs=30)
    assert composed("distillation=labels").distillation == Distillation(targets="labels")


def test_the_papers_recipe_trains_at_a_constant_rate_on_images_as_they_are():
    paper = {
        "optimizer": Adam(lr=0.001), "schedule": Constant(), "augmentation": NoAugmentation(), "holdout": 0.0,
    }  # fmt: skip
    assert composed("recipe=paper").distillation == Distillation(**paper)
    assert composed("recipe=paper", "distillation=labels").distillation == Distillation(targets="labels", **paper)
    moved = composed("recipe=paper", "distillation/augmentation=affine").distillation
    assert moved == Distillation(**paper | {"augmentation": Affine()})


def test_an_optimiser_brings_its_own_defaults():
    config = composed("training/optimizer=sgd", "distillation/optimizer=sgd", "distillation.optimizer.lr=0.2")
    assert (config.training.optimizer, config.distillation.optimizer) == (Sgd(), Sgd(lr=0.2))


def test_a_policy_of_somebody_elses_is_chosen_by_its_import_path():
    for group in ("training", "distillation"):
        config = composed(f"{group}/augmentation=tests.test_config.Darkened", f"{group}.augmentation.most=0.3")
        chosen = getattr(config, group).augmentation
        assert chosen == Darkened(most=0.3)
        assert chosen.flag == f"{group}.augmentation"


def test_kinds_that_have_the_same_fields_are_told_apart():
    plain = composed("training.optimizer.weight_decay=0.01")
    assert plain.hash() != composed("training/optimizer=adamw").hash()
    assert plain.training.identity() != composed("training/optimizer=adamw").training.identity()


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


@each(all_settings())
def test_every_field_says_what_it_is(cls):
    body = ast.parse(inspect.getsource(cls)).body[0].body
    for node, following in zip(body, [*body[1:], None], strict=True):
        is_field = isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation)
        if is_field and not (cls is Config and kinds(node.target.id)):
            documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            assert documented, f"{cls.__name__}.{node.target.id} has no docstring"


def test_the_reference_of_all_fields_is_current():
    from dfkd_exp.reference.config import config_reference

    path = Path(__file__).parents[1] / "docs" / "config.md"
    assert path.read_text() == config_reference(), "run: python -m dfkd_exp.reference.config"


def test_the_reference_has_each_class_once_with_all_its_choices_and_what_each_says_otherwise():
    page = (Path(__file__).parents[1] / "docs" / "config.md").read_text()
    for group in groups():
        headed = re.findall(rf"^### {group}=(.*)$", page, re.M)
        if headed:
            assert sorted(", ".join(headed).split(", ")) == sorted(kinds(group))
    assert "### parametrisation=cmi, dafl, dfad, fast, generator, nayer, zskt\n" in page
    assert "* `parametrisation=zskt`: `parametrisation.end=norm`\n" in page
    assert "* `teacher=timm`: `teacher.pretrained=true`\n" in page
    assert "* `engine=auto`" not in page


@pytest.mark.parametrize(
    "choice", [f"{group}={name}" for group in ("distillation", "training") for name in kinds(group)]
)
def test_what_a_choice_says_otherwise_is_what_is_composed(choice):
    group, _, name = choice.partition("=")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[choice], return_hydra_config=True)
    for flag, value in said_by(group, name).items():
        found = (
            config.hydra.runtime.choices[flag]
            if "/" in flag
            else on_command_line(plain(OmegaConf.select(config, flag)))
        )
        assert found == value, flag


@pytest.mark.parametrize(("data", "count"), [("celeba", 19_200), ("mnist", 6_400), ("cifar10", 6_400)])
def test_the_papers_budget_is_that_of_its_data_set(data, count):
    assert composed(f"data={data}", "scale=full").reconstruction.images_per_class == count
