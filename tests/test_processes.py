"""Threads are those that this process may keep busy, not the machine's; and memory that was freed is at hand."""

import os
import platform
import subprocess
import sys

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


FAULTS = """
import resource, sys
from dfkd_exp.processes import keep_freed_memory
if sys.argv[1] == "kept": keep_freed_memory()
bytearray(2**26)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10): bytearray(2**26)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's allocator that is told")
@pytest.mark.parametrize("told", [{}, {"MALLOC_TOP_PAD_": "0"}], ids=["untold", "told by the user"])
def test_freed_memory_is_used_again_without_the_system_clearing_it(told):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | told
    faults = [
        int(
            subprocess.run([sys.executable, "-c", FAULTS, how], env=environment, capture_output=True, check=True).stdout
        )
        for how in ("kept", "as it is")
    ]
    assert (faults[0] < faults[1] / 10) is (not told)
