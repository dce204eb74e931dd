"""docs/tutorial-own-teacher-and-images.md, done as it stands but small."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

from tests.conftest import run_main

TEXT = (Path(__file__).parents[2] / "docs" / "tutorial-own-teacher-and-images.md").read_text()
BLOCKS = re.findall(r"^```(bash|python|text)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
SMALLER = {"per_class=200": "per_class=10", "steps=200": "steps=3", "epochs=30": "epochs=1", "range(10)": "range(1)"}
CHOSEN_HERE = ("reconstruction.images_per_class=", "training.epochs=")


def words(text):
    """The words of each line that has any, without what depends on scale, time and luck."""
    text = re.sub(r"store/\S+|\d{8}-\d{6}-\w{6}|(?<!\w)[\d.,]+(?!\w)", "", text)
    lines = [re.findall(r"[A-Za-z▸][\w.-]+", line) for line in text.splitlines()]
    return [" ".join(line) for line in lines if line]


def bash(block):
    """Run a block in this process, ``dfkd`` small, and ``cd`` for what follows."""
    for command in block.replace("\\\n", " ").replace(" && ", "\n").splitlines():
        program, *arguments = shlex.split(command)
        if program == "cd":
            os.chdir(arguments[0])
        elif program == "dfkd":
            kept = [argument for argument in arguments if not argument.startswith(CHOSEN_HERE)]
            assert run_main([*kept, "scale=smoke", "trainer=cpu"]) == 0, command
        elif program == "python":
            [script] = arguments
            runpy.run_path(script, run_name="__main__")
        else:
            subprocess.run([program, *arguments], check=True)


def test_every_block_runs_and_prints_what_is_shown(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    ran = 0
    for language, block in BLOCKS:
        for full, small in SMALLER.items():
            block = block.replace(full, small)
        if language == "bash":
            capfd.readouterr()
            bash(block)
            ran += 1
        elif language == "python" and (name := re.match(r"# (\w+\.py)\n", block)):
            Path(name[1]).write_text(block)
        elif language == "python":
            capfd.readouterr()
            exec(block, {})
            ran += 1
        else:
            shown = Path("published/README.md").read_text() if block.startswith("|") else capfd.readouterr().out
            missing = [line for line in words(block) if line not in words(shown)]
            assert not missing, f"shown in the tutorial, but not printed: {missing}"
    assert ran == 13
    monkeypatch.delitem(sys.modules, "my_net")
    for folder in ("published", "published-small", "published-from-python"):
        assert Path(folder, "model.safetensors").is_file()
    stated = [
        int(number.replace(",", ""))
        for number in re.findall(r"([\d,]+) bytes of metadata instead of ([\d,]+)", TEXT)[0]
    ]
    from dfkd_exp import read_release

    assert [read_release(name).metadata().num_bytes for name in ("published-small", "published")] == stated
