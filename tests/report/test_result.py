"""Names and versions in result.json. Its figures and schema are tested by whole runs."""

import re

from dfkd_exp.distillation.settings import Student
from dfkd_exp.report.result import _network_name, code_version


def test_a_network_is_called_by_its_name_or_by_its_class():
    assert _network_name(Student(name="lenet5").architecture()) == "lenet5"
    assert _network_name(Student(name="custom", target="my.module.Net").architecture()) == "Net"


def test_the_code_version_is_a_number_and_in_a_clone_a_commit():
    assert re.fullmatch(r"\d+\.\d+\S*( \([0-9a-f]{7,}(\+changes)?\))?", code_version())
