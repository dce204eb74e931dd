"""Artifacts: never twice, never half."""

import json
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dfkd_exp import locks
from dfkd_exp.errors import DfkdError
from dfkd_exp.files import WORK, canonical_json, write_atomically
from dfkd_exp.locks import lock
from dfkd_exp.manifest import MANIFEST, verify
from dfkd_exp.store import Store


def write(content: str = "made", calls: list | None = None):
    def make(folder: Path) -> dict:
        if calls is not None:
            calls.append(folder)
        (folder / "file.txt").write_text(content)
        return {"fact": 1}

    return make


def test_what_is_prepared_is_no_part_of_the_seconds_and_only_for_what_is_made(tmp_path):
    calls: list = []

    def prepare():
        calls.append("prepared")
        time.sleep(0.3)

    made = Store(tmp_path).get_or_make("phase", {"a": 1}, 1, write(), prepare=prepare)
    assert made.seconds < 0.3
    Store(tmp_path).get_or_make("phase", {"a": 1}, 1, write(), prepare=prepare)
    assert calls == ["prepared"]


def test_made_once_then_reused(tmp_path):
    calls: list = []
    store = Store(tmp_path)
    first = store.get_or_make("phase", {"a": 1}, 1, write(calls=calls))
    again = Store(tmp_path).get_or_make("phase", {"a": 1}, 1, write(calls=calls))
    assert len(calls) == 1
    assert (first.reused, again.reused) == (False, True)
    assert again.info == {"fact": 1}
    assert again.digest == first.digest
    assert again.file("file.txt").read_text() == "made"


@pytest.mark.parametrize("other", [("other", {"a": 1}, 1), ("phase", {"a": 2}, 1), ("phase", {"a": 1}, 2)])
def test_the_key_depends_on_phase_identity_and_version(tmp_path, other):
    store = Store(tmp_path)
    first = store.get_or_make("phase", {"a": 1}, 1, write())
    assert store.get_or_make(*other, write()).key != first.key
    assert canonical_json({"b": 1, "a": 2}) == canonical_json({"a": 2, "b": 1})


def test_equal_content_has_equal_digest_whatever_its_key(tmp_path):
    store = Store(tmp_path)
    digests = {store.get_or_make("phase", {"a": a}, 1, write()).digest for a in range(3)}
    assert len(digests) == 1
    assert store.get_or_make("phase", {"a": 9}, 1, write("else")).digest not in digests


def test_a_failure_is_not_cached(tmp_path):
    def fail(folder: Path) -> dict:
        (folder / "half.txt").write_text("half")
        raise ValueError

    store = Store(tmp_path)
    with pytest.raises(ValueError):  # noqa: PT011
        store.get_or_make("phase", {}, 1, fail)
    artifact = store.get_or_make("phase", {}, 1, write())
    assert not artifact.reused
    assert artifact.manifest["resumed"]


def test_seconds_of_what_is_made_within_a_phase_are_counted_once(tmp_path):
    store = Store(tmp_path)

    def inner(folder):
        time.sleep(0.3)

    def outer(folder):
        store.get_or_make("images", {}, 1, inner)
        store.get_or_make("signals", {}, 1, inner)
        time.sleep(0.1)

    made = store.get_or_make("reconstruction", {}, 1, outer)
    within = [store.get_or_make(name, {}, 1, inner) for name in ("images", "signals")]
    assert 0.1 <= made.seconds < 0.3
    assert all(0.3 <= artifact.seconds < 0.5 for artifact in within)


def test_of_an_attempt_that_was_interrupted_too(tmp_path):
    store, attempts = Store(tmp_path), []

    def inner(folder):
        time.sleep(0.5)

    def outer(folder):
        store.get_or_make("images", {}, 1, inner)
        write_atomically(folder / "kept.txt", b"kept")
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        store.get_or_make("student", {}, 1, outer)
    made = store.get_or_make("student", {}, 1, outer)
    assert made.manifest["resumed"]
    assert made.seconds < 0.4, "without the half second of the images"
    assert [path.name for path in made.path.iterdir() if path.name not in (MANIFEST, "kept.txt")] == []


def test_the_seconds_are_those_of_all_attempts_as_far_as_they_left_anything(tmp_path):
    def attempt(worked: float, then: float, ends: bool):
        def make(folder: Path) -> dict:
            if worked:
                time.sleep(worked)
                write_atomically(folder / f"{worked}.txt", b"kept")
            time.sleep(then)  # what it does from here on is lost
            if not ends:
                raise ValueError
            return {}

        return make

    store = Store(tmp_path)
    for make in (attempt(0.3, 0.4, ends=False), attempt(0.0, 0.4, ends=False), attempt(0.2, 0.4, ends=False)):
        with pytest.raises(ValueError):  # noqa: PT011
            store.get_or_make("phase", {}, 1, make)
    made = store.get_or_make("phase", {}, 1, attempt(0.1, 0.0, ends=True))
    assert 0.6 <= made.seconds < 1.4
    assert sorted(path.name for path in made.path.iterdir()) == ["0.1.txt", "0.2.txt", "0.3.txt", MANIFEST]


def test_what_only_the_building_needs_is_removed(tmp_path):
    def make(folder: Path) -> dict:
        (folder / WORK).mkdir(exist_ok=True)
        (folder / WORK / "scratch").write_text("x")
        return write()(folder)

    artifact = Store(tmp_path).get_or_make("phase", {}, 1, make)
    assert set(artifact.manifest["files"]) == {"file.txt"}
    assert not artifact.file(WORK).exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "manifest"])
def test_a_damaged_artifact_is_put_aside_and_made_again(tmp_path, damage, capsys):
    store = Store(tmp_path)
    first = store.get_or_make("phase", {}, 1, write())
    path = first.file("file.txt")
    if damage == "flip":
        path.write_text("mAde")
    elif damage == "truncate":
        path.write_text("ma")
    elif damage == "delete":
        path.unlink()
    else:
        first.file(MANIFEST).write_text("{")
    again = store.get_or_make("phase", {}, 1, write())
    assert not again.reused
    assert again.file("file.txt").read_text() == "made"
    assert len(list((tmp_path / "phase").glob("*.damaged-*"))) == 1
    assert str(first.path) in capsys.readouterr().err


def odd_manifests(whole):
    """What a manifest may become, and is not this artifact's any more."""
    for name in ("key", "info", "seconds", "files", "phase", "resumed", "identity", "version"):
        yield {key: value for key, value in whole.items() if key != name}
        for value in (None, [], "x", -1, {"x": 1}):
            if name != "identity" or not isinstance(value, dict):
                yield {**whole, name: value}
    yield from ([], None, 5, "x", {}, {**whole, "key": "0" * 20}, {**whole, "format_version": 2})


def test_an_odd_manifest_is_put_aside_with_its_artifact(tmp_path):
    store = Store(tmp_path)
    first = store.get_or_make("phase", {}, 1, write())
    for odd in odd_manifests(first.manifest):
        if odd == {**first.manifest, "info": {"x": 1}}:
            continue  # may be
        first.file(MANIFEST).write_text(json.dumps(odd))
        again = store.get_or_make("phase", {}, 1, write())
        assert not again.reused, odd
        assert again.digest == first.digest


def test_a_fact_that_a_manifest_does_not_say_is_one_line_with_the_way_out(tmp_path):
    artifact = Store(tmp_path).get_or_make("phase", {}, 1, write())
    with pytest.raises(DfkdError, match=r"manifest\.json does not say accuracy; remove that folder"):
        artifact.info["accuracy"]


def dangling(path):
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch, dangling])
@pytest.mark.parametrize("where", ["", ".partial", ".partial/file.txt", ".partial/work"])
def test_what_no_run_leaves_in_a_store_is_put_aside(make, where, tmp_path):
    store = Store(tmp_path)
    first = store.get_or_make("phase", {}, 1, write())
    shutil.rmtree(first.path)
    odd = Path(f"{first.path}{where}")
    odd.parent.mkdir(exist_ok=True)
    make(odd)
    assert store.get_or_make("phase", {}, 1, write()).digest == first.digest
    assert not list((tmp_path / "phase").glob("*.partial"))


def test_verify_names_the_file(tmp_path):
    artifact = Store(tmp_path).get_or_make("phase", {}, 1, write())
    artifact.file("file.txt").write_text("more than was made")
    with pytest.raises(DfkdError, match=r"file\.txt is truncated or altered: 18 bytes, not 4"):
        verify(artifact.path)


def test_a_manifest_cannot_point_outside_its_folder(tmp_path):
    artifact = Store(tmp_path / "store").get_or_make("phase", {}, 1, write())
    (tmp_path / "secret").write_text("made")
    manifest = json.loads(artifact.file(MANIFEST).read_text())
    manifest["files"]["../../../secret"] = manifest["files"]["file.txt"]
    artifact.file(MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DfkdError, match="secret"):
        verify(artifact.path)


def test_written_files_are_whole_readable_and_leave_nothing_beside_them(tmp_path):
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "a", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644

    class Stop(BaseException):
        pass

    original = os.fsync

    def stop(_):
        raise Stop

    os.fsync = stop
    try:
        with pytest.raises(Stop):
            write_atomically(tmp_path / "a", b"2")
    finally:
        os.fsync = original
    assert (tmp_path / "a").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def _make_slowly(root: str) -> None:
    def make(folder: Path) -> dict:
        with (Path(root) / "calls").open("a") as file:
            file.write("x")
        time.sleep(0.5)
        return write()(folder)

    Store(root).get_or_make("phase", {}, 1, make)


def test_of_several_processes_one_makes_and_the_others_wait(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_make_slowly, args=(str(tmp_path),)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert (tmp_path / "calls").read_text() == "x"


def test_a_killed_maker_leaves_no_lock_and_no_artifact(tmp_path):
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom dfkd_exp.store import Store\n"
        "def make(folder):\n    (folder / 'part-1').write_text('kept')\n    print('ready', flush=True)\n    time.sleep(60)\n"
        f"Store({str(tmp_path)!r}).get_or_make('phase', {{}}, 1, make)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()

    def resume(folder: Path) -> dict:
        assert (folder / "part-1").read_text() == "kept"
        return {}

    started = time.monotonic()
    artifact = Store(tmp_path).get_or_make("phase", {}, 1, resume)
    assert time.monotonic() - started < 5
    assert artifact.manifest["resumed"]


def test_what_is_sound_is_read_while_another_holds_the_lock_and_where_nobody_may_write(tmp_path, monkeypatch):
    store = Store(tmp_path)
    made = store.get_or_make("phase", {}, 1, write())
    monkeypatch.setattr(locks, "_try", refuse)
    monkeypatch.setattr(locks, "_tried", set())
    assert store.get_or_make("phase", {}, 1, write()).reused
    monkeypatch.undo()
    with lock(made.path.with_name(f"{made.key}.lock")):
        assert store.get_or_make("phase", {}, 1, write()).reused


def refuse(folder):
    raise PermissionError(folder)
