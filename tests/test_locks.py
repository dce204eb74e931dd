"""Locks: held by one process, dropped with it, and refused where the file system has none."""

import errno
import fcntl
import os

import pytest

from dfkd_exp import locks
from dfkd_exp.errors import DfkdError
from dfkd_exp.locks import Timeout, is_held, lock
from dfkd_exp.run_folder import at_work
from dfkd_exp.store import Store
from tests.test_store import write

WITHOUT = {
    "store": lambda folder: Store(folder).get_or_make("phase", {}, 1, write()),
    "run": lambda folder: at_work(folder, []).__enter__(),
    "lock": lambda folder: lock(folder / "a.lock"),
}


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
@pytest.mark.parametrize("user", WITHOUT)
def test_where_there_are_no_locks_that_is_said_and_nothing_is_left(user, number, tmp_path, monkeypatch):
    def no_flock(*_):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(locks, "_tried", set())
    monkeypatch.setattr(fcntl, "flock", no_flock)
    with pytest.raises(DfkdError, match=r"no locks \(flock: no locks here\).*outputs="):
        WITHOUT[user](tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_lock_is_held_by_one(tmp_path):
    with lock(tmp_path / "a.lock"), pytest.raises(Timeout):
        lock(tmp_path / "a.lock", timeout=0).acquire()
    lock(tmp_path / "a.lock", timeout=0).acquire()


def test_whoever_may_read_a_lock_may_ask_whether_it_is_held(tmp_path, monkeypatch):
    opened = os.open

    def for_reading_only(path, flags, *others):
        if flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT):
            raise PermissionError(path)
        return opened(path, flags, *others)

    path = tmp_path / "a.lock"
    with lock(path):
        monkeypatch.setattr(os, "open", for_reading_only)
        assert is_held(path)
        monkeypatch.undo()
    path.touch()
    assert not is_held(path)
    assert not is_held(tmp_path / "none.lock")
