"""Students learn, the same way every time; teachers stay as they are."""

import pytest
import torch
from torch import nn

from dfkd_exp.distillation.distill import distill, mixed_agreement, train_on_teacher
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.errors import DfkdError
from dfkd_exp.evaluation.metrics import accuracy, agreement, predict_logits
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.recording import weights_digest
from dfkd_exp.reconstruction.loop import Images
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training.augmentation import Affine, NoAugmentation
from dfkd_exp.training.fit import CHUNK_BYTES, MOST_BATCHES_PER_CHUNK, batches_per_chunk, fit
from dfkd_exp.training.optimizers import Adam, Auto
from dfkd_exp.training.settings import Training
from dfkd_exp.training.supervised import train_on_labels
from dfkd_exp.training.transfer_set import FixedImages
from tests.toy import CLASSES, INPUTS, toy_images, toy_teacher

CPU = {"label": "toy", "trainer": TrainerSettings(accelerator="cpu")}


def student(seed=1):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def trained_teacher(epochs=8):
    images, labels = toy_images(60)
    return train_on_labels(
        toy_teacher(),
        FixedImages.of(images, labels),
        INPUTS,
        Training(epochs, batch_size=30, optimizer=Adam(lr=0.01)),
        0,
        **CPU,
    )


@pytest.fixture(scope="module")
def teacher():
    return trained_teacher()


def agreed(network, teacher):
    images, _ = toy_images(50, seed=9)
    return agreement(predict_logits(network, images, INPUTS), predict_logits(teacher, images, INPUTS))


def test_a_network_learns_from_labels(teacher):
    images, labels = toy_images(50, seed=9)
    assert accuracy(predict_logits(toy_teacher(), images, INPUTS), labels) < 0.7
    assert accuracy(predict_logits(teacher, images, INPUTS), labels) > 0.95


@pytest.mark.parametrize("augmentation", [NoAugmentation(), Affine(shift=0.02)])
def test_a_student_learns_from_its_teacher(teacher, augmentation):
    images, _ = toy_images(60)
    before = agreed(student(), teacher)
    learned = distill(
        student(), teacher, images, epochs=8, batch_size=30, optimizer=Adam(lr=0.02), augmentation=augmentation
    )
    assert before < 0.7
    assert agreed(learned, teacher) > 0.9


def test_a_student_is_trained_on_reconstructions_as_on_tensors(teacher):
    images, labels = toy_images(20)
    one = distill(student(), teacher, images, epochs=1, augmentation=NoAugmentation())
    spec = InputSpec(INPUTS.shape, (-1.0,), (3.0,))
    two = distill(
        student(),
        teacher,
        Images((images + 1) / 4, spec, labels, torch.zeros(1, 1)),
        epochs=1,
        augmentation=NoAugmentation(),
    )
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_tensors_with_a_channel_of_one_value_are_inputs_too(teacher):
    dark = distill(student(), teacher, torch.full((6, *INPUTS.shape), 0.3), epochs=1, augmentation=NoAugmentation())
    assert all(parameter.isfinite().all() for parameter in dark.parameters())


def test_the_teachers_word_counts_not_the_labels(teacher):
    images, _ = toy_images(60)
    contrary = nn.Sequential(teacher, nn.Linear(CLASSES, CLASSES, bias=False))
    with torch.no_grad():
        contrary[1].weight.copy_(torch.eye(CLASSES).roll(1, 0))
    learned = distill(student(), contrary, images, epochs=8, batch_size=30, optimizer=Adam(lr=0.02))
    assert agreed(learned, contrary) > 0.9
    assert agreed(learned, teacher) < 0.1


@pytest.mark.parametrize("augmentation", [NoAugmentation(), Affine()])
def test_the_teacher_is_left_as_it_was(augmentation):
    teacher = toy_teacher().train()
    before = weights_digest(teacher)
    distill(student(), teacher, toy_images(10)[0], epochs=1, augmentation=augmentation)
    assert weights_digest(teacher) == before
    assert teacher.training
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_seed_decides_everything_also_with_dropout_and_augmentation(teacher):
    def learn(seed):
        network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, CLASSES))
        network[2].load_state_dict(start)
        torch.rand(seed)  # where the global generator stands must not matter
        settings = {"epochs": 2, "batch_size": 16, "augmentation": Affine()}
        return weights_digest(distill(network, teacher, toy_images(20)[0], seed=seed, **settings))

    start = nn.Linear(36, CLASSES).state_dict()
    assert learn(3) == learn(3) != learn(4)


class Seeing(nn.Module):
    """Remembers what it is shown."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Linear(36, CLASSES), []

    def forward(self, images):
        if len(images) > 3:  # fewer are to find out what it puts out
            self.seen.append(images)
        return self.layer(images.flatten(1))


def test_the_teacher_answers_for_the_image_as_the_student_sees_it():
    learner, teacher, images = Seeing(), Seeing(), toy_images(10)[0]
    distill(learner, teacher, images, epochs=2, batch_size=16, augmentation=Affine())
    assert [len(batch) for batch in learner.seen] == [16, 14] * 2
    assert [len(chunk) for chunk in teacher.seen] == [30, 30]
    assert torch.equal(torch.cat(learner.seen), torch.cat(teacher.seen))
    epochs = [torch.cat(learner.seen[i : i + 2]).flatten(1).sum(1).sort().values for i in (0, 2)]
    assert not torch.allclose(*epochs)  # another map for every image in every epoch


def test_without_augmentation_the_teacher_answers_once_for_each_image():
    learner, teacher, images = Seeing(), Seeing(), toy_images(10)[0]
    distill(learner, teacher, images, epochs=3, batch_size=16, augmentation=NoAugmentation())
    assert sum(map(len, teacher.seen)) == len(images)
    assert sum(map(len, learner.seen)) == 3 * len(images)


@pytest.mark.parametrize("augmentation", [NoAugmentation(), Affine()])
def test_how_much_is_prepared_at_once_changes_nothing(teacher, augmentation, monkeypatch):
    def learn(num_bytes):
        monkeypatch.setitem(CHUNK_BYTES, "cpu", num_bytes)
        return list(
            distill(
                student(), teacher, toy_images(30)[0], epochs=2, batch_size=16, augmentation=augmentation
            ).parameters()
        )

    for few, many in zip(learn(1), learn(2**20), strict=True):
        torch.testing.assert_close(few, many)


@pytest.mark.parametrize(
    ("units", "batch_size", "expected"), [(1024 + 6518, 64, 4), (10**6, 64, 1), (1, 1, MOST_BATCHES_PER_CHUNK)]
)
def test_as_many_batches_are_prepared_at_once_as_memory_allows(units, batch_size, expected):
    settings = Training(batch_size=batch_size)
    assert batches_per_chunk(settings, units, torch.device("cpu")) == expected


def test_pixels_of_whatever_type_train_alike(teacher):
    spec = InputSpec(INPUTS.shape, (-1.0,), (1.0,))
    pixels = (toy_images(20)[0] * 255).to(torch.uint8)
    one, two = (
        train_on_teacher(student(), teacher, FixedImages.of(shown), spec, Distillation(epochs=1), 0, **CPU)
        for shown in (pixels, pixels / 255)
    )
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("augmentation", [NoAugmentation(), Affine()])
def test_the_temperature_reaches_the_loss(teacher, augmentation):
    cold, hot = (
        distill(student(), teacher, toy_images(20)[0], epochs=2, temperature=t, augmentation=augmentation)
        for t in (1, 8)
    )
    assert weights_digest(cold) != weights_digest(hot)


def test_a_network_that_was_evaluated_before_is_trained_all_the_same(teacher):
    def learn(mode):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Dropout(0.5), nn.Linear(36, CLASSES))
        return weights_digest(distill(network.train(mode), teacher, toy_images(20)[0], epochs=1))

    assert learn(True) == learn(False)


def test_a_trained_network_comes_back_in_evaluation_mode():
    assert not distill(student().train(), toy_teacher(), toy_images(4)[0], epochs=1).training


def test_a_training_that_diverges_names_the_flag_to_lower():
    def explosive(network, batch):
        return network(batch[0]).sum() * float("inf")

    explosion = Training(epochs=1, optimizer=Adam(lr=0.5))
    with pytest.raises(DfkdError, match=r"toy diverged; lower training.optimizer.lr \(now 0.5\)"):
        fit(student(), FixedImages.of(*toy_images(4)), explosive, explosion, 0, **CPU)


@pytest.mark.parametrize(
    ("norm", "said"), [(nn.BatchNorm1d, "Sgd, learning rate 0.1"), (nn.LayerNorm, "Adam, learning rate 0.002")]
)
def test_which_optimiser_suits_the_network_is_said(norm, said, capsys):
    network = nn.Sequential(nn.Flatten(), norm(36), nn.Linear(36, CLASSES))
    distill(network, toy_teacher(), toy_images(4)[0], epochs=1, optimizer=Auto())
    assert f"optimiser chosen for this network: {said}" in capsys.readouterr().out


def test_on_mixtures_two_that_are_the_same_agree_and_two_that_are_not_sometimes():
    pixels, teacher, other = toy_images(40)[0], toy_teacher(), toy_teacher(seed=1)
    images = FixedImages.of(pixels)
    assert mixed_agreement(teacher, teacher, images, INPUTS, seed=0).overall == 1
    found = [mixed_agreement(other, teacher, images, INPUTS, seed=seed).overall for seed in (0, 0, 1, 2)]
    assert found[0] == found[1]
    assert len({*found}) > 1
    assert max(found) < 1
    assert mixed_agreement(teacher, teacher, FixedImages.of(pixels[:1]), INPUTS, seed=0) is None


def test_mixtures_lie_between_two_images(monkeypatch):
    """Black and white: every mixture is a grey, the same for both networks, and of uint8 pixels as of floating ones."""
    seen = []
    monkeypatch.setattr(
        "dfkd_exp.distillation.distill.predict_logits",
        lambda network, pixels, inputs: seen.append(pixels) or torch.zeros(len(pixels), 3),
    )
    pixels = torch.tensor([0, 255], dtype=torch.uint8).repeat(50)[:, None, None, None].expand(100, 1, 6, 6)
    for given in (pixels, pixels / 255):
        seen.clear()
        assert mixed_agreement(None, None, FixedImages.of(given), INPUTS, seed=0) == (1, 1 / 3)
        one, other = seen
        assert torch.equal(one, other)
        assert one.shape == (50, 1, 6, 6)
        assert one.min() >= 0
        assert one.max() <= 1
        assert ((one > 0.02) & (one < 0.98)).float().mean() > 0.3


def test_a_network_is_not_distilled_into_itself():
    net = toy_teacher()
    with pytest.raises(DfkdError, match="one network; give a student of its own"):
        distill(net, net, toy_images(4)[0], epochs=1)
