"""What one process makes of a batch is what PyTorch makes of it, forward, backward and in the running statistics, and so do two."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing import start_processes

from dfkd_exp.batch_norm import BatchNormOverProcesses
from dfkd_exp.processes import start_method
from dfkd_exp.ranks import Ranks
from dfkd_exp.training.module import Share


@pytest.fixture(scope="module", autouse=True)
def a_group_of_one(tmp_path_factory):
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path_factory.mktemp('group')}/rendezvous", rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


LAYERS = {
    "planes": (nn.BatchNorm2d(3), (5, 3, 4, 4)),
    "vectors": (nn.BatchNorm1d(3), (5, 3)),
    "without weights": (nn.BatchNorm2d(3, affine=False), (5, 3, 4, 4)),
    "an average of all batches": (nn.BatchNorm2d(3, momentum=None), (5, 3, 4, 4)),
    "without running statistics": (nn.BatchNorm2d(3, track_running_stats=False), (5, 3, 4, 4)),
}


@pytest.mark.parametrize("case", LAYERS)
def test_it_is_pytorchs_own(case):
    layer, shape = copy.deepcopy(LAYERS[case])
    plain, ours = nn.Sequential(layer), nn.Sequential(copy.deepcopy(layer))
    sync = BatchNormOverProcesses()
    sync.apply(ours)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        images = torch.randn(shape, generator=generator) * 2 + 5
        weight = torch.randn(shape, generator=generator)
        found = []
        for network in (plain, ours):
            values = images.clone().requires_grad_(True)
            out = network(values)
            (out * weight).sum().backward()
            found.append([out, values.grad, *(p.grad for p in network.parameters())])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert plain.state_dict().keys() == ours.state_dict().keys()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(images), plain.eval()(images))
    sync.revert(ours)
    assert "forward" not in vars(ours[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_it_sums_as_in_whole(dtype):
    ours = nn.Sequential(nn.BatchNorm2d(3))
    BatchNormOverProcesses().apply(ours)
    values = (torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)) / 2 + 10).to(dtype)
    out = ours(values)
    assert out.dtype == dtype
    assert out.float().mean((0, 2, 3)).abs().max() < 0.01
    assert (ours[0].running_mean - 1).abs().max() < 1e-3, "a tenth of the way to ten"


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3)
    ).double()  # fmt: skip


def step(network: nn.Module, rows: torch.Tensor, weight: float = 1.0) -> None:
    """Forward and backward through the rows of a batch of 65."""
    images = torch.randn(65, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.arange(65) % 3
    (nn.functional.cross_entropy(network(images[rows]), labels[rows]) * weight).backward()


def one_of_two(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/two", rank=rank, world_size=2)
    shared, share = BatchNormOverProcesses().apply(network()), Share.of(65, 65, Ranks(rank, 2))
    step(nn.parallel.DistributedDataParallel(shared), share.rows, share.weights[0])
    torch.save([{n: p.grad for n, p in shared.named_parameters()}, dict(shared.named_buffers())], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_make_what_one_makes(tmp_path):
    start_processes(one_of_two, args=(str(tmp_path),), nprocs=2, start_method=start_method())
    step(whole := network(), torch.arange(65))
    for rank in range(2):
        gradients, buffers = torch.load(tmp_path / f"{rank}.pt")
        for name, parameter in whole.named_parameters():
            torch.testing.assert_close(gradients[name], parameter.grad)
        for name, buffer in whole.named_buffers():
            torch.testing.assert_close(buffers[name], buffer)
