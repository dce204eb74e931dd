"""Rings, imports point inward: what all stand on, the mathematics, Lightning's shells, the command. Every file is held to it.

Imports within functions count like those at the top; those for type checking alone do not. `tests.sources` reads them.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.each import each
from tests.sources import between_files, between_rooms, circle, read

ROOT = Path(__file__).parents[1]
SOURCES = read(ROOT, "dfkd_exp", "hydra_plugins")

RINGS = {
    "foundation": (
        "errors.py files.py harmless.py schema.py damage.py seeding.py settings.py source_code.py processes.py console.py ranks.py "
        "import_paths.py stopping.py terminal.py locks.py manifest.py "
        "run_folder.py"
    ),
    "mathematics": "inputs.py data/ metadata/ models/ evaluation/ reconstruction/ distillation/ training/",
    "shells": (
        "trainer.py logger.py batch_norm.py training/checkpoint.py training/module.py training/fit.py training/supervised.py "
        "reconstruction/module.py distillation/distill.py"
    ),
    "command": (
        "__init__.py __main__.py app.py arguments.py config/ help.py pipeline.py phases/ "
        "store.py release/ report/ reference/ sweeps/ /hydra_plugins/"
    ),
}
"""From the inside out: a folder with all that lies in it, or a file, which goes before its folder; below dfkd_exp/ unless it says."""

LIBRARIES = {
    "torch": {
        "mathematics": "it is written in torch",
        "shells": "they train what the mathematics is made of",
        "ranks.py": "torch.distributed joins the processes of a run",
        "seeding.py": "its generator is what is seeded",
        "phases/privacy.py": "the attacks' inputs are tensors",
        "phases/shadows.py": "and so are halves of the images",
        "phases/reconstruction.py": "puts shards together",
        "report/pictures.py": "images arrive as tensors",
        "report/cells.py": "and are painted as such",
        "sweeps/jobs.py": "counts the GPUs that jobs are spread over",
    },
    "pytorch_lightning": {
        "trainer.py": "settings of its Trainer",
        "logger.py": "chooses among its loggers",
        "ranks.py": "asks SLURM who is who as Lightning does",
        "batch_norm.py": "a plugin of its Trainer",
        "training/module.py": "the shell around training",
        "reconstruction/module.py": "the shell around reconstruction",
    },
    "lightning_fabric": {"training/checkpoint.py": "how Lightning writes checkpoints"},
    "hydra": {
        "app.py": "the command is Hydra's main function",
        "arguments.py": "what Hydra's grammar reads",
        "config/errors.py": "Hydra's errors in one line",
        "config/composition.py": "shortens Hydra's composition",
        "sweeps/callback.py": "Hydra calls it around a sweep's jobs",
        "/hydra_plugins/": "Hydra takes plugins from there alone",
    },
    "omegaconf": {
        "app.py": "resolvers, and config.yaml of a run",
        "config/tree.py": "what a command must say",
        "config/groups.py": "reads the yaml files",
        "config/errors.py": "OmegaConf's errors in one line",
        "config/typed.py": "the tree as typed objects",
        "config/composition.py": "the tree of a sweep's job",
        "config/own.py": "compares such trees",
        "config/for_data.py": "a resolver",
        "sweeps/plan.py": "a job's tree without Hydra's own",
        "sweeps/callback.py": "Hydra hands it such a tree",
        "/hydra_plugins/": "Hydra hands them such trees",
    },
    "wandb": {"logger.py": "Weights & Biases"},
    "optuna": {
        "sweeps/search.py": "the study of a search",
        "sweeps/journal.py": "its file",
        "sweeps/trial.py": "a trial of it",
    },
    "rich": {
        "console.py": "what one sees",
        "app.py": "escapes what users typed",
        "help.py": "draws the help page",
        "pipeline.py": "escapes paths",
        "report/": "draws tables",
        "sweeps/callback.py": "escapes messages",
    },
    "pickle": {"config/composition.py": "copies what it has composed itself, and reads no file"},
    "numpy": {
        "data/compression.py": "pixels as PIL takes and gives them",
        "data/array_files.py": "reads and maps arrays",
        "data/array_roles.py": "arrays by role",
        "data/array_labels.py": "labels as words and numbers",
        "data/array_layouts.py": "moves axes",
        "data/array_units.py": "compares ranges",
        "data/array_values.py": "ranges of arrays",
        "data/arrays.py": "holds out a share",
        "data/waves.py": "draws series",
        "data/wine.py": "splits the table",
        "data/celeba.py": "reads label files",
        "data/files.py": "images as arrays",
        "metadata/fourier.py": "scipy's arrays",
        "logger.py": "pictures for TensorBoard",
        "models/checkpoint.py": "numbers beside weights",
        "models/read_weights.py": "its archives of arrays",
    },
    "scipy": {
        "evaluation/attacks.py": "the beta distribution's tails",
        "evaluation/shadows.py": "Student's distribution's tails",
        "metadata/differential_privacy.py": "the normal distribution's tails",
        "metadata/fourier.py": "QR with pivoting",
    },
    "safetensors": {
        "metadata/file.py": "the format of metadata",
        "models/read_weights.py": "the format of weights",
        "reconstruction/shards.py": "the format of images",
        "phases/": "artifacts of the store",
        "release/folder.py": "files of a release",
    },
    "jsonschema": {"schema.py": "checks what comes from outside by the schemas that are shipped"},
    "matplotlib": {"report/": "figures"},
    "PIL": {
        "data/compression.py": "compresses images",
        "data/files.py": "decodes images",
        "report/cells.py": "draws lines",
        "report/pictures.py": "writes them",
        "logger.py": "reads them",
    },
    "sklearn": {"data/digits.py": "has the digits", "data/wine.py": "has the table"},
    "pooch": {"data/published.py": "downloads"},
    "datasets": {"data/hub.py": "the Hugging Face Hub"},
    "huggingface_hub": {"release/hub.py": "releases there", "models/from_hub.py": "files beside networks"},
    "filelock": {"locks.py": "one process at a time"},
    "torchvision": {"models/from_torchvision.py": "its networks", "models/from_timm.py": "timm wants it at import"},
    "transformers": {"models/from_hub.py": "its networks"},
}
"""Which files know a library, and what for. There is no other library."""
UNSAFE = {"pickle", "marshal", "shelve"}
"""Of Python's own, those that run what they read."""

TALKING = {
    "data/": "downloads and decoding take minutes",
    "metadata/gaussian.py": "says which covariances take gigabytes",
    "metadata/memory.py": "says which statistics take gigabytes",
    "metadata/bases.py": "a large graph's bases take minutes",
    "evaluation/attacks.py": "ten thousand images against shadows of a large network take minutes",
    "reconstruction/loop.py": "a notebook's reconstruction takes minutes",
    "reconstruction/prior.py": "directions of large weights take minutes",
    "reconstruction/parametrisation/": "says where images start from, if not from what was asked for",
    "reconstruction/engine/": "says what it measures and has chosen",
}
"""Who of the mathematics says something to people, or draws a progress bar."""

LIGHT = (
    "import dfkd_exp, dfkd_exp.app, dfkd_exp.pipeline, dfkd_exp.config.composition, dfkd_exp.help, dfkd_exp.store, dfkd_exp.release.folder",
    "import dfkd_exp.phases.context, dfkd_exp.phases.owner, dfkd_exp.phases.reconstruction, dfkd_exp.phases.receiver",
    "import dfkd_exp.phases.privacy, dfkd_exp.phases.shadows, dfkd_exp.training.transfer_set, dfkd_exp.distillation.source",
    "import dfkd_exp.report.result, dfkd_exp.report.tables, dfkd_exp.sweeps.plan, dfkd_exp.sweeps.callback",
    "from dfkd_exp.config.groups import groups, kinds; [kinds(group) for group in groups()]",  # every settings module
)
"""What a command imports before it is known that something is to be computed."""
HEAVY = {
    "torch", "pytorch_lightning", "lightning_fabric", "numpy", "scipy", "safetensors", "sklearn", "matplotlib", "PIL", "wandb", "optuna",
    "timm", "torchvision", "transformers", "huggingface_hub",
}  # fmt: skip


def covers(entry: str, path: str) -> bool:
    """Whether an entry of a table is about a file."""
    entry = entry[1:] if entry.startswith("/") else f"dfkd_exp/{entry}"
    return path.startswith(entry) if entry.endswith("/") else path == entry


def ring_of(path: str) -> str | None:
    """The ring of a file: that of its most exact entry; None without one."""
    found = [(len(entry), ring) for ring, entries in RINGS.items() for entry in entries.split() if covers(entry, path)]
    return max(found)[1] if found else None


def outward(path: str, imported: set[str]) -> set[str]:
    """Those of the imported files that lie further out."""
    order = list(RINGS)
    return {other for other in imported if order.index(ring_of(other) or "") > order.index(ring_of(path) or "")}


def unknown_libraries(path: str, libraries: set[str]) -> set[str]:
    """The libraries that a file has no reason to know."""
    return {
        library
        for library in libraries - (sys.stdlib_module_names - UNSAFE)
        if not any(entry == ring_of(path) or covers(entry, path) for entry in LIBRARIES.get(library, {}))
    }


def heavy_after(statement: str) -> set[str]:
    """The heavy libraries that are imported once ``statement`` has run, in a process of its own."""
    script = f"import sys\n{statement}\nprint(*{HEAVY} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split())


@each(SOURCES)
def test_every_file_is_in_a_ring_and_imports_nothing_further_out(path):
    assert ring_of(path), f"{path}: say in RINGS where it belongs"
    assert not outward(path, SOURCES[path].ours)


@each(SOURCES)
def test_a_file_knows_the_libraries_that_it_has_a_reason_to(path):
    assert not unknown_libraries(path, SOURCES[path].libraries)


@each(path for path in SOURCES if ring_of(path) == "mathematics")
def test_the_mathematics_speaks_to_people_only_where_it_takes_minutes(path):
    assert "dfkd_exp/console.py" not in SOURCES[path].ours or any(covers(entry, path) for entry in TALKING)


def test_no_entry_of_a_table_is_about_nothing():
    for entry in " ".join(RINGS.values()).split():
        assert any(covers(entry, path) for path in SOURCES), f"RINGS: {entry}"
    for library, entries in LIBRARIES.items():
        for entry in entries:
            knowing = [path for path in SOURCES if entry == ring_of(path) or covers(entry, path)]
            assert any(library in SOURCES[path].libraries for path in knowing), f"LIBRARIES: {library}: {entry}"
    for entry in TALKING:
        talking = [path for path in SOURCES if covers(entry, path) and "dfkd_exp/console.py" in SOURCES[path].ours]
        assert talking, f"TALKING: {entry}"


def test_there_are_no_circles_of_imports():
    assert circle(between_files(SOURCES)) == []
    assert circle(between_rooms(SOURCES)) == []


def test_no_file_takes_public_names_from_the_package():
    """They are looked up by name there, so that circles through them would go unseen. One file documents them."""
    taking = {path for path, source in SOURCES.items() if "dfkd_exp/__init__.py" in source.ours}
    assert taking == {"dfkd_exp/reference/api.py"}


def test_what_a_reused_run_imports_is_not_heavy():
    assert heavy_after("\n".join(LIGHT)) == set()


@each(SOURCES)
def test_no_file_is_two_things(path):
    assert len((ROOT / path).read_text().splitlines()) <= 300
    assert not path.endswith("utils.py")


def test_every_config_group_has_its_folder_or_file():
    for group in ("data", "metadata", "reconstruction", "distillation", "training", "trainer", "logger", "pipeline"):
        assert (ROOT / "dfkd_exp" / group).is_dir() or (ROOT / "dfkd_exp" / f"{group}.py").is_file()


def made_up(tmp_path: Path, **files: str) -> dict:
    """A package ``dfkd_exp`` of the given files; two underscores are a folder."""
    for name, text in files.items():
        path = tmp_path / "dfkd_exp" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read(tmp_path, "dfkd_exp")


def test_a_file_in_no_ring_is_seen():
    assert ring_of("dfkd_exp/new.py") is ring_of("dfkd_exp/newroom/file.py") is ring_of("elsewhere/errors.py") is None
    assert ring_of("dfkd_exp/training/new.py") == "mathematics"
    assert ring_of("dfkd_exp/training/module.py") == "shells"
    assert ring_of("hydra_plugins/new/__init__.py") == "command"


def test_an_import_outward_is_seen_within_a_function_too(tmp_path):
    sources = made_up(
        tmp_path,
        metadata__file="def load():\n    from dfkd_exp import store\n",
        metadata__typed="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dfkd_exp.store import Store\n",
        store="from dfkd_exp.metadata import file",
    )
    files = between_files(sources)
    assert outward("dfkd_exp/metadata/file.py", files["dfkd_exp/metadata/file.py"]) == {"dfkd_exp/store.py"}
    assert not files["dfkd_exp/metadata/typed.py"]
    assert not outward("dfkd_exp/store.py", files["dfkd_exp/store.py"])


def test_a_library_in_the_wrong_place_is_seen(tmp_path):
    lightning = (
        "class Kind:\n    def collect(self):\n        import pytorch_lightning as pl\n        from torch import nn\n"
    )
    libraries = made_up(tmp_path, metadata__kind=lightning)["dfkd_exp/metadata/kind.py"].libraries
    assert unknown_libraries("dfkd_exp/metadata/kind.py", libraries) == {"pytorch_lightning"}
    assert unknown_libraries("dfkd_exp/config/words.py", libraries) == {"pytorch_lightning", "torch"}
    assert unknown_libraries("dfkd_exp/trainer.py", libraries | {"wandb", "marshal"}) == {"wandb", "marshal"}


def test_a_circle_is_seen_between_files_and_between_rooms(tmp_path):
    sources = made_up(
        tmp_path / "files",
        a="def later():\n    import dfkd_exp.b",
        b="from dfkd_exp.c import x",
        c="from dfkd_exp import a",
    )
    assert set(circle(between_files(sources))) == {"dfkd_exp/a.py", "dfkd_exp/b.py", "dfkd_exp/c.py"}
    sources = made_up(
        tmp_path / "rooms",
        a__one="from dfkd_exp.b.one import x",
        b__two="from dfkd_exp.a.two import x",
        a__two="",
        b__one="",
    )
    assert circle(between_files(sources)) == []
    assert set(circle(between_rooms(sources))) == {"dfkd_exp/a", "dfkd_exp/b"}


def test_a_relative_import_is_refused(tmp_path):
    with pytest.raises(ValueError, match="write the whole path"):
        made_up(tmp_path, a="from . import b")


def test_a_heavy_import_is_seen():
    assert "numpy" in heavy_after("import dfkd_exp.metadata\nimport numpy")


@each(SOURCES)
def test_text_is_utf8_whatever_the_locale(path):
    """In an ASCII locale Python would read and write our own files in ASCII."""
    unsaid = re.compile(r"\.(read|write)_text\((?!.*\"utf-8\").*\)$|\bopen\([^b]*\"[rwa]\"(?!.*utf-8)")
    assert not [line for line in (ROOT / path).read_text("utf-8").splitlines() if unsaid.search(line)]
