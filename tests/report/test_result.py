"""Names and versions in result.json. Its figures and schema are tested by whole runs."""

import re
from types import SimpleNamespace

from dfkd_exp.report.result import _curve, code_version


def test_the_code_version_is_a_number_and_in_a_clone_a_commit():
    assert re.fullmatch(r"\d+\.\d+\S*( \([0-9a-f]{7,}(\+changes)?\))?", code_version())


def test_a_student_whose_weights_an_older_evaluation_knows_has_no_curve():
    known = {name: SimpleNamespace(seconds=1.0, info={}) for name in ("teacher", "release", "student", "evaluation")}
    assert _curve(known) == []
    known["student"].info["snapshots"] = [{"epoch": 2, "seconds": 3.0, "image_steps": 40}]
    known["evaluation"].info["snapshots"] = [0.5]
    assert _curve(known) == [{"epoch": 2, "seconds": 4.0, "image_steps": 40, "accuracy": 0.5}]
