"""What the command line says, an override at a time."""

import pytest

from dfkd_exp.config.overrides import is_of, key_of, tells_teachers


@pytest.mark.parametrize(
    ("said", "key"),
    [("a=1", "a"), ("+a.b=1", "a.b"), ("++a.b=c=d", "a.b"), ("~a.b", "a.b"), ("a/b=c", "a/b"), ("a@b.c=d", "a@b.c")],
)
def test_the_key_of_an_override(said, key):
    assert key_of(said) == key


@pytest.mark.parametrize(
    ("said", "within"),
    [
        ("data=mnist", True), ("+data.limit=5", True), ("data/x=y", True), ("~data", True), ("database=3", False),
        ("my.data=1", False), ("teacher=mlp", False),
    ],
)  # fmt: skip
def test_whether_it_is_of_a_flag_or_a_group(said, within):
    assert is_of(said, ("data", "seed")) is within


@pytest.mark.parametrize(
    ("said", "tells"),
    [
        ("teacher.kwargs.width=4", True), ("training/optimizer=sgd", True), ("trainer.precision=bf16-mixed", True),
        ("trainer.devices=2", False), ("student=mlp", False), ("seed=1", False), ("scale=cpu", True),
    ],
)  # fmt: skip
def test_what_tells_one_teacher_from_another(said, tells):
    assert tells_teachers(said) is tells
