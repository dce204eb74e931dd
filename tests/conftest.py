"""What several tests share: the command, run in this process, and a release to start from."""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

# Before torch is imported: several test processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where tests run in a shell's background Ctrl-C is ignored, and would be in all that they start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SMALL = ("scale=smoke", "trainer=cpu")
REAL_DATA = Path(os.environ.get("DFKD_DATA_DIR", "/nowhere"))


@pytest.fixture(scope="session", autouse=True)
def nothing_is_done_for_a_power_failure_or_over_and_over():
    """Files of tests need not survive the machine; what is installed, which Lightning looks up for each Trainer, stays; so do the files
    of conf/, of which most commands compose the same choices; and of each seed torch would keep, for each kind of device that is not
    there, how it came to be set."""
    import torch
    from hydra._internal import defaults_list
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_repository import ConfigRepository
    from lightning_fabric.utilities import registry

    from dfkd_exp.config import composition
    from tests.compositions import once, read_once

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(registry, "entry_points", functools.cache(registry.entry_points))
        patch.setattr(ConfigLoaderImpl, "_load_configuration_impl", once(ConfigLoaderImpl._load_configuration_impl))
        patch.setattr(ConfigRepository, "load_config", read_once(ConfigRepository.load_config))
        patch.setattr(defaults_list, "_create_interpolation_map", composition._map_where_needed)  # as in a command
        for kind in (torch.cuda, torch.xpu, torch.mtia):
            if not kind.is_available():
                patch.setattr(kind, "_lazy_call", lambda call, **kwargs: None)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs come first, so that what the processes of tests divide among themselves at the end is short."""
    items.sort(key=lambda item: "dfkd" not in getattr(item, "fixturenames", ()))


def pytest_collection_finish() -> None:
    """Thousands of tests and all modules stay to the end, and need not be looked through each time that Python collects garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("data") and not (REAL_DATA / "mnist").is_dir():
        pytest.skip("needs MNIST: set DFKD_DATA_DIR to the folder that has mnist/")


@dataclass
class Ran:
    """A run of the command: exit code, what it printed, and the results that it wrote."""

    code: int
    out: str
    err: str
    outputs: Path

    def results(self) -> list[dict]:
        paths = sorted(self.outputs.glob("runs/*/**/result.json"), key=lambda path: path.stat().st_mtime_ns)
        return [json.loads(path.read_text()) for path in paths]

    @property
    def result(self) -> dict:
        return self.results()[-1]


def run_main(arguments: list[str]) -> int:
    """``dfkd ARGUMENTS`` in this process; its exit code."""
    from dfkd_exp.__main__ import main

    before = sys.argv
    sys.argv = ["dfkd", *arguments]
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


def draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for drawing in ("accuracy_against", "over_training", "curves"):
        monkeypatch.setattr(f"dfkd_exp.report.page.{drawing}", lambda *what, **how: None)
    monkeypatch.setattr("dfkd_exp.report.page.svg", lambda figure: "<svg></svg>")
    monkeypatch.setattr("dfkd_exp.report.page.png", lambda figure: b"")


@pytest.fixture
def dfkd(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """``dfkd("seed=1", …)`` runs the command small, with its outputs in ``tmp_path``. Of its sweeps' reports the drawings are empty, which
    take longer than the jobs, but where a module of tests has ``DRAWS = True``."""
    outputs = tmp_path / "outputs"
    monkeypatch.chdir(tmp_path)
    if not getattr(request.module, "DRAWS", False):
        draw_nothing(monkeypatch)

    def run(*arguments: str, small: bool = True) -> Ran:
        asked = {"--help", "-h"} & set(arguments)
        said = [*arguments, *([] if asked else [f"outputs={outputs}"]), *(SMALL if small else ())]
        code = run_main(said)
        out, err = capsys.readouterr()
        return Ran(code, out, err, outputs)

    return run


@pytest.fixture(scope="session")
def release_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small release of a digits teacher. Copy it before you change it."""
    folder = tmp_path_factory.mktemp("release")
    assert run_main(["pipeline=release", f"release={folder / 'release'}", f"outputs={folder / 'outputs'}", *SMALL]) == 0
    return folder / "release"
