"""Three rings, imports point inward: mathematics, Lightning shells, the command."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dfkd_exp"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
HYDRA = {"app.py", "config.py", "sweep.py"}
LIGHTNING = {
    "trainer.py",
    "ranks.py",
    "checkpoint.py",
    "logger.py",
    "reconstruction/module.py",
    "distillation/module.py",
}
OUTER = {"app", "config", "pipeline", "owner", "receiver", "context", "logger", "report"}
MATHEMATICS = [
    name
    for name in FILES
    if re.match(r"(metadata|models|evaluation)/|(reconstruction|distillation)/(losses|loop|settings|source)", name)
]


def imports(name: str, at_top_only: bool = False) -> set[str]:
    """The modules that a file imports, except for type checking."""
    tree = ast.parse((PACKAGE / name).read_text())
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    nodes = tree.body if at_top_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def roots(name: str, **options) -> set[str]:
    return {module.partition(".")[0] for module in imports(name, **options)}


@pytest.mark.parametrize("name", FILES)
def test_only_the_outer_ring_knows_hydra_lightning_and_wandb(name):
    used = roots(name)
    assert name in HYDRA or not used & {"hydra", "omegaconf"}
    assert name in LIGHTNING or not used & {"pytorch_lightning", "lightning_fabric", "lightning"}
    assert name == "logger.py" or "wandb" not in used
    assert not used & {"torchvision", "timm", "pickle"} or name == "models/checkpoint.py"


@pytest.mark.parametrize("name", MATHEMATICS)
def test_the_mathematics_imports_nothing_from_outside_it(name):
    inner = {module.split(".")[1] for module in imports(name) if module.startswith("dfkd_exp.")}
    assert not inner & OUTER


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in FILES
        if name.endswith("settings.py")
        or name in ("config.py", "app.py", "inputs.py")
        or name in ("models/kind.py", "models/ours.py", "models/by_import_path.py")
    ],
)
def test_settings_import_nothing_heavy_at_the_top(name):
    assert not roots(name, at_top_only=True) & {
        "torch",
        "numpy",
        "sklearn",
        "matplotlib",
        "safetensors",
        "pytorch_lightning",
    }


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_two_things(name):
    assert len((PACKAGE / name).read_text().splitlines()) <= 300
    assert not name.endswith("utils.py")


def test_every_config_group_has_its_folder_or_file():
    for group in ("data", "metadata", "reconstruction", "distillation", "trainer", "logger", "pipeline"):
        assert (PACKAGE / group).is_dir() or (PACKAGE / f"{group}.py").is_file()
