"""Labels of a drawing: none on another, none outside, and the same places each time."""

import itertools

import pytest
from matplotlib.text import Text

from dfkd_exp.report.figures import accuracy_against, curves
from dfkd_exp.report.labels import Box, key_lines, places
from dfkd_exp.report.summary import Setting
from tests.report.test_tables import result


def setting(title, accuracy, num_bytes, **more):
    return Setting(title, [result(accuracy=accuracy, source_bytes=num_bytes, **more), result(accuracy=accuracy + 0.01)])


CROWDED = [setting(f"a setting called {number}", 0.9 + number % 5 / 1000, 1_000 + number % 3) for number in range(25)]
FEW = [setting("means and deviations", 0.95, 1_000), setting("top layer", 0.5, 90_000), setting("records", 0.9, 40_000)]
ALIKE = [setting(f"a setting with a rather long title, number {number}", 0.9, 1_000) for number in range(8)]


def boxes(figure):
    """The extents of all texts of the drawing (axes' labels, ticks, the points' labels, key and legend), and of the drawing."""
    figure.canvas.draw()
    renderer, [axes] = figure.canvas.get_renderer(), figure.axes
    texts = [*axes.texts, *figure.texts, axes.xaxis.label, axes.yaxis.label, *axes.get_legend().get_texts()]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    # An annotation's own extent would include the line to its point.
    return [(text.get_text(), Text.get_window_extent(text, renderer)) for text in texts if text.get_text()], figure.bbox


@pytest.mark.parametrize("what", ["bytes", "seconds"])
@pytest.mark.parametrize("settings", [CROWDED, FEW, ALIKE, FEW[:1]], ids=["crowded", "few", "alike", "one"])
def test_no_text_lies_on_another_or_outside(settings, what):
    found, page = boxes(accuracy_against(settings, what))
    for (one, first), (other, second) in itertools.combinations(found, 2):
        assert not first.overlaps(second), f"{one!r} lies on {other!r}"
    for text, box in found:
        assert page.x0 <= box.x0, text
        assert box.x1 <= page.x1, text
        assert page.y0 <= box.y0, text
        assert box.y1 <= page.y1, text


def test_a_few_points_have_their_titles_and_many_a_number_and_a_key():
    assert {s.title for s in FEW} <= {text for text, _ in boxes(accuracy_against(FEW, "bytes"))[0]}
    texts = {text for text, _ in boxes(accuracy_against(CROWDED, "bytes"))[0]}
    assert {str(number) for number in range(1, 26)} <= texts
    assert "25. a setting called 24" in texts


def test_the_curves_key_lies_below_them():
    figure = curves([(f"{number}. a setting", [0, 1, 2], [3, 2, 1]) for number in range(25)], "loss")
    figure.canvas.draw()
    renderer, [legend], [axes] = figure.canvas.get_renderer(), figure.legends, figure.axes
    assert len(legend.get_texts()) == 25
    below = axes.xaxis.label.get_window_extent(renderer)
    for text in legend.get_texts():
        box = text.get_window_extent(renderer)
        assert box.y1 <= below.y0
        assert figure.bbox.y0 <= box.y0
        assert box.x1 <= figure.bbox.x1


def test_a_label_stands_at_its_point_and_on_no_other():
    area, points = Box(0, 0, 100, 100), [(50, 50), (52, 50), (50, 53), (97, 97)]
    found = places(points, [(10, 8)] * 4, area)
    assert found == places(points, [(10, 8)] * 4, area)
    for box, other in itertools.combinations(found, 2):
        assert not box.meets(other)
    assert all(box.within(area) for box in found)
    assert not any(box.left < x < box.right and box.bottom < y < box.top for box in found for x, y in points)
    assert abs(found[0].left - 50) < 20


def test_where_there_is_no_room_nothing_is_placed():
    assert places([(5, 5)], [(20, 5)], Box(0, 0, 10, 10)) is None


def test_a_key_is_read_downwards_in_columns_that_are_wide_enough():
    assert key_lines(["a", "b", "c", "d"]) == [["a", "b"], ["c", "d"]]
    assert len(key_lines(["x" * 100, "y" * 100])) == 1
    assert key_lines([]) == []
