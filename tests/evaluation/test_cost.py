"""The peak of the memory is that of the context, also when it fails."""

import mmap
import sys

import pytest
import torch

from dfkd_exp.evaluation.cost import peak_memory

MEGABYTE = 1_000_000
CPU = torch.device("cpu")


def use(megabytes):
    """Pages of the system's, which no memory that earlier tests have left to the process can stand for."""
    block = mmap.mmap(-1, megabytes * MEGABYTE)
    torch.frombuffer(block, dtype=torch.uint8).fill_(1)
    del block


def test_what_is_used_in_the_context_is_in_its_peak():
    with peak_memory(CPU) as small:
        pass
    with peak_memory(CPU) as large:
        use(200)
    assert small.num_bytes > MEGABYTE
    assert 150 * MEGABYTE < large.num_bytes - small.num_bytes < 300 * MEGABYTE


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system cannot forget an earlier peak")
def test_what_was_used_before_is_not():
    use(200)
    with peak_memory(CPU) as before:
        use(200)
    with peak_memory(CPU) as after:
        pass
    assert before.num_bytes - after.num_bytes > 150 * MEGABYTE


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system cannot forget an earlier peak")
def test_what_a_phase_used_before_and_in_one_within_it_is_in_its_peak_and_not_in_that_ones():
    with peak_memory(CPU) as before, peak_memory(CPU) as nothing:
        pass
    with peak_memory(CPU) as outer:
        use(200)
        with peak_memory(CPU) as inner:
            pass
    assert outer.num_bytes - inner.num_bytes > 150 * MEGABYTE
    with peak_memory(CPU) as outer, peak_memory(CPU) as inner:
        use(200)
    assert min(outer.num_bytes, inner.num_bytes) - max(before.num_bytes, nothing.num_bytes) > 100 * MEGABYTE


def fail(peak_of):
    with peak_memory(CPU) as peak:
        peak_of.append(peak)
        raise ValueError


def test_a_failure_is_measured_and_passed_on():
    kept = []
    with pytest.raises(ValueError):  # noqa: PT011
        fail(kept)
    assert kept[0].num_bytes > MEGABYTE
