"""Rows of several files as one sequence, of which nothing stays in memory."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dfkd_exp.data import rows as module
from dfkd_exp.data.rows import Rows
from dfkd_exp.errors import DfkdError
from dfkd_exp.evaluation.cost import peak_memory


def write(folder: Path, lengths, dtype=torch.float16, shape=(1, 2, 3)):
    """Files of so many rows each, and all rows."""
    whole = torch.arange(sum(lengths) * 6).view(-1, *shape).to(dtype)
    paths = []
    for number, part in enumerate(whole.split(lengths)):
        paths.append(folder / f"{number}.safetensors")
        save_file({"labels": torch.arange(len(part)), "pixels": part.contiguous()}, paths[-1])
    return paths, whole


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("lengths", [[7], [3, 1, 4], [1] * 8])
def test_rows_are_taken_in_any_order_over_all_files(tmp_path, dtype, lengths, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE_BYTES", 20)
    paths, whole = write(tmp_path, lengths, dtype)
    rows = Rows.of_files(paths, "pixels")
    assert (len(rows), rows.shape, rows.nbytes) == (len(whole), whole.shape[1:], whole.nbytes)
    for chosen in ([0], [len(whole) - 1, 0, 2], list(range(len(whole))), [2, 2, 1], []):
        index = torch.tensor(chosen, dtype=torch.long)
        assert torch.equal(rows.take(index), whole[index])
        for parts in ([whole], whole.split(lengths)):
            assert torch.equal(Rows(parts).take(index), whole[index])
    assert torch.equal(rows.to(torch.device("cpu")).parts[0], whole)


def test_a_file_that_was_cut_off_is_named(tmp_path):
    [path], _ = write(tmp_path, [5])
    rows = Rows.of_files([path], "pixels")
    path.write_bytes(path.read_bytes()[:-1])
    assert len(rows.take(torch.tensor([3]))) == 1
    with pytest.raises(DfkdError, match=r"0\.safetensors ends before its tensors do"):
        rows.take(torch.tensor([4]))


def test_more_files_than_a_process_may_hold_open(tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    paths, whole = write(tmp_path, [1] * 80)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        assert torch.equal(Rows.of_files(paths, "pixels").take(torch.arange(80)), whole)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux can start to measure anew")
def test_what_was_read_does_not_stay_in_memory(tmp_path):
    """64 MB, read in an order of chance and in their own, half a MB at a time."""
    path = tmp_path / "big.safetensors"
    save_file({"pixels": torch.zeros(4096, 1, 64, 64)}, path)
    rows = Rows.of_files([path], "pixels")
    order = torch.randperm(4096, generator=torch.Generator().manual_seed(0))
    with peak_memory(torch.device("cpu")) as before:
        rows.take(order[:32])
    with peak_memory(torch.device("cpu")) as after:
        for index in (*order.split(32), *torch.arange(4096).split(32)):
            rows.take(index)
    assert after.num_bytes < before.num_bytes + 2**24
