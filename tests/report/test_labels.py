"""Labels of a drawing: none on another, none outside, and the same places each time."""

import itertools

import pytest
from matplotlib.text import Text

from dfkd_exp.report.figures import accuracy_against, curves, over_training
from dfkd_exp.report.labels import Box, key_lines, places, spread
from dfkd_exp.report.setting import Setting
from tests.report.test_tables import result


def setting(title, accuracy, num_bytes, **more):
    return Setting(title, [result(accuracy=accuracy, source_bytes=num_bytes, **more), result(accuracy=accuracy + 0.01)])


CROWDED = [setting(f"a setting called {number}", 0.9 + number % 5 / 1000, 1_000 + number % 3) for number in range(25)]
FEW = [setting("means and deviations", 0.95, 1_000), setting("top layer", 0.5, 90_000), setting("records", 0.9, 40_000)]
FREE = [*FEW, setting("BatchNorm's own", 0.7, 0), setting("noise", 0.2, 0), setting("all", 0.97, 0, source="FromData")]
BOTH = [*FREE, setting("all of them, by their labels and not by what a teacher says", 0.96, 0, source="FromData")]
ALIKE = [setting(f"a setting with a rather long title, number {number}", 0.9, 1_000) for number in range(8)]


def boxes(figure):
    """The extents of all texts of the drawing (axes' labels, ticks, the points' labels, key and legend), and of the drawing."""
    figure.canvas.draw()
    renderer, [axes] = figure.canvas.get_renderer(), figure.axes
    texts = [*axes.texts, *figure.texts, axes.xaxis.label, axes.yaxis.label, axes.title]
    texts += axes.get_legend().get_texts() if axes.get_legend() else []
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    # An annotation's own extent would include the line to its point.
    return [(text.get_text(), Text.get_window_extent(text, renderer)) for text in texts if text.get_text()], figure.bbox


@pytest.mark.parametrize("what", ["bytes", "seconds"])
@pytest.mark.parametrize(
    "settings", [CROWDED, FEW, FREE, BOTH, ALIKE, FEW[:1]], ids=["crowded", "few", "free", "both", "alike", "one"]
)
def test_no_text_lies_on_another_or_outside(settings, what):
    check_apart(accuracy_against(settings, what))


def check_apart(figure):
    found, page = boxes(figure)
    for (one, first), (other, second) in itertools.combinations(found, 2):
        assert not first.overlaps(second), f"{one!r} lies on {other!r}"
    for text, box in found:
        assert page.x0 <= box.x0, text
        assert box.x1 <= page.x1, text
        assert page.y0 <= box.y0, text
        assert box.y1 <= page.y1, text


def test_what_publishes_nothing_stands_at_zero_and_all_training_images_are_a_line():
    figure = accuracy_against(FREE, "bytes")
    [axes] = figure.axes
    texts = {text for text, _ in boxes(figure)[0]}
    assert {"BatchNorm's own", "noise", "0", "all training images"} <= texts
    assert "all" not in texts
    points = axes.transData.transform([(0, 70), (1_000, 70), (10_000, 70), (100_000, 70)])[:, 0]
    zero, *others = (points - points[1]) / (points[2] - points[1])
    assert others == pytest.approx([0, 1, 2], abs=1e-6)
    assert -0.6 < zero < -0.4
    [line] = [line for line in axes.lines if line.get_label() == "all training images"]
    assert list(line.get_ydata()) == pytest.approx([97.5, 97.5])


def test_among_few_bytes_what_publishes_nothing_stands_at_zero_too():
    figure = accuracy_against([FEW[1], FEW[2], FREE[3]], "bytes")
    [axes] = figure.axes
    assert axes.get_xscale() == "linear"
    assert axes.get_xlim()[0] < 0


NOTHING = [setting(f"publishes nothing, {number}", 0.9 + number / 1000, 0) for number in range(4)]


@pytest.mark.parametrize("others", [FEW, FEW[:1]], ids=["logarithmic", "linear"])
def test_points_at_zero_that_would_lie_on_one_another_stand_beside_one_another(others):
    figure = accuracy_against([*NOTHING, setting("far below", 0.1, 0), *others], "bytes")
    check_apart(figure)
    [axes] = figure.axes
    [points] = [line for line in axes.lines if line.get_marker() == "o"]
    *zero, far = points.get_xdata()[:5]
    assert zero[-1] == far == 0, "the best, and what is in nobody's way"
    assert zero == sorted(zero)
    places = axes.transData.transform([(x, 0) for x in zero])[:, 0] * 72 / figure.dpi
    assert min(after - before for before, after in itertools.pairwise(places)) > 9
    assert min(tick.get_loc() for tick in axes.xaxis.get_major_ticks()) == 0
    assert axes.get_xlim()[0] < zero[0]


def trained(title, accuracy, seconds=600.0, seeds=1):
    """A setting whose curve ends there, after three tenths of the seconds without one."""
    epochs = range(3, 11)
    curve = [
        {"epoch": n, "seconds": seconds * n / 10, "image_steps": n, "accuracy": accuracy - 0.5 / n} for n in epochs
    ]
    return Setting(title, [result(curve=curve)] * seeds)


LONG = (
    "means and deviations of every channel, and what a student has yet to learn; teacher ResNet-20; CIFAR-10 with flips"
)
OVER_TRAINING = {
    "alike": [trained(f"method {number} of them all", 0.98 + number % 3 / 1000) for number in range(14)],
    "long": [trained(f"{LONG}, {number}", 0.9 + number / 1000) for number in range(14)],
    "apart": [trained("quick", 0.5, 3.0), trained("slow", 0.99, 3000.0), trained("$odd_{", 0.1, 50.0)],
    "many": [trained(f"setting {number}", 0.97) for number in range(60)],
    "one": [trained("alone", 1.0)],
}


@pytest.mark.parametrize("case", OVER_TRAINING)
def test_curves_are_called_by_their_titles_where_they_end(case):
    settings = OVER_TRAINING[case]
    figure = over_training(settings, "a teacher")
    check_apart(figure)
    texts = " ".join(text.replace("\n", " ") for text, _ in boxes(figure)[0])
    assert sum(setting.title[:60] in texts for setting in settings) == min(len(settings), 40)
    [axes] = figure.axes
    assert axes.get_ylim()[0] < min(100 * s.results[0]["curve"][-1]["accuracy"] for s in settings)
    assert axes.get_ylim()[1] <= 106
    assert axes.get_xscale() == ("log" if case == "apart" else "linear")


def test_a_curve_is_the_mean_over_seeds_with_a_band():
    seeds = [
        result(curve=[{"epoch": 5, "seconds": s, "image_steps": 0, "accuracy": a}]) for s, a in ((10, 0.8), (30, 0.9))
    ]
    [(seconds, accuracy)] = Setting("two", [*seeds, result(curve=None), result()]).curve
    assert (seconds, accuracy.text()) == (20, "85.00 ± 7.07")
    assert Setting("none", [result()]).curve == []


def test_labels_are_spread_as_little_as_is_needed():
    assert spread([5, 50, 90], [10, 10, 10], 0, 100) == [5, 50, 90]
    assert spread([50, 50], [10, 20], 0, 100) == [42.5, 57.5]
    assert spread([99, 100], [10, 10], 0, 100) == [85, 95], "within the ends"
    assert spread([60, 20, 61], [10, 10, 10], 0, 100) == [55.5, 20, 65.5], "in their order"
    assert spread([], [], 0, 1) == []


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
