"""Batches of every size: a last image by itself does not break BatchNorm, in one process or in several."""

import pytest
import torch
from torch import nn

from dfkd_exp.ranks import Ranks
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.batches import batches
from dfkd_exp.training.fit import fit
from dfkd_exp.training.module import Epoch, Share
from dfkd_exp.training.settings import Training
from dfkd_exp.training.transfer_set import FixedImages
from tests.toy import CLASSES, toy_images

CPU = TrainerSettings(accelerator="cpu")


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(12, 4, [4, 4, 4]), (13, 4, [4, 4, 5]), (14, 4, [4, 4, 4, 2]), (5, 4, [5]), (1, 4, [1]), (3, 1, [1, 1, 1])],
)
def test_a_last_row_by_itself_joins_the_batch_before(count, size, sizes):
    parts = batches(torch.arange(count), size)
    assert list(map(len, parts)) == sizes
    assert torch.cat(parts).tolist() == list(range(count))
    assert Training(epochs=3, batch_size=size).num_steps(count) == 3 * len(sizes)


@pytest.mark.parametrize("count", [8, 9, 10, 12, 13, 16, 17, 25])
@pytest.mark.parametrize("per_chunk", [1, 2, 3])
def test_chunks_have_the_batches_that_the_whole_has(count, per_chunk):
    chunks = Epoch(FixedImages.of(torch.zeros(count, 1, 1, 1)), 0, 4 * per_chunk, seed=0)
    found = [len(batch) for chunk in chunks for batch in batches(torch.arange(len(chunk)), 4)]
    assert found == [len(batch) for batch in batches(torch.arange(count), 4)]
    assert len(chunks) == len(list(chunks))


def normalised():
    """BatchNorm after the pixels have become one number per unit: a single image has no variance."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))


def cross_entropy(net, batch):
    return nn.functional.cross_entropy(net(batch[0]), batch[1])


@pytest.mark.parametrize("per_chunk", [1, 2, 5])
def test_batch_norm_is_trained_whatever_is_left_for_the_last_batch(per_chunk):
    images, labels = toy_images(7)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        cross_entropy(normalised(), (images[:1], labels[:1]))
    settings = Training(epochs=2, batch_size=10)  # 21 images: batches of 10 and 11
    shown = FixedImages.of(images, labels)
    net = fit(normalised(), shown, cross_entropy, settings, 0, "toy", CPU, batches_per_chunk=per_chunk)
    assert net[2].num_batches_tracked == 4


@pytest.mark.parametrize("num_rows", [6, 7, 8, 9, 10, 11, 13])
@pytest.mark.parametrize("world", [2, 3])
def test_every_process_sees_an_image_and_their_gradients_are_the_batchs(num_rows, world):
    torch.manual_seed(0)
    images, labels = toy_images(5)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES))
    shares = [Share.of(num_rows, 4, Ranks(rank, world)) for rank in range(world)]

    def gradient(rows, weight=1.0):
        plain.zero_grad()
        (weight * cross_entropy(plain, (images[rows], labels[rows]))).backward()
        return plain[1].weight.grad.clone()

    for step, batch in enumerate(batches(torch.arange(num_rows), 4)):
        parts = [(share.rows.split(share.sizes)[step], share.weights[step]) for share in shares]
        averaged = torch.stack([gradient(rows, weight) for rows, weight in parts]).mean(0)
        torch.testing.assert_close(averaged, gradient(batch))
        assert all(len(rows) for rows, _ in parts)
