"""Keys know the source of somebody's own code, with what it imports of its author's; nothing of it is run."""

import os
import shutil
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from dfkd_exp.source_code import source_digest

FILES = {
    "theirs/__init__.py": "SCALE = 1\n",
    "theirs/nets/__init__.py": "",
    "theirs/nets/net.py": """
        '''A net.'''
        import json
        from ..parts import block
        from . import heads
        class Net:
            width = 4  # units
    """,
    "theirs/nets/heads.py": "import helpers\n",
    "theirs/parts.py": "def block(): ...\n",
    "theirs/other.py": "raise RuntimeError('this was run')\n",
    "helpers.py": "import theirs.nets.net\nraise RuntimeError('this was run')\n",
}
NET = "theirs.nets.net.Net"


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in FILES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(dedent(text))
    yield tmp_path
    for module in [name for name in sys.modules if name.partition(".")[0] in ("theirs", "helpers", "act")]:
        del sys.modules[module]


def edit(name: str, old: str, new: str) -> None:
    text = Path(name).read_text()
    assert old in text
    Path(name).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("theirs/nets/net.py", "width = 4", "width = 5"),
        ("theirs/parts.py", "...", "return 1"),
        ("theirs/nets/heads.py", "import helpers", "import helpers\nDEPTH = 2"),
        ("theirs/__init__.py", "SCALE = 1", "SCALE = 2"),
        ("helpers.py", "was run", "was ran"),
        ("theirs/nets/net.py", "class Net:", "class Net(:"),  # cannot be parsed
    ],
)
def test_an_edit_anywhere_changes_it(package, name, old, new):
    before = source_digest([NET])
    edit(name, old, new)
    assert source_digest([NET]) != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("theirs/nets/net.py", "  # units", "  # so many units\n"),
        ("theirs/nets/net.py", "A net.", "A network."),
        ("theirs/other.py", "was run", "was ran"),  # not imported
    ],
)
def test_a_comment_or_another_module_does_not(package, name, old, new):
    before = source_digest([NET])
    edit(name, old, new)
    assert source_digest([NET]) == before


def test_what_has_been_imported_runs_on_whatever_its_file_says_by_now(package):
    Path("helpers.py").write_text("")
    before = source_digest([NET])
    __import__("theirs.nets.net")
    edit("theirs/nets/net.py", "width = 4", "width = 5")
    assert source_digest([NET]) == before


def test_installed_packages_are_not_followed_but_their_module_is_known(package, monkeypatch):
    installed = package / "site-packages"
    shutil.copytree("theirs", installed / "installed")
    monkeypatch.syspath_prepend(installed)
    before = source_digest(["installed.nets.net.Net"])
    edit("site-packages/installed/parts.py", "...", "return 1")
    assert source_digest(["installed.nets.net.Net"]) == before
    edit("site-packages/installed/nets/net.py", "width = 4", "width = 5")
    assert source_digest(["installed.nets.net.Net"]) != before


def test_what_there_is_not_has_none():
    assert source_digest(["nobody.has.this"]) == source_digest(["math.sqrt"]) == source_digest([])


ACT = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 32), nn.{}, nn.Linear(32, 10))
"""


def made(ran) -> set[str]:
    assert ran.code == 0, ran.err
    return {name for name, phase in ran.result["phases"].items() if not phase["reused"]}


def test_an_edited_network_is_trained_and_distilled_anew(dfkd, package):
    command = ("teacher=custom", "teacher.target=act.Net")
    Path("act.py").write_text(ACT.format("ReLU()"))
    everything = made(dfkd(*command))
    assert "teacher" in everything
    assert made(dfkd(*command)) == set()
    del sys.modules["act"]
    Path("act.py").write_text(ACT.format("Tanh()"))
    os.utime("act.py", (1, 1))  # Python's own cache goes by the time
    assert made(dfkd(*command)) == everything


def test_another_network_with_the_same_weights_is_another_teacher(dfkd, package):
    """Whose layers and statistics are its own; and right of the wall it is not the release's."""
    Path("act.py").write_text(ACT.format("ReLU()") + ACT.format("Tanh()").replace("Net", "Other"))
    first = dfkd("teacher=custom", "teacher.target=act.Net", "pipeline=release", "release=published")
    assert first.code == 0, first.err
    weights = f"teacher.checkpoint={package / 'published' / 'model.safetensors'}"
    of_net, of_other = (dfkd("teacher=custom", f"teacher.target=act.{name}", weights) for name in ("Net", "Other"))
    assert made(of_other) == made(of_net)
    received = ("pipeline=from_release", "release=published", "data=digits", "teacher=custom")
    assert made(dfkd(*received, "teacher.target=act.Net")) == set(), "it is what the owner has made"
    other = dfkd(*received, "teacher.target=act.Other")
    assert other.code == 1, "and nothing is taken from the store"
    assert "Other, of published/model.safetensors, is not the network that its owner has" in other.err


def test_of_an_edited_student_only_the_student_is_made_anew(dfkd, package):
    Path("act.py").write_text(ACT.format("ReLU()"))
    command = ("student=custom", "student.target=act.Net")
    made(dfkd(*command))
    del sys.modules["act"]
    Path("act.py").write_text(ACT.format("Tanh()"))
    os.utime("act.py", (1, 1))
    assert made(dfkd(*command)) == {"student", "evaluation"}
