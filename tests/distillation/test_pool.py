"""Images that are kept: which are drawn, where they lie, and that a training that was killed finds all that it had."""

import shutil

import pytest
import torch

from dfkd_exp.distillation import pool as room
from dfkd_exp.distillation.distill import train_on_teacher
from dfkd_exp.distillation.pool import Pool, PoolInFiles
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.errors import DfkdError
from dfkd_exp.models.recording import weights_digest
from dfkd_exp.trainer import TrainerSettings
from tests.as_cuda import CUDA, as_cuda
from tests.conftest import SMALL, run_main
from tests.distillation.test_synthesised import META, student, synthesised
from tests.test_ranks import TWO, tensors
from tests.toy import INPUTS, toy_teacher


@pytest.fixture(params=["in memory", "in files"])
def pool_of(request, tmp_path, monkeypatch):
    """A pool of images of one pixel; two lie in a file."""
    monkeypatch.setattr(room, "PART_BYTES", 4)
    return lambda size: Pool(size) if request.param == "in memory" else PoolInFiles(size, tmp_path / "pool", (1, 1, 1))


def batch(*values):
    return room.Batch(torch.tensor(values).view(-1, 1, 1, 1).float(), torch.tensor(values) % 3)


def seen(pool):
    drawn = pool.drawn(200, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.labels, drawn.pixels.flatten().long() % 3)
    return set(drawn.pixels.flatten().tolist())


def test_what_was_added_is_drawn_and_the_oldest_go(pool_of):
    pool = pool_of(4)
    pool.add(batch(1, 2))
    assert seen(pool) == {1, 2}
    pool.add(batch(3, 4))
    pool.add(batch(5))
    assert len(pool) == 4
    assert seen(pool) == {2, 3, 4, 5}


def test_images_without_classes_stay_so(pool_of):
    pool = pool_of(4)
    pool.add(room.Batch(torch.rand(2, 1, 1, 1)))
    assert pool.drawn(3, torch.Generator()).labels is None


def test_in_files_lies_what_would_lie_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "PART_BYTES", 6)
    pools = Pool(7), PoolInFiles(7, tmp_path, (1, 1, 1))
    for number in range(0, 60, 4):
        drawn = []
        for pool in pools:
            pool.add(batch(*range(number, number + 4)))
            drawn.append(pool.drawn(20, torch.Generator().manual_seed(number)))
        assert torch.equal(drawn[0].pixels, drawn[1].pixels)
        assert torch.equal(drawn[0].labels, drawn[1].labels)


def test_files_are_removed_when_no_checkpoint_needs_them(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "PART_BYTES", 4)
    pool = PoolInFiles(6, tmp_path, (1, 1, 1))
    for number in range(0, 100, 2):
        pool.add(batch(number, number + 1))
        if number % 10 == 8:
            pool.state()
    assert len(list(tmp_path.iterdir())) <= (6 + 20) // 2 + 1, (
        "those of the pool and of what two checkpoints reach back"
    )


def test_after_any_checkpoint_all_is_there_that_was_then(tmp_path, monkeypatch):
    """Killed long after the last checkpoint, or while it was written, so that the one before it counts."""
    monkeypatch.setattr(room, "PART_BYTES", 4)
    pool, states = PoolInFiles(6, tmp_path, (1, 1, 1)), []
    for number in range(40):
        pool.add(batch(number))
        if number in (15, 30):
            states.append(({name: value.clone() for name, value in pool.state().items()}, seen(pool)))
    for state, expected in states:
        assert state.keys() == {"pool.labels", "pool.count"}
        again = PoolInFiles(6, tmp_path, (1, 1, 1))
        again.load_state(state)
        assert seen(again) == expected


def test_a_file_that_is_gone_is_said(tmp_path):
    pool = PoolInFiles(4, tmp_path / "pool", (1, 1, 1))
    pool.add(batch(1, 2))
    state = pool.state()
    shutil.rmtree(tmp_path / "pool")
    with pytest.raises(DfkdError, match=f"cannot be continued; remove {tmp_path}"):
        PoolInFiles(4, tmp_path / "pool", (1, 1, 1)).load_state(state)


def test_some_are_left_when_the_files_are_gone(pool_of, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "LEFT", 3)
    pool = pool_of(5)
    pool.add(batch(*range(9)))
    state = pool.left()
    shutil.rmtree(tmp_path / "pool", ignore_errors=True)
    left = Pool(5)
    left.load_state(state)
    assert len(left) == 3
    assert seen(left) < {4, 5, 6, 7, 8}


def test_what_was_in_a_checkpoint_is_added_to_on_a_gpu(pool_of):
    """Checkpoints are read into the CPU's memory."""
    pool = pool_of(4)
    pool.add(batch(1, 2, 3))
    state = pool.state()
    with as_cuda():
        again = pool_of(4)
        again.load_state(state)
        made = batch(4, 5)
        again.add(made.to(CUDA))
        assert len(again.drawn(3, torch.Generator().manual_seed(0))) == 3


class KilledError(Exception):
    pass


def test_a_training_that_is_killed_goes_on_with_the_pool_that_it_had(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "PART_BYTES", 4 * 2 * 36)
    monkeypatch.setattr("dfkd_exp.distillation.synthesised.IN_MEMORY", 0)
    monkeypatch.setattr("dfkd_exp.training.module.ResumePoint.__init__.__defaults__", (0.0,))
    teacher, settings = toy_teacher(), Distillation(epochs=4, batch_size=8)

    def trained(name, killed_at=None):
        images = synthesised(META, pool=20, student_steps=2, epochs=4)
        images.keep_in(tmp_path / name)
        made = images.synthesiser.make

        def make(*how):
            if images.synthesiser.made == killed_at:
                raise KilledError
            return made(*how)

        images.synthesiser.make = make
        options = {"label": "toy", "trainer": TrainerSettings(accelerator="cpu"), "resume": tmp_path / f"{name}.ckpt"}
        network = train_on_teacher(student(), teacher, images, INPUTS, settings, 0, **options)
        return images, weights_digest(network)

    whole, expected = trained("whole")
    with pytest.raises(KilledError):
        trained("killed", killed_at=7)  # of ten, in the third epoch of four
    again, found = trained("killed")
    assert found == expected
    assert again.synthesiser.made == whole.synthesiser.made == 10
    for one, other in zip(whole.left().values(), again.left().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_one_process_and_two_keep_the_same(tmp_path):
    """A pool too large for memory, though not much of it is filled; of one teacher, the student's side by one process and by two."""
    release = f"release={tmp_path / 'release'}"
    assert run_main(["pipeline=release", release, *SMALL, f"outputs={tmp_path / 'owner'}"]) == 0
    loop = (
        "pipeline=from_release", release, "data=digits", "scale=smoke", "source=synthesis", "source.images=60", "source.batch_size=20",
        "source.pool=600000", "source.student_steps=2", "distillation.batch_size=20",
    )  # fmt: skip
    places = {"one": ("trainer=cpu",), "two": TWO}
    for name, processes in places.items():
        assert run_main([*loop, *processes, f"outputs={tmp_path / name}"]) == 0
    expected, found = (tensors(tmp_path / name, "student") for name in places)
    assert expected.keys() == found.keys()
    assert "transfer_set.safetensors/pool.pixels" in found
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-3, rtol=1e-3)
