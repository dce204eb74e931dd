"""Whose class of whose: data that somebody else's teacher is tried on."""

import pytest

from dfkd_exp import DfkdError
from dfkd_exp.data.class_names import Numbering, numbering

RELEASE = ["zebra", "Red car", "apple"]


def test_classes_of_the_same_names_and_order_need_no_word():
    assert numbering(["zebra", "red car ", "Apple"], RELEASE) == Numbering([0, 1, 2])


@pytest.mark.parametrize(
    ("ours", "numbers", "note"),
    [
        (["apple", "red car", "zebra"], [2, 1, 0], "the data has the release's classes"),
        (["apple", "zebra"], [2, 0], "the data has 2 of the release's 3 classes"),
    ],
)
def test_in_another_order_or_some_of_them_they_are_matched_by_name(ours, numbers, note):
    assert numbering(ours, RELEASE) == Numbering(numbers, f"{note}, which are matched by their names")


def test_as_many_of_other_names_are_taken_in_their_order_which_is_said():
    found = numbering(["0", "1", "2"], RELEASE)
    assert found.numbers == [0, 1, 2]
    assert found.by_order
    assert "(0, 1, 2) are taken for the release's (zebra, Red car, apple) in this order" in found.note


@pytest.mark.parametrize(
    ("ours", "what"),
    [
        (["zebra", "horse", "apple"], "classes that the release has not: horse"),
        (["zebra", "red car", "apple", "pear"], "classes that the release has not: pear"),
        (["0", "1"], "none is called as one of the release's 3"),
        (["0", "1", "2", "3"], "none is called as one of the release's 3"),
        (["zebra", "apple", "apple"], "cannot be told apart"),
    ],
)
def test_what_the_names_do_not_say_is_refused(ours, what):
    with pytest.raises(DfkdError, match=what) as error:
        numbering(ours, RELEASE)
    assert "data.classes" in str(error.value)
