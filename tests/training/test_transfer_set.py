"""The contract of transfer sets, held by every source, by somebody else's, and by one that follows its student."""

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from dfkd_exp.config.groups import kinds
from dfkd_exp.data.compression import Codec
from dfkd_exp.data.images import ImageData, LabelledImages, class_balanced
from dfkd_exp.distillation.distill import train_on_teacher
from dfkd_exp.distillation.same_bytes import SameBytes, compressed_in_bytes, images_in_bytes
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.distillation.source import FromData, FromNoise, Resources, noise_pixels
from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.models.recording import weights_digest
from dfkd_exp.ranks import Ranks
from dfkd_exp.trainer import TrainerSettings
from dfkd_exp.training import transfer_set as module
from dfkd_exp.training.augmentation import Affine, NoAugmentation
from dfkd_exp.training.fit import fit
from dfkd_exp.training.module import Epoch, Share
from dfkd_exp.training.transfer_set import Batch, FixedImages, TransferSet
from tests.toy import CLASSES, INPUTS, toy_images, toy_teacher

SOURCES = {name: kind for name, kind in kinds("source").items() if not kind.has_student}
"""Those with a student in the loop are held to the same in tests/distillation/test_synthesised.py."""
CPU = TrainerSettings(accelerator="cpu")
PER_CLASS = 10


class Opened(Exception):
    """Somebody has asked for what is not needed yet."""


class Data:
    """A data set of toy images; whether it was opened."""

    def __init__(self, seed=0):
        pixels, labels = toy_images(PER_CLASS, seed)
        train = LabelledImages((pixels * 255).to(torch.uint8), labels)
        self._images = ImageData(train, train, ["a", "b", "c"], bytes_per_image=36)
        self.fingerprint, self.opened = {"seed": seed}, 0

    @property
    def outline(self):
        return self._images.outline

    @property
    def images(self):
        self.opened += 1
        return self._images


def resources(folder, seed=0, of=0, num_bytes=36 * 15):
    """What there is in a run of ``seed`` with data and reconstructions number ``of``; the latter in two shards."""
    folder = folder / str(of)
    folder.mkdir(exist_ok=True)
    pixels, labels = toy_images(PER_CLASS, of)
    for first, part in ((0, slice(0, 12)), (2, slice(12, None))):
        tensors = {"pixels": pixels[part].half(), "labels": labels[part].contiguous()}
        save_file(tensors, folder / f"groups-{first:06d}-{first + 1:06d}.safetensors")
    artifact = SimpleNamespace(path=folder, digest=f"digest {of}", info={"images": len(labels), "steps": 1.5})
    release = SimpleNamespace(inputs=INPUTS, classes=["a", "b", "c"], metadata_bytes=num_bytes)
    nothing = {"objective": lambda: None, "optimizer": None, "asked": {}}  # of a student in the loop
    return Resources(release, Data(of), lambda: artifact, 30, seed, **nothing)


@pytest.fixture(params=SOURCES)
def source(request):
    return SOURCES[request.param]()


@pytest.fixture
def images(source, tmp_path):
    return source.transfer_set(resources(tmp_path))


def pixels(batches):
    return torch.cat([batch.pixels for batch in batches])


def test_what_it_is_is_known_before_anything_is_loaded(source, tmp_path, monkeypatch):
    def opened(*_, **__):
        raise Opened

    given = resources(tmp_path)
    for name in ("open_shards", "noise_pixels", "images_in_bytes"):
        for place in (
            "dfkd_exp.reconstruction.shards",
            "dfkd_exp.distillation.source",
            "dfkd_exp.distillation.same_bytes",
        ):
            monkeypatch.setattr(f"{place}.{name}", opened, raising=False)
    made = source.transfer_set(given)
    assert made.title
    assert made.identity
    assert made.num_bytes in (0, 36 * 15, 36 * 30)
    assert made.real == source.needs_data
    assert not given.data.opened
    if not source.needs_data:
        with pytest.raises(Opened):
            len(made)


def test_identity_is_equal_for_equal_images_and_differs_for_others(source, tmp_path):
    made = source.transfer_set(resources(tmp_path))
    assert source.transfer_set(resources(tmp_path)).identity == made.identity
    others = [resources(tmp_path, seed=1, of=1)]
    if isinstance(source, SameBytes):
        others.append(resources(tmp_path, num_bytes=36 * 12))
    for other in others:
        again = source.transfer_set(other)
        assert again.identity != made.identity
        assert not torch.equal(pixels(again.batches(0, 99, 0)), pixels(made.batches(0, 99, 0)))


def test_an_epoch_has_every_image_equally_often_in_an_order_of_seed_and_epoch(images):
    def read(epoch, seed, size=4):
        batches = list(images.batches(epoch, size, seed))
        assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
        assert len(batches) == len(Epoch(images, epoch, size, seed))
        return pixels(batches)

    first = read(0, 0)
    assert len(first) == len(images)
    torch.testing.assert_close(first, read(0, 0, size=7))
    in_order = pixels(images.in_order()).repeat(len(images) // images.num_images, 1, 1, 1)
    for other in (read(1, 0), read(0, 1)):
        assert not torch.equal(other, first)
        assert torch.equal(*(t.flatten(1).double().sum(1).sort().values for t in (other, in_order)))


def test_pixels_are_pixels_and_labels_belong_to_their_images(images):
    for batch in images.batches(0, 4, 0):
        assert batch.pixels.shape[1:] == INPUTS.shape
        assert batch.pixels.min() >= 0
        assert batch.pixels.max() <= (255 if batch.pixels.dtype == torch.uint8 else 1)
        assert (batch.labels is not None) == images.has_labels
        if batch.labels is not None:  # of class k, rows 2k and 2k + 1 are bright
            brightest = batch.pixels.double().mean((1, 3)).unflatten(1, (3, 2)).mean(2).argmax(1)
            assert torch.equal(brightest, batch.labels)


def test_image_steps_are_those_of_images_that_were_made_held_out_ones_among_them(images, source):
    rest, _ = images.held_out(0.2, seed=0)
    assert rest.image_steps == images.image_steps == (45 if source.reconstructs else 0)


@pytest.mark.parametrize("world", [2, 3])
def test_the_shares_of_several_processes_make_the_epoch_of_one(images, world):
    """Each image of a batch of n has the n-th part of what is averaged over the processes."""
    for batch in images.batches(0, 8, 0):
        weights = torch.zeros(len(batch))
        for rank in range(world):
            share = Share.of(len(batch), 4, Ranks(rank, world))
            sizes = torch.tensor(share.sizes)
            weights.index_add_(0, share.rows, (torch.tensor(share.weights) / sizes / world).repeat_interleave(sizes))
        expected = [torch.full((len(part),), 1 / len(part)) for part in weights.split(4)]
        torch.testing.assert_close(weights, torch.cat(expected))


def test_a_share_is_held_out_where_images_cost_nothing(images, source):
    rest, held = images.held_out(0.2, seed=0)
    if source.needs_data:
        assert (rest, held) == (images, None)
        return
    assert (len(rest), len(held)) == (24, 6)
    both = torch.cat([pixels(rest.in_order()), pixels(held.in_order())])
    assert torch.equal(*(t.flatten(1).double().sum(1).sort().values for t in (both, pixels(images.in_order()))))
    assert not torch.equal(pixels(images.held_out(0.2, seed=1)[1].in_order()), pixels(held.in_order()))
    assert images.held_out(0.0, seed=0) == (images, None)
    assert len(rest.held_out(0.25, seed=0)[1]) == 6, "of what is left"


def test_a_preview_shows_each_class(images):
    shown = images.preview(CLASSES, 2)
    assert shown.labelled == images.has_labels
    assert len(shown.means) == len(shown.samples) == (CLASSES if images.has_labels else 1)
    for label, (mean, samples) in enumerate(zip(shown.means, shown.samples, strict=True)):
        assert mean.shape == INPUTS.shape
        assert samples.shape == (2, *INPUTS.shape)
        assert samples.max() <= 1
        if shown.labelled:
            assert mean.mean((0, 2)).unflatten(0, (3, 2)).mean(1).argmax() == label


def test_a_preview_takes_no_more_than_it_shows(monkeypatch):
    monkeypatch.setattr(module, "MEAN_OF", 5)
    shown, taken = FixedImages.of(*toy_images(PER_CLASS)), []
    monkeypatch.setattr(
        FixedImages, "take", lambda self, index: taken.append(len(index)) or Batch(torch.zeros(len(index), 1, 6, 6))
    )
    shown.preview(CLASSES, 2)
    assert sum(taken) == CLASSES * (5 + 2)


def test_the_mean_is_that_of_the_images_some_at_a_time(monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE_BYTES", 36 * 7)
    values, labels = (toy_images(PER_CLASS)[0] * 255).to(torch.uint8), toy_images(PER_CLASS)[1]
    shown = FixedImages.of(values, labels).preview(CLASSES + 1, 2)
    for label in range(CLASSES):
        torch.testing.assert_close(shown.means[label], values[labels == label].double().mean(0).float() / 255)
    assert not shown.means[CLASSES].any()
    assert shown.samples[CLASSES].shape == (0, *INPUTS.shape)


def test_the_teacher_answers_once_beside_the_images_it_answered_for(images):
    asked = []

    def answer(shown):
        asked.append(len(shown))
        return shown.flatten(1).float()

    rest, _ = images.held_out(0.2, seed=0)
    answered = rest.with_logits(answer)
    for epoch in range(2):
        for batch in answered.batches(epoch, 5, 0):
            assert torch.equal(batch.logits, batch.pixels.flatten(1).float())
    assert sum(asked) == rest.num_images
    assert next(rest.batches(0, 5, 0)).logits is None


@pytest.mark.parametrize(("free", "near"), [(2 * 1080 * 2, True), (2 * 1080 * 2 - 1, False)])
def test_images_are_brought_to_an_accelerator_if_they_fill_at_most_half_of_it(monkeypatch, free, near):
    shown = FixedImages.of(toy_images(PER_CLASS)[0].half())
    monkeypatch.setattr(module, "free_bytes", lambda _: free)
    assert shown.on(torch.device("cpu")) is shown
    assert (shown.on(torch.device("meta")) is shown) != near


def test_noise_has_the_stated_moments_within_the_range_of_pixels():
    noise = noise_pixels(FromNoise(mean=0.4, std=0.1), (1, 6, 6), 500, seed=0)
    assert noise.shape == (500, 1, 6, 6)
    assert noise.mean().item() == pytest.approx(0.4, abs=0.005)
    assert noise.std().item() == pytest.approx(0.1, abs=0.005)
    wide = noise_pixels(FromNoise(std=5.0), (1, 6, 6), 10, seed=0)
    assert (wide.min().item(), wide.max().item()) == (0, 1)


def test_the_same_bytes_buy_whole_images_of_every_class():
    train = LabelledImages(torch.zeros(90, 1, 6, 6, dtype=torch.uint8), torch.arange(90) % 3)
    chosen, bought = images_in_bytes(train, 3, num_bytes=36 * 9 + 35, bytes_per_image=36, seed=0)
    assert bought.labels.bincount().tolist() == [3, 3, 3]
    assert torch.equal(bought.labels, train.labels[chosen])
    assert len(images_in_bytes(train, 3, 10**9, 36, seed=0)[1]) == 90
    with pytest.raises(DfkdError, match=r"72 bytes hold only 2 images of 36 bytes, fewer than one per class"):
        images_in_bytes(train, 3, 72, 36, seed=0)


def test_some_of_the_data_are_as_many_of_each_class_and_cost_their_bytes(tmp_path):
    chosen = FromData(images=9).transfer_set(resources(tmp_path))
    assert chosen.num_bytes == 9 * 36
    first, *others = chosen.batches(0, 9, seed=0)
    assert first.labels.bincount().tolist() == [3, 3, 3]
    assert [len(batch) for batch in others] == [9, 9, 3], "as many as would be reconstructed"
    assert len(pixels(others[:2]).unique(dim=0)) == 9, "all of them before any comes again"
    assert len(pixels(chosen.sample(99, seed=0))) == 9, "to look at, each once"
    spared = replace(resources(tmp_path), holdout=0.2)
    assert len(FromData(images=9).transfer_set(spared)) == 24, "as of reconstructions some are held out"
    assert len(pixels(FromData(images=30).transfer_set(resources(tmp_path)).batches(0, 40, seed=0))) == 30
    other = FromData(images=9).transfer_set(resources(tmp_path, seed=1))
    assert other.identity != chosen.identity
    assert "images" not in FromData().identity()
    assert FromData().transfer_set(resources(tmp_path)).num_bytes == 30 * 36, "and so do all of them"
    with pytest.raises(ConfigError, match=r"source.images must be from 3, one of each class, to 30, or empty, got 31"):
        FromData(images=31).check_data(resources(tmp_path).data.outline)


def waves(channels):
    """Smooth pictures, as photographs are, of bytes."""
    phase = torch.arange(60).view(60, 1, 1, 1)
    place = torch.arange(16.0).view(1, 1, 16, 1) + 0.5 * torch.arange(16.0)
    images = ((place + phase + torch.arange(channels).view(1, -1, 1, 1)) / 4).sin() * 90 + 128
    return LabelledImages(images.byte(), torch.arange(60) % 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_the_same_bytes_buy_more_images_the_more_is_lost_of_them(codec, channels):
    train, kept, lost = waves(channels), [], []
    order = class_balanced(train.labels, 60, 3, torch.Generator().manual_seed(0))
    for quality in (95, 5):
        chosen, bought = compressed_in_bytes(train, 3, 4000, codec, quality, seed=0)
        assert torch.equal(chosen, order[: len(bought)])
        assert bought.images.shape[1:] == train.images.shape[1:]
        assert torch.equal(bought.labels, train.labels[chosen])
        kept.append(len(bought))
        lost.append((bought.images.float() - train.images[chosen].float()).abs().mean().item())
    assert 3 <= kept[0] < kept[1] <= 60
    assert lost[0] < lost[1] < 40
    with pytest.raises(DfkdError, match="fewer than one per class"):
        compressed_in_bytes(train, 3, 300, codec, 95, seed=0)


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_bytes_that_images_have_in_common_are_counted_once(codec):
    """Of JPEG the tables, which are most of a small file; without them the file is that much smaller."""
    images = waves(3).images
    found = Codec.of(codec, 50, images)
    taken, again = found.compressed(images[0])
    content = io.BytesIO()
    options = {"method": 6} if codec == "webp" else {}
    Image.fromarray(images[0].movedim(0, -1).numpy()).save(content, codec.upper(), quality=50, **options)
    assert abs(taken + found.shared_bytes - len(content.getvalue())) <= 4 * (codec == "jpeg"), (
        "but for JPEG's own two marks"
    )
    assert (found.shared_bytes > taken) == (codec == "jpeg")
    assert torch.equal(again, torch.from_numpy(np.array(Image.open(content))).movedim(-1, 0))


@pytest.mark.parametrize(
    "images",
    [torch.zeros(6, 4, 8, 8, dtype=torch.uint8), torch.zeros(6, 1, 8, 8), torch.zeros(6, 8, dtype=torch.uint8)],
)
def test_what_no_codec_is_for_is_refused(images):
    with pytest.raises(DfkdError, match=r"source.codec=jpeg is for grey or coloured images of bytes, not"):
        Codec.of("jpeg", 50, images)


def test_raw_images_are_what_they_were_whatever_the_codecs_settings():
    assert SameBytes().identity() == SameBytes(quality=9).identity() == {"kind": "SameBytes"}
    assert SameBytes(codec="jpeg").identity() != SameBytes(codec="jpeg", quality=9).identity()


class Followed(TransferSet):
    """Images that are the brighter the more the student's weights have changed since the last epoch: a stand-in for a generator."""

    title, identity = "images that follow the student", {"kind": "Followed"}

    def __init__(self, size=12):
        self.size, self.adapted, self.seen, self.student = size, torch.zeros(1), [], None

    def __len__(self):
        return self.size

    def adapt(self, student):
        assert student.training
        self.adapted += 1
        self.student = student

    def batches(self, epoch, size, seed):
        for number, index in enumerate(torch.arange(self.size).split(size)):
            generator = torch.Generator().manual_seed(1_000 * epoch + number + seed)
            weight = next(self.student.parameters()).detach() if self.student is not None else torch.zeros(1)
            self.seen.append(weight.double().sum().item())
            yield Batch(
                weight.abs().mean().clamp(0, 0.5) + torch.rand(len(index), *INPUTS.shape, generator=generator) / 2
            )

    def state(self):
        return {"adapted": self.adapted}

    def load_state(self, state):
        self.adapted = state["adapted"]


def student():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES))


@pytest.mark.parametrize("augmentation", [NoAugmentation(), Affine()], ids=["plain", "augmented"])
def test_a_transfer_set_may_follow_the_student_step_by_step(augmentation):
    followed, network = Followed(), student()
    settings = Distillation(epochs=3, batch_size=4, augmentation=augmentation)
    train_on_teacher(network, toy_teacher(), followed, INPUTS, settings, 0, label="toy", trainer=CPU)
    assert followed.adapted == 3
    assert len(followed.seen) == 9
    assert len(set(followed.seen)) == 9, "each batch is made after the step on the one before"
    again = Followed()
    other = train_on_teacher(student(), toy_teacher(), again, INPUTS, settings, 0, label="toy", trainer=CPU)
    assert weights_digest(other) == weights_digest(network)


def test_its_state_survives_a_kill(tmp_path, monkeypatch):
    def prepare(batch, uniform, rows):
        return (batch.pixels, torch.zeros(len(batch), dtype=torch.long))

    class KilledError(Exception):
        pass

    def loss(net, batch):
        if killed and followed.adapted == 3:
            raise KilledError
        return nn.functional.cross_entropy(net(batch[0]), batch[1])

    settings, options = Distillation(epochs=4, batch_size=4), {"label": "toy", "trainer": CPU, "prepare": prepare}
    killed, followed = False, Followed()
    whole = fit(student(), followed, loss, settings, 0, **options)
    killed, followed = True, Followed()
    monkeypatch.setattr("dfkd_exp.training.module.ResumePoint.__init__.__defaults__", (0.0,))
    with pytest.raises(KilledError):
        fit(student(), followed, loss, settings, 0, resume=tmp_path / "fit.ckpt", **options)
    killed, followed = False, Followed()
    resumed = fit(student(), followed, loss, settings, 0, resume=tmp_path / "fit.ckpt", **options)
    assert followed.adapted == 4
    assert weights_digest(resumed) == weights_digest(whole)


def test_a_preview_of_images_that_are_made_is_of_some_of_them():
    shown = Followed(size=10**6).preview(CLASSES, 2)
    assert not shown.labelled
    assert shown.samples[0].shape == (2, *INPUTS.shape)


OWN_SOURCE = """
from dataclasses import dataclass
from typing import ClassVar

from dfkd_exp.distillation.source import Source


@dataclass
class Mirrored(Source):
    needs_data: ClassVar[bool] = True
    words: ClassVar[str] = "the training set in a mirror"

    images: int = 100
    '''How many.'''

    def transfer_set(self, resources):
        import torch
        from dfkd_exp.training.transfer_set import FixedImages
        from dfkd_exp.data.rows import Rows

        def load():
            train = resources.data.images.train
            return Rows([train.images[: self.images].flip(3)]), train.labels[: self.images]

        identity = {**self.identity(), "data": resources.data.fingerprint}
        return FixedImages(load, "mirrored images", identity, 64 * self.images, lambda: torch.arange(self.images))
"""


def test_somebody_elses_source_is_one_class_by_import_path(dfkd, tmp_path, release_folder):
    (tmp_path / "own_source.py").write_text(OWN_SOURCE)
    given = ("pipeline=from_release", f"release={release_folder}", "data=digits")
    ran = dfkd("source=own_source.Mirrored", "source.images=90", *given)
    assert ran.code == 0, ran.err
    assert ran.result["images"] == 90
    assert ran.result["source_bytes"] == 64 * 90
    assert "distilling mlp on mirrored images" in ran.out
    assert "90 images: the training set in a mirror" in ran.out
