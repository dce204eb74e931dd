"""Test images of a receiver's own: their classes are the release's by name, and what the teacher makes of them is said."""

import numpy as np
from sklearn.datasets import load_digits


def save(path, classes, names=None):
    """Digits of some ``classes``, called by ``names``."""
    digits = load_digits()
    chosen = np.isin(digits.target, classes)
    called = dict(zip(classes, names or map(str, classes), strict=True))
    labels = np.array([called[label] for label in digits.target[chosen]])
    np.savez(path, x=(digits.images[chosen] * 255 / 16).round().astype("uint8"), y=labels)


def test_some_of_the_classes_are_matched_by_name_and_others_are_told_of_or_refused(dfkd, release_folder, tmp_path):
    own = ("pipeline=from_release", f"release={release_folder}", "data=arrays", "source=noise")
    save(tmp_path / "some.npz", [3, 5, 7])
    some = dfkd(*own, f"data.path={tmp_path / 'some.npz'}")
    assert some.code == 0, some.err
    assert "3 of the release's 10 classes, which are matched by their names" in " ".join(some.out.split())
    assert "of the test images are answered rightly; its release says" in " ".join(some.out.split())
    digits = dfkd(*own[:2], "data=digits", "source=noise").result
    assert abs(some.result["teacher_accuracy"] - digits["teacher_accuracy"]) < 0.2
    save(tmp_path / "moved.npz", list(range(10)), [f"c{(label + 1) % 10}" for label in range(10)])
    moved = dfkd(*own, f"data.path={tmp_path / 'moved.npz'}")
    said = " ".join(moved.err.split())
    assert "are taken for the release's (0, 1, 2, 3, …) in this order" in said
    assert "The usual causes: classes in another order" in said
    save(tmp_path / "strange.npz", [3, 5], ["3", "five"])
    strange = dfkd(*own, f"data.path={tmp_path / 'strange.npz'}")
    assert strange.code == 1
    assert "the data has classes that the release has not: five; leave them out" in strange.err
