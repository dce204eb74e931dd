"""Which columns a report's table has."""

from dfkd_exp.report.columns import columns_of
from dfkd_exp.report.setting import Setting
from tests.report.test_tables import result


def test_a_column_that_says_the_same_of_all_settings_may_be_left_out():
    def names(*shown):
        settings = [Setting(str(number), [result(student_image_steps=count)]) for number, count in enumerate(shown)]
        return [column.name for column in columns_of(settings)]

    assert "student's images" not in names(190, 190)
    assert "student's images" in names(190, 37_388)
    assert "published %" not in names(190)
