"""Which folders are parts and classes, by their names alone."""

import pytest

from dfkd_exp.data.folder_tree import Tree, split_folders
from dfkd_exp.data.splits import in_order, order_note, part_of
from dfkd_exp.errors import DfkdError


def tree(*folders, count=5, empty=(), unread=()):
    """``count`` images in each of the folders; the empty ones have none, and of ``unread`` there is one, of a kind that is not read."""
    images = [f"{folder}/{index}.png".lstrip("/") for folder in folders for index in range(count)]
    images += [f"{folder}/0.heic" for folder in unread]
    folders += tuple(unread)
    parents = {"/".join(f.split("/")[: n + 1]) for f in (*folders, *empty) if f for n in range(len(f.split("/")))}
    return Tree(images, parents)


def both(train, test, *more):
    return tree(*(f"{train}/{name}" for name in ("cat", "dog")), *(f"{test}/{name}" for name in ("cat", "dog")), *more)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Train", "Test"),
        ("training", "testing"),
        ("training_set", "test_set"),
        ("TRAIN", "valid"),
        ("train", "validation"),
        ("train_images", "val_images"),
        ("trainset", "dev"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("mnist-train", "mnist-test"),
        ("archive/images/train", "archive/images/test"),
    ],
)
def test_parts_are_known_by_their_usual_names(train, test):
    found = split_folders(both(train, test), "place", 0.2)
    assert found.classes == ["cat", "dog"]
    assert {image.rpartition("/")[0] for _, image in found.train} == {f"{train}/cat", f"{train}/dog"}
    assert {image.rpartition("/")[0] for _, image in found.test} == {f"{test}/cat", f"{test}/dog"}


@pytest.mark.parametrize("name", ["trains", "contest", "latest", "cat", "invalid", "bullet_train", "2"])
def test_what_only_contains_such_a_word_is_no_part(name):
    assert part_of(name) is None


def test_of_three_parts_the_test_part_is_tested_on_and_that_is_said():
    found = split_folders(both("train", "val", "test/cat", "test/dog"), "place", 0.2)
    assert {image.split("/")[0] for _, image in found.test} == {"test"}
    assert found.notes == ["val/ is left out: figures are of test/"]


def test_a_test_part_without_labels_is_passed_over_for_val_or_for_a_share():
    found = split_folders(both("train", "val", "test"), "place", 0.2)
    assert {image.split("/")[0] for _, image in found.test} == {"val"}
    assert found.notes == ["test/ is left out: its images are in no folder of a class", "figures are of val/"]
    found = split_folders(tree("train/cat", "train/dog", "test/unknown"), "place", 0.2)
    assert {image.split("/")[0] for _, image in found.test} == {"train"}
    assert (len(found.train), len(found.test)) == (8, 2)
    assert "20% of each class is held out" in found.notes[-1]


def test_a_class_that_is_missing_in_the_test_part_is_said():
    found = split_folders(tree("train/cat", "train/dog", "test/cat"), "place", 0.2)
    assert {name for name, _ in found.test} == {"cat"}
    assert found.notes == ["test/ has no images of dog: figures say nothing of them"]


def test_what_is_left_out_beside_is_said():
    found = split_folders(both("train", "test", "unlabeled", "train"), "place", 0.2)
    assert found.notes == [
        "5 images beside the folders of classes are left out",
        "left out, for what it is called is no part: unlabeled",
    ]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train", "bus", "car"), r"train/ looks like a part .* no folders of classes.*data.classes=\[bus,car,train\]"),
        (("valid", "invalid"), r"valid/ looks like a part .* no train/ beside it.*data.classes=\[invalid,valid\]"),
        (("test/cat", "test/dog", "val/cat"), r"test/ looks like a part"),
        (("train/cat", "train/dog", "Train/cat"), r"holds Train and train, and either could be"),
        (("train/cat", "train/dog", "test/cat", "test/emu"), r"place/test has classes that train/ has not: emu"),
        (("cat/train", "cat/test", "dog/train", "dog/test"), r"cat/test looks like a part .* move it to test/cat"),
        (
            ("a/cat", "a/dog", "b/cat", "b/dog"),
            r"are a, b parts, .* cat, dog, the classes\? Then .*data.classes=\[a,b\]",
        ),
        (("images",), r"at least two; it has 1; .* data.labels=labels.csv"),
        (("",), r"at least two; it has 0; .* data.labels=labels.csv"),
    ],
)
def test_what_may_mean_two_things_is_asked_about_in_one_line(folders, message):
    with pytest.raises(DfkdError, match=message) as asked:
        split_folders(tree(*folders), "place", 0.2, tables=["labels.csv"])
    assert "\n" not in str(asked.value)


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (
            ("animals/cat", "animals/dog", "vehicles/car"),
            "animals has cat, dog: taken as one class; if it is the inner ",
        ),
        (
            ("train/animals/cat", "train/animals/dog", "train/bus", "test/bus"),
            "animals has cat, dog: taken as one class; ",
        ),
        (
            ("animals/cat", "animals/dog", "animals/misc", "vehicles/bus", "vehicles/car", "vehicles/misc"),
            "animals has cat, dog; vehicles has bus, car: taken as one class each; ",
        ),
        (tuple(f"{a}/{a}{n}" for a in "abcd" for n in range(5)), "a has a0, a1, a2, a3, …; b has "),
    ],
)
def test_folders_in_a_class_that_may_be_the_classes_that_are_meant_are_told(folders, said):
    [note] = [note for note in split_folders(tree(*folders), "place", 0.2).notes if " has " in note and "taken" in note]
    assert note.startswith(said)
    assert note.endswith("a table says so: data.labels=FILE.csv")


@pytest.mark.parametrize(
    "folders",
    [
        ("cat/day", "dog/day", "emu/day", "emu/night", "cat/night"),
        ("cat/cat", "dog/dog"),
        ("cat", "cat/indoors", "cat/outdoors", "dog"),
        ("animals/cat", "vehicles/car"),
        ("cat/day", "cat/night", "dog", "dog/day", "dog/night/late", "emu"),
    ],
)
def test_folders_in_a_class_that_others_have_too_or_that_divide_nothing_are_not(folders):
    assert len(split_folders(tree(*folders), "place", 0.2).notes) == 1


def test_which_folders_are_classes_can_be_said():
    found = split_folders(tree("animals/cat", "animals/dog", "vehicles/car"), "place", 0.2, ["vehicles", "animals"])
    assert (found.classes, len(found.notes)) == (["vehicles", "animals"], 1)


def test_a_class_that_is_called_like_a_part_is_one_where_it_is_said():
    found = split_folders(tree("train", "bus", "car"), "place", 0.2, ["car", "train", "bus"])
    assert found.classes == ["car", "train", "bus"]
    assert {name for name, _ in found.test} == {"car", "train", "bus"}


def test_some_classes_can_be_wanted_in_any_order_but_must_be_there():
    whole = tree("train/a", "train/b", "train/c", "test/a", "test/b", "test/c")
    found = split_folders(whole, "place", 0.2, ["c", "a"])
    assert found.classes == ["c", "a"]
    assert {name for name, _ in [*found.train, *found.test]} == {"a", "c"}
    with pytest.raises(DfkdError, match=r"data.classes: place/train has no class 'd', only a, b, c"):
        split_folders(whole, "place", 0.2, ["a", "d"])


def test_an_empty_class_is_refused_and_not_passed_over():
    with pytest.raises(DfkdError, match="place/emu holds no images"):
        split_folders(tree("cat", "dog", empty=["emu"]), "place", 0.2)
    assert split_folders(tree("cat", "dog", empty=["emu"]), "place", 0.2, ["dog", "cat"]).classes == ["dog", "cat"]


def test_images_of_kinds_that_are_not_read_are_left_out_and_told_of_those_of_classes_alone():
    whole = tree("train/cat", "train/dog", "test/cat", "test/dog", unread=["train/cat", "test/dog/indoors", "logo"])
    found = split_folders(whole, "place", 0.2)
    assert found.unread == ["test/dog/indoors/0.heic", "train/cat/0.heic"]
    assert (len(found.train), len(found.test)) == (10, 10)
    assert split_folders(tree("a", "b", "c", unread=["c"]), "place", 0.2, ["a", "b"]).unread == []
    assert split_folders(tree("a", "b", unread=["b"]), "place", 0.2).unread == ["b/0.heic"]


@pytest.mark.parametrize(
    ("folders", "unread", "where"),
    [
        (("cat", "dog"), ["emu"], "place/emu"),
        ((), ["cat", "dog"], "place/cat"),
        ((), ["archive/cat", "archive/dog"], "place/archive/cat"),
        (("test/cat", "test/dog"), ["train/cat", "train/dog"], "place/train/cat"),
        (("train/cat", "train/dog"), ["test/cat"], "place/test"),
    ],
)
def test_where_no_image_is_of_a_kind_that_is_read_it_is_said(folders, unread, where):
    with pytest.raises(
        DfkdError, match=rf"^{where} holds no images of kinds that are read, only 1 .heic: convert them"
    ):
        split_folders(tree(*folders, unread=unread), "place", 0.2)


def test_numbers_are_in_the_order_of_numbers_and_where_that_matters_it_is_said():
    assert in_order(["10", "2", "1", "0"]) == ["0", "1", "2", "10"]
    assert in_order(["c10", "c2"]) == ["c10", "c2"]
    assert order_note(["0", "2", "10"]).startswith("classes are in the order of numbers: 0, 2, 10, and not 0, 10, 2")
    assert order_note(["c10", "c2"]).startswith("classes are in the order of text: c10, c2, and not c2, c10")
    assert order_note(["0", "1", "9"]) == order_note(["cat", "dog"]) == ""
