"""Tables are made from result.json files: means and deviations over seeds, a row per setting, in a stable order."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from dfkd_exp.report.setting import Figure, settings_of, shown
from dfkd_exp.report.tables import run_table, sweep_table

A_RESULT = Path(__file__).parents[2] / "docs/results/paper/table2-paper-noise-seed2.json"
PUBLISHED = json.loads(A_RESULT.read_text())


def phase(seconds):
    return {**PUBLISHED["phases"]["student"], "seconds": seconds}


def result(*overrides, **changes):
    """What a run writes."""
    seed = next((int(said[5:]) for said in overrides if said.startswith("seed=")), 0)
    return {
        **PUBLISHED,
        "row": None,
        "words": {},
        "published_teacher": None,
        "name": "toy",
        "overrides": list(overrides),
        "seed": seed,
        "teacher": "lenet5",
        "student": "lenet5_half",
        "metadata": "AllLayers",
        "source": "FromReconstruction",
        "match": "moments",
        "accuracy": 0.9,
        "agreement": 0.95,
        "agreement_mixed": 0.94,
        "agreement_held_out": 0.96,
        "teacher_accuracy": 0.99,
        "teacher_accuracy_by_owner": 0.98,
        "teacher_parameters": 61706,
        "student_parameters": 35820,
        "compression": 61706 / 35820,
        "metadata_bytes": 123456,
        "source_bytes": 123456,
        "images": 5000,
        "seconds": 12.34,
        "phases": {"teacher": phase(1.0), "student": phase(11.34), "evaluation": phase(0.0)},
    } | changes


def rows(results):
    """The cells of the sweep's table, row by row."""
    table = sweep_table(settings_of(results))
    return list(zip(*(list(column.cells) for column in table.columns), strict=True))


def text(table):
    console = Console(width=140)
    with console.capture() as captured:
        console.print(table)
    return " ".join(captured.get().split())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([97.124], "97.12"),
        ([97, 98, 99], "98.00 ± 1.00"),  # n - 1: with n it would be 0.82
        ([97, None, 99], "98.00 ± 1.41"),
        ([None, 50], "50.00"),
        ([None], "–"),
        ([], "–"),
        ([0.0, 0.0], "0.00 ± 0.00"),
    ],
)
def test_a_figure_is_mean_and_deviation_over_seeds(values, expected):
    assert Figure.of(values).text() == expected


def test_seeds_of_one_setting_are_one_row():
    results = [
        result(f"student={student}", f"seed={seed}", accuracy=accuracy, phases=taking(seconds), source_bytes=10_000)
        for student, seed, accuracy, seconds in [
            ("a", 0, 0.8, 10),
            ("b", 0, 0.5, 1),
            ("a", 1, 0.9, 21),
            ("b", 1, 0.5, 2),
        ]
    ]
    assert rows(results) == [
        ("student=a", "2", "99.00", "85.00 ± 7.07", "95.00 ± 0.00", "10,000", "15.5"),
        ("student=b", "2", "99.00", "50.00 ± 0.00", "95.00 ± 0.00", "10,000", "1.5"),
    ]


def taking(seconds):
    """The phases of a run whose teacher and measurements are not the student's."""
    return {"teacher": phase(100), "student": phase(seconds), "evaluation": phase(7), "privacy": phase(70)}


def test_rows_come_in_the_order_of_their_first_run():
    results = [result(f"metadata={name}", f"seed={seed}") for seed in (2, 0, 1) for name in ("z", "a", "m")]
    assert [row[0] for row in rows(results)] == ["metadata=z", "metadata=a", "metadata=m"]


def test_a_row_is_headed_by_what_was_swept_and_not_by_what_all_share():
    results = [result("data=mnist", f"optimizer.lr={lr}", f"match={match}") for lr in (1, 2) for match in ("x", "y")]
    assert [setting.title for setting in settings_of(results)] == [
        "optimizer.lr=1; match=x", "optimizer.lr=1; match=y", "optimizer.lr=2; match=x", "optimizer.lr=2; match=y",
    ]  # fmt: skip


def test_a_sweep_over_seeds_alone_is_one_row_with_the_runs_name():
    [row] = rows([result("data=mnist", f"seed={seed}") for seed in range(3)])
    assert row[:2] == ("toy", "3")


def test_a_seed_that_was_run_twice_counts_once():
    [row] = rows([result(f"seed={seed}", accuracy=accuracy) for seed, accuracy in ((0, 0.8), (0, 0.8), (1, 0.9))])
    assert row[1:4] == ("2", "99.00", "85.00 ± 7.07")


def test_a_list_in_a_setting_is_shown_with_its_brackets():
    results = [result(f"metadata.layers=[{name}]") for name in ("hidden1", "/hidden2")]
    assert "metadata.layers=[hidden1]" in text(sweep_table(settings_of(results)))
    assert "metadata.layers=[/hidden2]" in text(sweep_table(settings_of(results)))


def test_no_results_are_an_empty_table():
    assert rows([]) == []
    assert settings_of([]) == []


def test_without_a_test_set_the_owners_figure_and_the_agreement_on_mixtures_stand_in():
    [row] = rows([result(accuracy=None, agreement=None, teacher_accuracy=None)])
    assert row[2:5] == ("98.00", "–", "94.00")


def test_a_runs_table_says_whose_figure_and_on_what():
    measured = text(run_table(result()))
    assert "lenet5, 61,706 parameters" in measured
    assert "1.72x" in measured
    assert "5,000 images: reconstructed from AllLayers, match: moments" in measured
    assert "90.00 %" in measured
    assert (
        "95.00 % on the test set 94.00 % on mixtures of what the student saw 96.00 % on held-out reconstructions (an optimistic estimate)"
        in measured
    )
    assert "by its owner" not in measured
    assert "over training" not in measured, "an older file, or no snapshots"
    followed = text(run_table(result(accuracy_last_tenth=0.8912, accuracy_best_epoch=0.9345)))
    assert "over training 89.12 % in the last tenth 93.45 % at its best, chosen by test accuracy" in followed
    unmeasured = text(
        run_table(
            result(accuracy=None, agreement=None, teacher_accuracy=None, agreement_held_out=None, agreement_mixed=None)
        )
    )
    assert "not measured: no data set (data=…)" in unmeasured
    assert "98.00 % (measured by its owner)" in unmeasured
    assert "agreement – seconds" in unmeasured


@pytest.mark.parametrize(
    ("ratio", "said"), [(61706 / 35820, "1.72x"), (0.99, "0.99x"), (0.003456, "0.0035x"), (1234.5, "1234.50x")]
)
def test_compression_has_two_digits_where_the_student_is_larger(ratio, said):
    assert f"compression {said}" in text(run_table(result(compression=ratio)))


@pytest.mark.parametrize("name", ["[/]", "[bold", "[red]x", "a[/nothing]", "\\", "[link=http://a]b"])
def test_names_are_shown_as_they_are_and_end_no_run(name):
    shown_names = text(run_table(result(teacher=name, student=name, metadata=name)))
    assert shown_names.count(name) == 3
    assert name in text(run_table(result(match=None, source_words=name)))


def test_baselines_are_called_by_their_words_and_those_without_by_their_name():
    assert shown(result(match=None, source="FromNoise", source_words="noise")) == "noise"
    assert shown(result(match=None, source="Mirrored")) == "Mirrored"


def test_a_runs_table_says_what_attacks_found_and_on_what():
    attack = {"auc": 0.4853, "auc_low": 0.442, "auc_high": 0.5291, "members": 1_438, "others": 184}
    shown = text(run_table(result(privacy={"attacks": {"teacher": attack, "metadata_shadows": attack}})))
    assert "attack AUC 0.485 (0.442–0.529) on the teacher alone (baseline); 1,438 members, 184 non-members" in shown
    assert shown.count("non-members") == 1


def test_held_out_images_that_are_no_reconstructions_are_not_called_so():
    assert "96.00 % on held-out images of the same kind (an optimistic estimate)" in text(run_table(result(match=None)))
