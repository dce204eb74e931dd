"""The README's commands and its Python, as a stranger would paste them."""

from __future__ import annotations

import doctest
import re
import shlex

import pytest
import torch

import dfkd_exp
from dfkd_exp.config import CONF

README = (CONF.parent / "README.md").read_text()
BLOCKS = [text.splitlines() for text in re.findall(r"^```bash\n(.*?)^```", README, re.M | re.S)]
COMMANDS = [[shlex.split(line)[1:] for line in block if line.startswith("dfkd ")] for block in BLOCKS]
SILENT = {"--help", "--cfg"}


def test_its_first_command_is_the_default_and_its_second_the_tests():
    assert BLOCKS[0][0].endswith("&& dfkd")
    assert BLOCKS[1][0].endswith("&& pytest")


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param(c, id=" ".join(c[0]), marks=[pytest.mark.data] if "experiment=mnist" in " ".join(c[0]) else [])
        for c in COMMANDS
        if c
    ],
)
def test_its_commands_run(dfkd, commands):
    for arguments in commands:
        ran = dfkd(*arguments, small=not SILENT & set(arguments))
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
