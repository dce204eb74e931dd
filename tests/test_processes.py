"""Threads are those that this process may keep busy, not the machine's."""

import os

import pytest

from dfkd_exp import processes


@pytest.mark.parametrize(
    ("said", "quota", "threads"),
    [
        ("", "max 100000", 6), ("", "400000 100000", 4), ("", "50000 100000", 1), ("", "250000 100000", 3), ("", "odd", 6), ("", None, 6),
        ("2", "max 100000", 2), ("2,1", None, 2), ("many", None, 6), ("0", None, 6),
        ("-1", None, 6), ("1.5", None, 6), ("9" * 20, None, 1024),
    ],
)  # fmt: skip
def test_threads_are_those_that_it_may_use(said, quota, threads, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6), raising=False)
    monkeypatch.setattr(processes, "QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    assert processes.num_threads() == threads


@pytest.mark.parametrize(("task", "threads"), [("4", 4), ("64", 6), ("", 6)])
def test_a_slurm_task_has_no_more_than_it_asked_for(task, threads, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", task)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6), raising=False)
    monkeypatch.setattr(processes, "QUOTA", tmp_path / "none")
    assert processes.num_threads() == threads
