"""The engine's candidates on a GPU, as if on one: TF32, channels last, graphs, and as many images as half of its memory holds."""

from dataclasses import replace

import pytest
import torch

from dfkd_exp.errors import DfkdError
from dfkd_exp.evaluation.cost import peak_memory
from dfkd_exp.reconstruction import Moments, Sample
from dfkd_exp.reconstruction.engine import choose, measure, replay
from dfkd_exp.reconstruction.engine.choose import resolve_engine
from dfkd_exp.reconstruction.engine.settings import PLAIN, Engine
from dfkd_exp.reconstruction.loop import reconstruct_groups
from dfkd_exp.reconstruction.objective import Objective
from dfkd_exp.reconstruction.optimizers import Adam
from dfkd_exp.reconstruction.synthesiser import Synthesiser
from tests.as_cuda import CUDA, MEMORY, as_cuda
from tests.tf32 import Tf32
from tests.toy import problem, toy_teacher

SETTINGS = Moments(images_per_class=8, group_size=4, steps=10)


def recorded(run):
    """As a CUDA graph is recorded: the tensors that were read and written are read and written again."""
    outcome = run()

    def again():
        for tensor, new in zip(outcome, run(), strict=True):
            tensor.copy_(new)

    return again, outcome


def stale(run):
    """A graph that is wrong: it gives what it gave when it was recorded."""
    return lambda: None, run()


@pytest.fixture
def gpu(metadata, monkeypatch):
    """A problem on a GPU, and all that is measured of it."""
    tried = []
    whole = measure._measured

    def measured(asked, engine, *rest):
        tried.append(engine)
        return whole(asked, engine, *rest)

    monkeypatch.setattr(measure, "_measured", measured)
    monkeypatch.setattr(measure, "STEPS", 1)
    monkeypatch.setattr(measure, "FAR_SLOWER", 1e9)  # on a busy machine a single step may take any time
    monkeypatch.setattr(replay, "record", recorded)
    for name, value in {"WORTH_MEASURING": 0, "FEWEST_STEPS": 0, "SHARE": 1e9}.items():
        monkeypatch.setattr(choose, name, value)
    with as_cuda():
        torch.cuda.init()
        yield problem(toy_teacher().to(CUDA), metadata, SETTINGS), tried


def test_a_gpu_has_candidates_of_its_own(gpu):
    asked, tried = gpu
    resolve_engine(Engine(compile=False), asked)
    forms = {(engine.precision, engine.convolutions) for engine in tried}
    assert forms == {
        (precision, form) for precision in ("fp32", "tf32", "bf16") for form in ("direct", "channels_last")
    }
    assert any(engine.cuda_graphs for engine in tried)
    assert {engine.images_per_batch for engine in tried} >= {24, 12}, "all, and half as many"


def test_a_batch_takes_half_of_the_free_memory(gpu):
    asked, _ = gpu
    assert measure.images_that_fit(asked, PLAIN) == MEMORY // 2 * SETTINGS.group_size // 900_000


def test_a_graph_that_does_not_follow_its_inputs_is_not_chosen(gpu, monkeypatch):
    asked, tried = gpu
    said = Engine(precision="fp32", convolutions="direct", compile=False, images_per_batch=8)
    monkeypatch.setattr(replay, "record", stale)
    assert not resolve_engine(said, asked).cuda_graphs
    assert tried[-1].cuda_graphs


def test_where_no_graph_can_be_recorded_the_work_is_done_without(gpu, monkeypatch, capsys):
    def raising(run):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(replay, "record", raising)
    assert not resolve_engine(Engine(compile=False), gpu[0]).cuda_graphs
    assert "no CUDA graph (RuntimeError)" in capsys.readouterr().out


@pytest.mark.parametrize("match", [Moments, Sample])
def test_replayed_the_images_are_the_same(teacher, metadata, monkeypatch, match):
    """Batch after batch, whose targets are others."""
    settings = match(images_per_class=8, group_size=4, steps=10)
    plain = Objective(problem(teacher, metadata, settings), PLAIN)
    expected = [reconstruct_groups(plain, groups, Adam(), 0) for groups in ([0, 1], [2, 3], [4])]
    runs = []
    monkeypatch.setattr(replay, "record", lambda run: runs.append(run) or recorded(run))
    with as_cuda():
        objective = Objective(problem(toy_teacher().to(CUDA), metadata, settings), replace(PLAIN, cuda_graphs=True))
        for groups, images in zip(([0, 1], [2, 3], [4]), expected, strict=True):
            found = reconstruct_groups(objective, groups, Adam(), 0)
            torch.testing.assert_close(found.pixels, images.pixels)
            torch.testing.assert_close(found.losses, images.losses)
    assert len(runs) == 1, "the smaller last batch is not worth a recording"


@pytest.mark.parametrize(("precision", "rounds"), [("fp32", False), ("tf32", True)])
def test_tf32_is_used_where_it_was_chosen_and_nowhere_else(metadata, precision, rounds):
    """Whatever PyTorch's own settings are: its convolutions would be TF32's."""
    with as_cuda(), Tf32() as mode:
        teacher = toy_teacher().to(CUDA)
        objective = Objective(problem(teacher, metadata, SETTINGS), replace(PLAIN, precision=precision))
        before = mode.rounded
        reconstruct_groups(objective, [0, 1], Adam(), 0)
        assert (mode.rounded > before) is rounds
        before = mode.rounded
        Synthesiser(objective, Adam(), groups=1, group_size=4, steps=2, seed=0).make(toy_teacher(1).to(CUDA))
        assert (mode.rounded > before) is rounds


def test_without_a_gpu_a_graph_is_refused(teacher, metadata):
    with pytest.raises(DfkdError, match=r"engine\.cuda_graphs=true needs a GPU"):
        Objective(problem(teacher, metadata, SETTINGS), replace(PLAIN, cuda_graphs=True))


def test_memory_that_ends_on_the_way_is_said_with_what_to_set(teacher, metadata, monkeypatch):
    objective = Objective(problem(teacher, metadata, SETTINGS), PLAIN)

    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Objective, "__call__", full)
    with pytest.raises(DfkdError, match=r"for 8 images at a time; set engine\.images_per_batch=4"):
        reconstruct_groups(objective, [0, 1], Adam(), 0)
    with pytest.raises(DfkdError, match=r"for 4 images at a time; set a smaller reconstruction\.group_size"):
        reconstruct_groups(objective, [0], Adam(), 0)


def test_the_first_phases_memory_is_measured_before_anything_is_on_the_gpu():
    with as_cuda(), peak_memory(CUDA) as peak:
        pass
    assert peak.num_bytes == 1_000_000
