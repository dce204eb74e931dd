"""Training on labels: what reaches the loss, and what the network is shown."""

import pytest
import torch
from torch import nn

from dfkd_exp.errors import ConfigError
from dfkd_exp.models.recording import weights_digest
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.augmentation import Affine, FlipAndCrop
from dfkd_exp.training.optimizers import Adam, Sgd
from dfkd_exp.training.settings import Training
from dfkd_exp.training.supervised import train_on_labels
from dfkd_exp.training.transfer_set import FixedImages
from tests.toy import CLASSES, INPUTS, toy_images, toy_teacher

CPU = {"label": "toy", "trainer": TrainerSettings(accelerator="cpu")}


def trained(network=None, seed=0, **how):
    settings = Training(epochs=2, batch_size=20, **how)
    return train_on_labels(network or toy_teacher(), FixedImages.of(*toy_images(20)), INPUTS, settings, seed, **CPU)


class Guess(nn.Module):
    """The same logits for every image."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(CLASSES))

    def forward(self, images):
        return self.logits.expand(len(images), CLASSES)


def test_a_smoothed_label_is_learnt_as_the_shares_that_it_stands_for():
    images, labels = toy_images(20)
    first = labels == 0
    settings = Training(epochs=150, label_smoothing=0.3, optimizer=Adam(lr=0.05))
    guess = train_on_labels(Guess(), FixedImages.of(images[first], labels[first]), INPUTS, settings, 0, **CPU)
    torch.testing.assert_close(guess.logits.softmax(0), torch.tensor([0.8, 0.1, 0.1]), atol=0.01, rtol=0)


def test_a_step_of_gradient_descent_is_no_longer_than_its_clipped_gradient():
    """Without momentum a step is the rate times the gradient, whose norm is then the largest that is allowed."""

    def moved(clip):
        before, settings = (
            toy_teacher(),
            Training(epochs=1, batch_size=60, clip=clip, optimizer=Sgd(0.1, 0.0, momentum=0.0, nesterov=False)),
        )
        after = train_on_labels(toy_teacher(), FixedImages.of(*toy_images(20)), INPUTS, settings, 0, **CPU)
        pairs = zip(before.parameters(), after.parameters(), strict=True)
        return torch.stack([(one - other).detach().norm() for one, other in pairs]).norm().item()

    free = moved(None)
    assert moved(free * 10 / 4) == pytest.approx(free / 4, rel=1e-3)
    assert moved(free * 10 * 2) == pytest.approx(free)


@pytest.mark.parametrize("policy", [Affine(), FlipAndCrop(padding=1)], ids=str)
def test_a_teacher_sees_its_images_changed_as_the_seed_says(policy):
    plain, changed = weights_digest(trained()), weights_digest(trained(augmentation=policy))
    assert changed == weights_digest(trained(augmentation=policy))
    assert changed != plain
    assert changed != weights_digest(trained(augmentation=policy, seed=1))


def test_a_norm_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"training\.clip must be positive, or empty, got 0\.0"):
        Training(clip=0.0)


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"training\.label_smoothing must be at least 0 and below 1, got 1\.0"):
        Training(label_smoothing=1.0)
