"""Commands for machines that no test has, GPUs and clusters: their flags exist, and the script that is run first there is a script."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from dfkd_exp.config import composition
from dfkd_exp.config.groups import CONF
from dfkd_exp.config.typed import typed

ROOT = CONF.parent
SCRIPT = ROOT / "benchmarks" / "gpu.sh"
PAGES = ("eight-gpus.md", "slurm.md")
composition.shorten()  # tests/test_composition.py: what is composed stays the same


def commands_of(page: str) -> list[str]:
    """What stands after ``dfkd`` or ``-m dfkd_exp`` in a page's blocks and lines."""
    text = (ROOT / "docs" / page).read_text().replace("\\\n", " ")
    blocks = [line for block in re.findall(r"^```\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]
    inline = [found for found in re.findall(r"`([^`\n]+)`", text) if re.match(r"(dfkd|torchrun|srun) ", found)]
    found = [re.split(r"\bdfkd(?:_exp)? ", line, maxsplit=1) for line in [*blocks, *inline]]
    return [parts[1].replace("…", "").strip() for parts in found if len(parts) == 2]


def checked(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose the config and check every value. Of launchers there is only what is installed: their flags must be in their file."""
    monkeypatch.setenv("DFKD_DATA_DIR", "nowhere")
    launcher = [text.split("=", 1)[1] for text in arguments if text.startswith("hydra/launcher=")]
    flags = {
        text.split("=")[0].removeprefix("hydra.launcher.") for text in arguments if text.startswith("hydra.launcher.")
    }
    if launcher and (path := CONF / "hydra" / "launcher" / f"{launcher[0]}.yaml").exists():
        assert flags - {"partition", "jobs"} <= set(OmegaConf.load(path))
    said = [text for text in arguments if text != "-m" and not text.startswith("hydra")]
    seeds = [re.sub(r"=([^,\[]+),.*", r"=\1", text) for text in said]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        typed(compose("config", seeds))


@pytest.mark.parametrize("command", sorted({command for page in PAGES for command in commands_of(page)}))
def test_the_pages_commands_compose(command, monkeypatch):
    checked(shlex.split(command), monkeypatch)


def test_the_pages_have_commands():
    assert [len(commands_of(page)) for page in PAGES] == [2, 4]


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> list[list[str]]:
    """What the script asks for, run with a command that only notes it."""
    folder = tmp_path_factory.mktemp("gpu")
    notes = folder / "notes"
    for name in ("dfkd", "python"):
        (folder / name).write_text(f'#!/bin/bash\n(echo {name}; printf "%s\\n" "$@"; echo) >> {notes}\n')
        (folder / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "X": "", "O": str(folder / "outputs")}
    subprocess.run(["bash", SCRIPT], env=environment, cwd=folder, check=True, capture_output=True, timeout=60)
    assert not (folder / "unlucky.py").exists()
    return [note.splitlines() for note in notes.read_text().split("\n\n") if note]


def test_the_script_asks_for_what_there_is(asked, monkeypatch):
    commands = [arguments for name, *arguments in asked if name == "dfkd"]
    assert len(commands) > 25
    for arguments in commands:
        checked(arguments, monkeypatch)
    (benchmarks,) = [arguments for name, *arguments in asked if name == "python"]
    assert benchmarks == ["-m", "benchmarks", "distillation", "reconstruction"]


def test_the_script_tries_every_candidate_of_a_gpu(asked):
    said = {text for _, *arguments in asked for text in arguments}
    forms = ("precision=tf32", "precision=bf16", "convolutions=channels_last", "compile=true", "cuda_graphs=true")
    assert {f"engine.{form}" for form in forms} <= said
    assert Path(SCRIPT).read_text().count("NVIDIA_TF32_OVERRIDE=0") == 1
