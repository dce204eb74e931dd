"""Work in processes of its own, so that it starts from nothing: no memory, no artifact and no compiled code from before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def python(*arguments: str, **environment: str) -> str:
    """What ``python ARGUMENTS`` prints; what it complains of is shown."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def dfkd(*arguments: str) -> dict[str, Any]:
    """The result of ``dfkd ARGUMENTS``."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = str(Path(folder, "compiled"))
        python("-m", "dfkd_exp", *arguments, f"outputs={folder}", TORCHINDUCTOR_CACHE_DIR=compiled)
        [path] = Path(folder).glob("runs/*/*/result.json")
        return json.loads(path.read_text())
