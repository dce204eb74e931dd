"""Batches as loaders give them: the same images and classes, or one line that says what is amiss."""

import pytest
import torch

from dfkd_exp.data.labelled import as_images, class_numbers, images_and_labels, num_classes_seen
from dfkd_exp.errors import DfkdError

CLASSES = torch.tensor([2, 0, 1, 2])
IMAGES = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "labels",
    [
        CLASSES, CLASSES.to(torch.uint8), CLASSES.to(torch.int32), CLASSES.float(), CLASSES.half(), CLASSES.double(), CLASSES[:, None],
        CLASSES[:, None].float(), CLASSES.tolist(), tuple(CLASSES), list(CLASSES), CLASSES.numpy(), CLASSES.numpy().astype("float64"),
        torch.nn.functional.one_hot(CLASSES, 3), torch.nn.functional.one_hot(CLASSES, 3).float(),
        torch.nn.functional.one_hot(CLASSES, 3).bool(), torch.nn.functional.one_hot(CLASSES, 3).numpy(),
    ],
)  # fmt: skip
def test_labels_of_one_meaning_are_classes(labels):
    numbers = class_numbers(labels, 3)
    assert numbers.dtype == torch.int64
    assert numbers.tolist() == CLASSES.tolist()


def test_two_classes_may_be_said_by_truth_values():
    assert class_numbers([True, False], 2).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0.0, 0.3]), r"must be whole numbers, the classes, got 0.3"),
        (torch.tensor([0.0, float("nan")]), r"must be whole numbers, the classes, got nan"),
        (torch.tensor([[0.9, 0.1, 0.0]]), r"must have a single 1 in each row.*labels.argmax\(1\)"),
        (torch.tensor([[1, 0, 1]]), r"must have a single 1 in each row.*several classes"),
        (torch.tensor([[1, 0, 0, 0]]), r"a class for each image, \[N\] or one-hot \[N, 3\], got \[1, 4\]"),
        (torch.zeros(2, 6, 6), r"a class for each image, .* got \[2, 6, 6\]"),
        (torch.tensor([0, 3]), r"must be 0 to 2, the teacher's classes; got 3"),
        (torch.tensor([-1, 0]), r"must be 0 to 2, the teacher's classes; got -1"),
        (["cat", "dog"], r"the labels of a batch must be a tensor, .*numbers, the classes from 0"),
    ],
)
def test_labels_that_name_no_class_are_refused(labels, message):
    with pytest.raises(DfkdError, match=message) as refused:
        class_numbers(labels, 3)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "batch",
    [
        (IMAGES, CLASSES), [IMAGES, CLASSES], (IMAGES.numpy(), CLASSES.numpy()), (list(IMAGES), list(CLASSES)), (IMAGES.double(), CLASSES),
        {"pixel_values": IMAGES, "labels": CLASSES}, {"image": IMAGES, "label": CLASSES, "path": ["a"] * 4}, {"Y": CLASSES, "x": IMAGES},
    ],
)  # fmt: skip
def test_a_batch_is_a_pair_however_it_is_given(batch):
    images, labels = images_and_labels(batch)
    assert torch.equal(images, IMAGES)
    assert torch.equal(labels, CLASSES)


def test_half_images_are_converted():
    assert torch.equal(as_images(IMAGES.half()), IMAGES.half().float())


def test_of_more_entries_the_first_two_are_taken_and_that_is_said():
    with pytest.warns(UserWarning, match="3 entries; the first is taken for the images, the second for the labels"):
        _, labels = images_and_labels((IMAGES, CLASSES, torch.arange(4)))
    assert torch.equal(labels, CLASSES)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (IMAGES, r"must be \(images, labels\), or a dict of them, got a single tensor of shape \[4, 1, 6, 6\]"),
        ((IMAGES,), r"must be \(images, labels\), or a dict of them, got tuple"),
        (None, r"got NoneType"),
        ((IMAGES[0], 1), r"images of shape \[1, 6, 6\] and labels of shape \[\].*DataLoader"),
        ((IMAGES, CLASSES[:3]), r"shape \[4, 1, 6, 6\] and labels of shape \[3\], which must be as many"),
        (([IMAGES[0], IMAGES[1, :, :3]], CLASSES[:2]), r"the images of a batch must be a tensor.*all of one size"),
        (
            ((IMAGES * 255).byte(), CLASSES),
            r"the inputs are bytes \(uint8\); give them as the teacher takes them",
        ),
        ((torch.arange(8).view(4, 2), CLASSES), r"whole numbers \(int64\).*of tokens, which an embedding looks up"),
        (
            {"img": IMAGES, "fine": CLASSES, "coarse": CLASSES},
            r"has the keys img, fine, coarse, of which one must be one of labels",
        ),
        ({"image": IMAGES, "images": IMAGES, "label": CLASSES}, r"has the keys image, images, label, of which one"),
    ],
)
def test_what_is_no_batch_is_refused(batch, message):
    with pytest.raises(DfkdError, match=message) as refused:
        images_and_labels(batch)
    assert "\n" not in str(refused.value)


def test_classes_are_counted_by_the_labels():
    assert num_classes_seen([CLASSES[1:3], CLASSES]) == 3
    assert num_classes_seen([torch.eye(5)]) == 5
    assert num_classes_seen([]) is None
