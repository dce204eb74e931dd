"""The README's commands and its Python, as a stranger would paste them."""

from __future__ import annotations

import doctest
import re
import shlex
import sys

import pytest
import torch

import dfkd_exp
from dfkd_exp.config import CONF
from dfkd_exp.report.status import main as status

README = (CONF.parent / "README.md").read_text()
SILENT = {"--help", "--cfg"}


def blocks(text: str) -> list[list[str]]:
    return [block.splitlines() for block in re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)]


BLOCKS = blocks(README)
PAGES = [
    README,
    *(path.read_text() for path in sorted((CONF.parent / "docs").glob("*.md")) if "tutorial" not in path.name),
]
COMMANDS = [
    [shlex.split(line) for line in block if line.startswith("dfkd")] for page in PAGES for block in blocks(page)
]


def test_its_first_command_is_the_default_and_its_second_the_tests():
    assert BLOCKS[0][0].endswith("&& dfkd")
    assert BLOCKS[1][0].endswith("&& pytest")


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param(c, id=" ".join(c[0]), marks=[pytest.mark.data] if "mnist" in " ".join(c[0]) else [])
        for c in COMMANDS
        if c
    ],
)
def test_its_commands_run(dfkd, commands, monkeypatch):
    for name, *arguments in commands:
        if name == "dfkd-status":
            monkeypatch.setattr(sys, "argv", [name, *arguments])
            status()
            continue
        several = "trainer=ddp" in arguments
        ran = dfkd(*arguments, *(["scale=smoke"] if several else []), small=not several and not SILENT & set(arguments))
        assert ran.code == 0, ran.err


def test_its_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    small = code.replace("per_class=500", "per_class=2").replace('match="moments"', 'match="moments", steps=2')
    names = {"batches": [(torch.rand(40, 1, 32, 32), torch.arange(40) % 10)]}
    exec(small, names)
    assert len(names["images"]) == 20
    assert (tmp_path / "lenet5.metadata.safetensors").is_file()


def test_the_docstring_of_the_package_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(dfkd_exp).attempted >= 7
    assert doctest.testmod(dfkd_exp).failed == 0
