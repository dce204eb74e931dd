"""docs/extending.md, done as it stands but small, in a package of somebody else's."""

import re
import shlex
import sys
from pathlib import Path

from tests.conftest import draw_nothing, run_main

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"(?:^`(\S+)`:\n\n)?^```(\w+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
"""The file that a block is, if it is one; its language and text."""


def test_every_file_and_command_works_from_outside_the_package(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    draw_nothing(monkeypatch)
    commands = 0
    for file, language, block in BLOCKS:
        if language != "bash":
            assert file, f"above a block stands the name of its file: {block[:40]!r}"
            assert not (ROOT / file).exists()
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_text(block)
            continue
        for command in block.splitlines():
            program, *arguments = shlex.split(command)
            assert program == "dfkd"
            assert run_main([*arguments, "scale=smoke", "trainer=cpu"]) == 0, command + capfd.readouterr().err
            commands += 1
    results = [*Path("outputs").glob("runs/*/**/result.json")]
    assert commands == len(re.findall(r"^dfkd ", TEXT, re.MULTILINE))
    said = [line for line in TEXT.splitlines() if line.startswith("dfkd")]
    assert len(results) == commands + sum(" -m " in line for line in said) - sum("=release " in line for line in said)
    for module in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[module]


def test_a_wrong_value_of_somebody_elses_class_is_one_line_that_names_the_flag(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    [block] = [block for file, _, block in BLOCKS if file == "my_package/rings.py"]
    Path("my_package").mkdir()
    Path("my_package/rings.py").write_text(block)
    assert run_main(["data=my_package.rings.Rings", "data.size=4"]) == 2
    assert capfd.readouterr().err.strip().endswith("data.size must be at least 8, got 4")
    for module in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[module]
