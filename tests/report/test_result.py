"""Names and versions in result.json. Its figures and schema are tested by whole runs."""

import re

from dfkd_exp.report.result import code_version


def test_the_code_version_is_a_number_and_in_a_clone_a_commit():
    assert re.fullmatch(r"\d+\.\d+\S*( \([0-9a-f]{7,}(\+changes)?\))?", code_version())
