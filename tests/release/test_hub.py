"""A release on the Hub: as its library lays it out, by name, and with a card that it understands; the Hub itself is a stand-in."""

import os
import re
import shutil
import sys
import types
from pathlib import Path

import pytest
import yaml

from dfkd_exp.errors import DfkdError
from dfkd_exp.release.folder import read_release
from dfkd_exp.release.hub import local_folder


def snapshot(release: Path, cache: Path) -> Path:
    """The release as ``snapshot_download`` leaves it: links into a folder of blobs, beside files of the Hub's own."""
    blobs, folder = cache / "blobs", cache / "snapshots" / "0123456789abcdef"
    blobs.mkdir(parents=True)
    folder.mkdir(parents=True)
    for number, path in enumerate(sorted(release.iterdir())):
        shutil.copyfile(path, blobs / f"{number:064x}")
        (folder / path.name).symlink_to(os.path.relpath(blobs / f"{number:064x}", folder))
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "CACHEDIR.TAG").write_text("")
    (folder / "pytorch_model.bin").write_bytes(b"what else its owner put there")
    return folder


@pytest.fixture
def hub(monkeypatch):
    """``hub(answer)``: what the library answers, a folder or an error; ``hub.asked``: what it was asked for."""

    def install(answer):
        def snapshot_download(name, **options):
            install.asked.append((name, options))
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download))

    install.asked = []
    return install


def test_what_the_library_downloads_is_read_as_a_release(release_folder, tmp_path):
    found = read_release(snapshot(release_folder, tmp_path))
    assert found.digest == read_release(release_folder).digest
    found.teacher()
    found.metadata()


def test_a_run_from_the_hub_is_the_run_from_the_folder(dfkd, hub, release_folder, tmp_path):
    hub(snapshot(release_folder, tmp_path / "cache"))
    here = dfkd("pipeline=from_release", f"release={release_folder}", "data=none")
    there = dfkd("pipeline=from_release", "release=hf://org/name@v1.0", "data=none")
    assert (here.code, there.code) == (0, 0), there.err
    assert all(phase["reused"] for phase in there.result["phases"].values()), "the name is part of an identity"
    [(name, options)] = hub.asked
    assert (name, options["revision"]) == ("org/name", "v1.0")
    assert "pytorch_model.bin" not in options["allow_patterns"]
    assert {path.name for path in release_folder.iterdir()} == set(options["allow_patterns"])


def named(kind):
    return type(kind, (Exception,), {})(
        "404 Client Error.\n\nRepository Not Found for url: https://hub/api.\nmore\x1b[31m"
    )


@pytest.mark.parametrize(
    ("kind", "way_out"),
    [
        ("RepositoryNotFoundError", "check name and revision, and if it is not public, log in: hf auth login"),
        ("RevisionNotFoundError", "check name and revision"),
        ("LocalEntryNotFoundError", "hf download org/name --local-dir FOLDER, and give release=FOLDER"),
        ("ConnectionError", "hf download org/name --local-dir FOLDER"),
    ],
)
def test_what_the_hub_does_not_give_is_one_line_with_the_way_out(dfkd, hub, kind, way_out):
    hub(named(kind))
    ran = dfkd("pipeline=from_release", "release=hf://org/name", "data=none")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert ran.err.startswith(f"error: release=hf://org/name: the Hub did not give it ({kind}: 404 Client Error.")
    assert way_out in ran.err
    assert "\x1b" not in ran.err


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DfkdError, match=r"pip install 'dfkd_exp\[hub\]'"):
        local_folder("hf://org/name")


@pytest.mark.parametrize(
    "name", ["hf://", "hf://name", "hf://org/name/file", "hf://org/name@", "hf://../name/..", "hf://org/na me"]
)
def test_what_is_no_name_is_refused_before_the_hub_is_asked(hub, name):
    hub(AssertionError("asked"))
    with pytest.raises(DfkdError, match="a name on the Hub is hf://org/name"):
        local_folder(name)


def test_the_hub_is_not_written_to_but_the_command_is_said(dfkd):
    ran = dfkd("pipeline=release", "release=hf://org/name")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "then hf upload org/name FOLDER publishes it" in ran.err
    assert not Path("hf:").exists()


def front_matter(card: str) -> dict:
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1])


def test_the_card_is_what_the_hub_reads(release_folder):
    card = (release_folder / "README.md").read_text("utf-8")
    said = front_matter(card)
    assert (said["library_name"], said["pipeline_tag"]) == ("dfkd_exp", "image-classification")
    [model] = said["model-index"]
    [result] = model["results"]
    accuracy = read_release(release_folder).teacher_accuracy
    assert result["task"] == {"type": "image-classification"}
    assert result["metrics"] == [{"type": "accuracy", "value": pytest.approx(accuracy, abs=1e-4)}]
    assert said["metrics"] == ["accuracy"]


def test_the_library_itself_reads_the_card(release_folder):
    cards = pytest.importorskip("huggingface_hub").ModelCard
    data = cards((release_folder / "README.md").read_text("utf-8")).data
    assert data.library_name == "dfkd_exp"
    [result] = data.eval_results
    assert (result.task_type, result.metric_type) == ("image-classification", "accuracy")
