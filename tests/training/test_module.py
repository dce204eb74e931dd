"""The thin Lightning shell: order of the images, learning rate, what is saved, and continuing after a kill."""

import os
import time

import pytest
import torch
from torch import nn

from dfkd_exp.console import Progress
from dfkd_exp.errors import DfkdError
from dfkd_exp.models.recording import weights_digest
from dfkd_exp.phases.context import weights_bytes
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.augmentation import Affine, Mixed, MixedParts, NoAugmentation
from dfkd_exp.training.checkpoint import AtomicCheckpointIO
from dfkd_exp.training.fit import fit
from dfkd_exp.training.module import ResumePoint, Snapshots, TrainingModule
from dfkd_exp.training.optimizers import Adam, Sgd
from dfkd_exp.training.schedules import Constant, Cosine, OneCycle
from dfkd_exp.training.settings import Training
from dfkd_exp.training.transfer_set import FixedImages
from tests.toy import CLASSES, INPUTS, toy_images

CPU = TrainerSettings(accelerator="cpu")


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(36, CLASSES))


def cross_entropy(net, batch):
    return nn.functional.cross_entropy(net(batch[0]), batch[1])


def noisy(batch, uniform, rows):
    """Shown with noise that is drawn for the whole chunk."""
    return batch.pixels + 0.1 * uniform[:, :1, None, None], batch.labels


def images(per_class):
    return FixedImages.of(*toy_images(per_class))


def test_batches_by_the_chunk_are_the_same_batches():
    """Of 24 images and 4 in a batch: six chunks of one, one of four and a shorter one, one chunk of all."""
    settings, shown = Training(epochs=2, batch_size=4, augmentation=Affine()), images(8)
    one, four, many = (
        weights_digest(fit(network(), shown, cross_entropy, settings, 0, "toy", CPU, False, None, noisy, size))
        for size in (1, 4, 100)
    )
    assert one == four == many


def test_images_are_mixed_within_their_batch_and_shared_among_processes_as_they_were_mixed():
    settings, shown = Training(epochs=2, batch_size=4, augmentation=Mixed(share=1.0)), images(8)

    def mixed(batch, uniform, rows):
        return settings.shown(batch.pixels, INPUTS, uniform, rows), batch.labels

    one, many = (
        weights_digest(fit(network(), shown, cross_entropy, settings, 0, "toy", CPU, False, None, mixed, size))
        for size in (1, 100)
    )
    assert one == many
    pixels, uniform = torch.rand(6, 1, 6, 6), torch.rand(6, MixedParts.num_random)
    for policy in (Mixed(share=1.0), MixedParts(share=1.0), Affine(), NoAugmentation()):
        settings = Training(augmentation=policy)
        whole = settings.shown(pixels, INPUTS, uniform[:, : policy.num_random])
        for rank in range(2):
            rows = torch.arange(6)[rank::2]
            assert torch.equal(settings.shown(pixels, INPUTS, uniform[:, : policy.num_random], rows), whole[rows])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_precision_is_that_of_the_forward_pass_alone(precision):
    seen = set()

    def watching(net, batch):
        seen.add(("forward", torch.is_autocast_enabled("cpu")))
        loss = cross_entropy(net, batch)
        loss.register_hook(lambda _: seen.add(("backward", torch.is_autocast_enabled("cpu"))))
        return loss

    trainer = TrainerSettings(accelerator="cpu", precision=precision)
    fit(network(), images(4), watching, Training(epochs=1), 0, "toy", trainer)
    assert seen == {("forward", precision != "32-true"), ("backward", False)}


def watched(schedule, batches_per_chunk=1):
    """The learning rate of every step and the images of every epoch's first batch."""
    settings = Training(epochs=3, batch_size=10, optimizer=Adam(lr=0.2), schedule=schedule)
    shown = images(10)  # 30 images: three steps an epoch, nine in all
    rates, first = [], []

    def watching(net, batch):
        rates.append(module.trainer.optimizers[0].param_groups[0]["lr"])
        if len(rates) % 3 == 1:
            first.append(batch[0].flatten().tolist())
        return cross_entropy(net, batch)

    with Progress("toy", 9) as progress:
        module = TrainingModule(network(), shown, watching, settings, 0, progress, batches_per_chunk=batches_per_chunk)
        runner = CPU.build(max_epochs=3, reload_dataloaders_every_n_epochs=1)
        runner.fit(module)
        assert progress.done == runner.global_step == 9
    return rates, first


@pytest.mark.parametrize("batches_per_chunk", [1, 2])
@pytest.mark.parametrize("schedule", [Constant(), Cosine(), OneCycle()], ids=lambda schedule: type(schedule).__name__)
def test_the_learning_rate_follows_its_schedule_step_by_step(schedule, batches_per_chunk):
    rates, _ = watched(schedule, batches_per_chunk)
    assert rates == pytest.approx([0.2 * schedule.factor(step, 9) for step in range(9)])


def test_every_epoch_has_an_order_of_its_own():
    _, first = watched(Constant())
    assert len({tuple(batch) for batch in first}) == 3


def test_a_checkpoint_holds_the_network_and_no_images():
    with Progress("toy", 1) as progress:
        module = TrainingModule(network(), images(4), cross_entropy, Training(), 0, progress)
    assert set(module.state_dict()) == {"network.2.weight", "network.2.bias"}


class KilledError(Exception):
    """What stands for a kill."""


@pytest.mark.parametrize(
    ("batches_per_chunk", "how"),
    [
        (1, {"optimizer": Adam(weight_decay=0.1), "schedule": Cosine()}),
        (2, {"optimizer": Sgd(), "schedule": OneCycle()}),
        (3, {"schedule": OneCycle(warmup=0.9)}),
    ],
)
def test_a_training_that_was_interrupted_ends_bit_for_bit_as_one_that_was_not(tmp_path, batches_per_chunk, how):
    settings, shown = Training(epochs=4, batch_size=10, augmentation=Affine(), **how), images(10)
    chunks = {"prepare": noisy, "batches_per_chunk": batches_per_chunk}
    whole = fit(network(), shown, cross_entropy, settings, 7, "toy", CPU, **chunks)
    steps = []

    def killed_in_the_third_epoch(net, batch):
        steps.append(1)
        if len(steps) == 8:
            raise KilledError
        return cross_entropy(net, batch)

    path = tmp_path / "fit.ckpt"
    with Progress("toy", 12) as progress:
        module = TrainingModule(network(), shown, killed_in_the_third_epoch, settings, 7, progress, **chunks)
        runner = CPU.build(
            callbacks=[ResumePoint(path, seconds=0)],
            plugins=[AtomicCheckpointIO()],
            max_epochs=4,
            reload_dataloaders_every_n_epochs=1,
        )
        with pytest.raises(KilledError):
            runner.fit(module)
    assert path.is_file()
    left = []

    def counted(net, batch):
        left.append(1)
        return cross_entropy(net, batch)

    resumed = fit(network(), shown, counted, settings, 7, "toy", CPU, resume=path, **chunks)
    assert len(left) == 6
    assert weights_digest(resumed) == weights_digest(whole)


@pytest.mark.parametrize("damage", ["altered", "cut", "empty", "garbage", "pipe", "folder"])
def test_a_damaged_checkpoint_is_put_aside_and_the_training_begins_anew(damage, tmp_path, capsys):
    settings, shown, path = Training(epochs=2, batch_size=10), images(10), tmp_path / "fit.ckpt"
    whole = fit(network(), shown, cross_entropy, settings, 7, "toy", CPU)
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    content = path.read_bytes()
    path.unlink()
    if damage == "pipe":
        os.mkfifo(path)
    elif damage == "folder":
        path.mkdir()
    else:
        damaged = {
            "altered": content[:99] + b"?" + content[100:],
            "cut": content[:-9],
            "empty": b"",
            "garbage": b"x" * 999,
        }
        path.write_bytes(damaged[damage])
    again = fit(network(), shown, cross_entropy, settings, 7, "toy", CPU, resume=path)
    assert weights_digest(again) == weights_digest(whole)
    assert capsys.readouterr().err.count("fit.ckpt cannot be continued from") == 1


class TestSnapshots:
    """Five epochs of three steps; killed in the fourth."""

    settings = Training(epochs=5, batch_size=10)

    def fitted(self, folder, loss=cross_entropy, **how):
        """The training, its weights after three epochs in ``folder``, and what is known of them."""
        began = time.perf_counter() - how.pop("ago", 0)
        clock = lambda: time.perf_counter() - began  # noqa: E731
        snapshots = Snapshots(3, lambda epoch: folder / "snapshots" / f"{epoch}", weights_bytes, clock)
        fit(network(), images(10), loss, self.settings, 7, "toy", CPU, snapshots=snapshots, **how)
        return snapshots.kept

    def contents(self, folder):
        return {path.name: path.read_bytes() for path in (folder / "snapshots").iterdir()}

    def killed(self, folder, monkeypatch):
        steps = []

        def loss(net, batch):
            steps.append(1)
            if len(steps) == 11:
                raise KilledError
            return cross_entropy(net, batch)

        monkeypatch.setattr("dfkd_exp.training.module.ResumePoint.__init__.__defaults__", (0.0,))
        with pytest.raises(KilledError):
            self.fitted(folder, loss, resume=folder / "fit.ckpt", ago=1000)

    def test_they_are_spread_evenly_and_the_last_is_the_end(self, tmp_path):
        kept = self.fitted(tmp_path)
        whole = fit(network(), images(10), cross_entropy, self.settings, 7, "toy", CPU)
        assert [snapshot["epoch"] for snapshot in kept] == [2, 4, 5]
        assert self.contents(tmp_path)["5"] == weights_bytes(whole)
        assert len(set(self.contents(tmp_path).values())) == 3

    def test_those_of_a_killed_training_are_those_of_one_that_was_not_and_its_seconds_go_on(
        self, tmp_path, monkeypatch
    ):
        for name in ("whole", "killed"):
            (tmp_path / name).mkdir()
        self.fitted(tmp_path / "whole")
        self.killed(tmp_path / "killed", monkeypatch)
        kept = self.fitted(tmp_path / "killed", resume=tmp_path / "killed" / "fit.ckpt")
        assert [snapshot["epoch"] for snapshot in kept] == [2, 4, 5]
        assert self.contents(tmp_path / "whole") == self.contents(tmp_path / "killed")
        seconds = [snapshot["seconds"] for snapshot in kept]
        assert 1000 < seconds[0] < seconds[1] < seconds[2] < 1100, "the first attempt had taken 1,000"

    def test_one_that_is_damaged_meanwhile_is_named(self, tmp_path, monkeypatch):
        self.killed(tmp_path, monkeypatch)
        (tmp_path / "snapshots" / "2").write_bytes(b"x")
        with pytest.raises(DfkdError, match=r"2 is not as it was written; remove .*, and the same command trains anew"):
            self.fitted(tmp_path, resume=tmp_path / "fit.ckpt")


def test_nothing_is_saved_before_its_time_nor_after_the_last_epoch(tmp_path):
    for seconds in (0, 1000):
        path = tmp_path / f"{seconds}.ckpt"
        with Progress("toy", 3) as progress:
            settings = Training(epochs=1 if seconds == 0 else 3, batch_size=30)
            module = TrainingModule(network(), images(10), cross_entropy, settings, 0, progress)
            CPU.build(callbacks=[ResumePoint(path, seconds)], max_epochs=settings.epochs).fit(module)
        assert not path.exists()
