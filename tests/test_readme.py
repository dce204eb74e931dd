"""The README's commands and its Python, as a stranger would paste them."""

from __future__ import annotations

import doctest
import re
import shlex
import sys

import pytest
import torch

import dfkd_exp
from dfkd_exp.config.groups import CONF
from dfkd_exp.report.command import main as report
from dfkd_exp.report.status import main as status
from tests.conftest import draw_nothing
from tests.mnist import make_mnist

README = (CONF.parent / "README.md").read_text()
DRAWS = True  # the dfkd of tests/conftest.py
SILENT = {"--help", "--cfg"}


def blocks(text: str) -> list[list[str]]:
    return [block.splitlines() for block in re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)]


BLOCKS = blocks(README)
PAGES = [
    README,
    *(
        path.read_text()
        for path in sorted((CONF.parent / "docs").glob("*.md"))
        if not path.name.startswith(("tutorial", "extending"))
    ),
]
PRINTS = {"dfkd-status": status, "dfkd-report": report}


def small(command: str) -> tuple[str, ...]:
    """A command as it is run here: all with ``scale=smoke``, of a few steps, and with one seed, the default one."""
    words = [re.sub(r"(?<=steps=)\d+", "5", word) for word in shlex.split(command) if not word.startswith("seed=")]
    words = [word for word in words if word != "scale=smoke"]
    words += ["source.images=64"] * ("method=dafl" in words)
    several = any(word.startswith("sweep=") or word == "experiment=tradeoff" for word in words)
    return (*words, "seed=0") if several else tuple(words)


def distinct_commands() -> list[list[tuple[str, ...]]]:
    """The commands of each block. What an earlier block has run is left out, unless the others of its block look at what it left."""
    found: list[list[tuple[str, ...]]] = []
    for block in [block for page in PAGES for block in blocks(page)]:
        commands = [small(line) for line in block if line.startswith("dfkd")]
        if not any(name in PRINTS or "pipeline=release" in flags for name, *flags in commands):
            commands = [command for command in commands if not any(command in earlier for earlier in found)]
        if commands and commands not in found:
            found.append(commands)
    return found


COMMANDS = distinct_commands()


def test_its_first_command_is_the_default_and_its_second_the_tests():
    assert BLOCKS[0][0].endswith("&& dfkd")
    assert BLOCKS[1][0].endswith("&& pytest")


@pytest.mark.parametrize("commands", COMMANDS, ids=lambda commands: " ".join(commands[0]))
def test_its_commands_run(dfkd, commands, monkeypatch, tmp_path):
    make_mnist(tmp_path / "data", monkeypatch)
    if not any(name == "dfkd-report" for name, *_ in commands):
        draw_nothing(monkeypatch)
    for name, *arguments in commands:
        if name in PRINTS:
            monkeypatch.setattr(sys, "argv", [name, *arguments])
            PRINTS[name]()
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
