"""Right of the wall nothing opens the data: a process in which it cannot be opened distils all the same."""

import json

from tests.copies import Copy

GUARD = """
import sys

def no_data(event, arguments):
    if event == "import" and arguments[0].partition(".")[0] == "sklearn":
        raise RuntimeError(f"the data was asked for: import {arguments[0]}")
    if event == "open" and isinstance(arguments[0], str):
        if "digits.csv" in arguments[0] or "idx3-ubyte" in arguments[0] or "idx1-ubyte" in arguments[0]:
            raise RuntimeError(f"the data was opened: {arguments[0]}")

sys.addaudithook(no_data)
from dfkd_exp.app import main
main()
"""


def run(arguments, tmp_path):
    return Copy(GUARD, [*arguments, "scale=smoke", "trainer=cpu", "outputs=outputs"], tmp_path).ended()


def test_a_student_is_distilled_where_the_data_cannot_be_opened(release_folder, tmp_path):
    ran = run(["pipeline=from_release", f"release={release_folder}", "student=mlp"], tmp_path)
    assert ran.returncode == 0, ran.stderr
    [path] = tmp_path.glob("outputs/runs/*/*/result.json")
    result = json.loads(path.read_text())
    assert result["accuracy"] is None
    assert result["agreement_held_out"] is not None
    assert "not measured: no data set" in ran.stdout


def test_the_guard_does_guard(tmp_path):
    ran = run([], tmp_path)
    assert ran.returncode == 1
    assert "the data was asked for" in ran.stderr
