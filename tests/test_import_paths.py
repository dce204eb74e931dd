"""Somebody else's code by its import path: found, or one line with the place and the cause; it has no part in our arguments and end."""

import os
import sys

import pytest

from dfkd_exp.errors import DfkdError
from dfkd_exp.import_paths import import_by_path, on_its_own
from dfkd_exp.source_code import source_digest


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module of a name that no other test has, and look for it there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    written = []

    def write(text: str) -> str:
        name = f"{tmp_path.name}_{len(written)}".replace("-", "_")
        (tmp_path / f"{name}.py").write_text(text)
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


def test_what_lies_within_a_class_is_found(write):
    name = write("class Net:\n    @classmethod\n    def from_pretrained(cls):\n        return cls, 3\n")
    assert import_by_path(f"{name}.Net.from_pretrained", "teacher.target")()[1] == 3
    assert source_digest([f"{name}.Net.from_pretrained"]) == source_digest([f"{name}.Net"]) != source_digest([])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Net(:\n", r"{name}.py, line 1: .*; mend the file"),
        (
            "import no_such_thing_here\n",
            r"{name} imports no_such_thing_here \({name}.py, line 1\), which is not there; install it",
        ),
        (
            "\nfrom json import no_such_thing\n",
            r"{name} cannot be imported: ImportError: cannot import name .* \({name}.py, line 2\)",
        ),
        (
            "open('elsewhere.json')\n",
            r"{name} cannot be imported: FileNotFoundError: .*elsewhere.json' \({name}.py, line 1\); relative paths begin in",
        ),
        ("1 / 0\n", r"{name} cannot be imported: ZeroDivisionError: division by zero \({name}.py, line 1\)"),
        (
            "import sys\nsys.exit('give a config')\n",
            r"importing {name} ends the program \(give a config\) \({name}.py, line 2\)",
        ),
        # 0 is what wandb's sys.exit, which is in force from its first run on, makes of nothing.
        ("import sys\nsys.exit()\n", r"importing {name} ends the program \(sys.exit\(0?\)\) \({name}.py, line 2\)"),
        (
            "import argparse\np = argparse.ArgumentParser()\np.add_argument('--root', required=True)\np.parse_args()\n",
            r"importing {name} ends the program \({name}: error: the following arguments are required: --root\) \({name}.py, line 4\); put",
        ),
        ("Nets = 3\n", r"module {name} \(.*{name}.py\) has nothing called Net"),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_line(write, capsys, text, message):
    name = write(text)
    with pytest.raises(DfkdError, match=f"^teacher.target={name}.Net: {message.format(name=name)}") as refused:
        import_by_path(f"{name}.Net", "teacher.target")
    assert "\n" not in str(refused.value)
    assert capsys.readouterr().err == "", "no usage of another program"


def test_arguments_are_not_the_modules(write, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dfkd", "data=digits", "--help"])
    name = write(
        "import argparse, sys\np = argparse.ArgumentParser()\np.add_argument('--width', type=int, default=16)\n"
        "width = p.parse_args().width\nprint('made')\nprint('beware', file=sys.stderr)\n"
    )
    assert import_by_path(f"{name}.width", "teacher.target") == 16
    assert sys.argv == ["dfkd", "data=digits", "--help"]
    assert capsys.readouterr() == ("made\n", "beware\n")


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("net.py:Net", r" \(did you mean net.Net\?\)"), ("./net.Net", r" \(did you mean net.Net\?\)"),
        ("models/net.py:Net", r" \(did you mean models.net.Net\?\)"), ("Net", "$"), ("a..b", "$"), ("net:", "$"), ("", "$"),
    ],
)  # fmt: skip
def test_what_is_no_import_path_is_refused_with_what_was_meant(path, meant):
    with pytest.raises(DfkdError, match=rf"^flag must be an import path like .*, got '.*'{meant}"):
        import_by_path(path, "flag")


def test_modes_are_afterwards_as_they_were(write, tmp_path):
    import torch

    name = write(
        "import os, torch\ntorch.set_grad_enabled(False)\ntorch.set_default_dtype(torch.float64)\ntorch.set_default_device('meta')\n"
        "os.chdir('/')\n"
    )
    with pytest.raises(DfkdError, match="has nothing called Net"):
        import_by_path(f"{name}.Net", "teacher.target")
    assert torch.is_grad_enabled()
    assert torch.zeros(1).dtype == torch.float32
    assert torch.zeros(1).device.type == "cpu"
    assert not torch.overrides._get_current_function_mode_stack(), "every function would go through it"
    assert os.getcwd() == str(tmp_path)


def test_other_ends_are_not_held_up():
    with pytest.raises(KeyboardInterrupt), on_its_own("it"):
        raise KeyboardInterrupt
