"""Published figures stand beside ours, laid out from result files alone."""

import csv

import pytest

from dfkd_exp.config.groups import file_of
from dfkd_exp.report.command import main as report_again
from dfkd_exp.report.notes import notes
from dfkd_exp.report.published import COLUMNS, TEACHER, write_tables
from dfkd_exp.report.published import published_rows as rows_of_settings
from dfkd_exp.report.setting import settings_of

ROWS = {row["name"]: {"published": None, **row} for row in file_of("experiment", "paper/table1")["rows"]}
RECIPES = {"recipe=paper": "the paper's recipe", "recipe=best": "our recipe"}


def result(row, recipe, seed, accuracy, **more):
    overrides = [*ROWS[row]["set"], f"row={row}", f"recipe={recipe}", "scale=cpu", f"seed={seed}"]
    base = {
        "overrides": overrides,
        "row": ROWS[row],
        "words": RECIPES,
        "seed": seed,
        "accuracy": accuracy,
        "published_teacher": 96.95,
    }
    base |= {"teacher_accuracy": 0.98 + seed / 1000, "teacher_accuracy_by_owner": None}
    return {
        **base,
        "source_bytes": 1234,
        "images": 10,
        "phases": {"student": {"seconds": 5.0}},
        "name": "paper_table1",
        **more,
    }


RESULTS = [
    result("labels", "paper", 0, 0.96, source_bytes=0),
    result("all_layers", "paper", 0, 0.80),
    result("all_layers", "best", 0, 0.97),
    result("all_layers", "best", 1, 0.99),
    result("bytes_all_layers", "best", 0, None),
    result("spectral_layer_pairs_1000", "best", 0, 0.95),
]


def published_rows(results):
    return [row.cells for row in rows_of_settings(settings_of(results))]


def test_rows_stand_in_the_sweeps_order_with_mean_deviation_and_difference():
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in published_rows(RESULTS)]
    assert [row["setting"] for row in rows] == [
        TEACHER,
        "student trained on the data; the paper's recipe",
        "all layers; the paper's recipe",
        "all layers; our recipe",
        "all layers: the same bytes of real images; our recipe",
        "spectral, layer pairs, 1,000 records per class; our recipe",
    ]
    assert rows[0]["ours %"] == "98.05 ± 0.07"
    assert (rows[0]["published %"], rows[0]["difference"]) == ("96.95", "+1.10")
    assert (rows[3]["ours %"], rows[3]["difference"], rows[3]["seeds"]) == ("98.00 ± 1.41", "+21.62", "2")
    assert (rows[4]["ours %"], rows[4]["published %"], rows[4]["difference"]) == ("–", "–", "–")
    assert (rows[1]["bytes"], rows[5]["bytes"]) == ("–", "1,234")
    assert rows[5]["published %"] == "91.24"


def test_each_teacher_has_a_line_of_its_own():
    both = [
        {**result("labels", "best", seed, 0.9, teacher=name), "teacher_accuracy": accuracy}
        for seed, (name, accuracy) in enumerate((("mlp", 0.97), ("cnn", 0.99)))
    ]
    rows = [row[:4] for row in published_rows(both) if row[0].startswith(TEACHER)]
    assert rows == [(f"{TEACHER}; mlp", "1", "96.95", "97.00"), (f"{TEACHER}; cnn", "1", "96.95", "99.00")]


def test_nothing_was_published_of_a_run_that_says_otherwise_than_its_row():
    name = "spectral_layer_pairs_1000"
    [replaced] = [text for text in ROWS[name]["set"] if text.startswith("metadata.records_per_class=")]
    own = result(name, "best", 0, 0.95)
    other = {**own, "overrides": ["metadata.records_per_class=10" if t == replaced else t for t in own["overrides"]]}
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in published_rows([own, other])]
    assert [row["published %"] for row in rows[1:]] == ["91.24", "–"]
    assert "10" in rows[2]["setting"]


def test_nothing_was_published_of_other_data_teachers_or_students():
    def figures(*instead):
        found = published_rows([result("labels", "best", 0, 0.95, instead=list(instead))])
        return [row[COLUMNS.index("published %")] for row in found]

    assert figures() == ["96.95", "95.70"]
    assert figures("student=mlp") == ["96.95", "–"]
    assert figures("data.limit=100") == figures("teacher=mlp", "student=mlp") == ["–", "–"]


def test_what_is_not_the_experiments_own_is_said_and_the_scale():
    own, other = (
        result("labels", "best", 0, 0.9),
        result("noise", "best", 0, 0.9, instead=["data=digits", "teacher=mlp"]),
    )
    own["words"] = {"scale=cpu": "an evening's budget"}
    assert notes([own, own, other]) == [
        "All with recipe=best.",
        "scale: cpu (an evening's budget).",
        "data=digits, teacher=mlp: not the experiment's own, for which figures were published.",
    ]
    assert notes([{"overrides": ["scale=null", "seed=0"]}, {"overrides": ["seed=1"]}]) == []


def test_what_was_said_of_all_rows_stands_below_a_table_and_what_is_not_of_its_scale_beside_it():
    said = [
        "experiment=paper/table2",
        "scale=full",
        "recipe=paper",
        "trainer=cpu",
        "reconstruction.steps=2",
        "training.epochs=1",
    ]
    runs = [
        {"overrides": [*said, f"seed={seed}", "metadata.rank=4"], "row": {"set": ["metadata.rank=4"]}}
        for seed in (0, 1)
    ]
    assert notes(runs) == ["All with recipe=paper.", "scale: full, changed: reconstruction.steps=2, training.epochs=1."]
    runs[1]["overrides"].remove("reconstruction.steps=2")  # as of a job that has no use for it
    assert notes(runs)[1] == "scale: full, changed: reconstruction.steps=2, training.epochs=1."
    runs[1]["overrides"].append("reconstruction.steps=9")
    assert notes(runs)[1] == "scale: full, changed: training.epochs=1.", "several values are in the titles"
    runs[0]["overrides"][5] = runs[1]["overrides"][4] = "training.epochs=10"
    assert notes(runs)[1] == "scale: full.", "the scale's own value"


def test_the_three_files_hold_the_same(tmp_path):
    rows = rows_of_settings(settings_of(RESULTS))
    paths = write_tables(tmp_path, rows, ["scale=cpu: 5 %."])
    assert [path.name for path in paths] == ["table.md", "table.csv", "table.tex"]
    markdown, separated, tex = (path.read_text() for path in paths)
    lines = list(csv.DictReader(separated.splitlines()))
    assert [line["setting"] for line in lines] == [row.title for row in rows]
    assert (lines[3]["seeds"], lines[3]["ours %"], lines[3]["bytes"]) == ("2", "98", "1234")
    assert float(lines[3]["ours % deviation"]) == pytest.approx(2**0.5, abs=1e-12)
    assert float(lines[3]["difference"]) == pytest.approx(98 - 76.38, abs=1e-12)
    assert [lines[0][name] for name in ("bytes", "images", "seconds")] == ["", "", ""]
    assert [lines[4][name] for name in ("ours %", "ours % deviation", "difference")] == ["", "", ""]
    assert lines[1]["bytes"] == "0", "nothing was published, which is known"
    assert markdown.endswith("|\n\nscale=cpu: 5 %.\n")
    assert tex.startswith("% \\usepackage{booktabs}\n")
    assert tex.endswith("{\\footnotesize scale=cpu: 5 \\%.} \\\\\n\\end{tabular}\n")
    assert markdown.count("\n") == len(rows) + 2 + 2
    assert r"98.00 $\pm$ 1.41" in tex
    assert r"published \%" in tex
    assert tex.count(r" \\") == len(rows) + 1 + 1


def test_where_nothing_was_published_there_is_no_table():
    assert published_rows([]) == []
    [noise] = [result("noise", "best", 0, 0.1, published_teacher=None)]
    assert published_rows([noise]) == []


def test_a_whole_table_runs_small(dfkd, monkeypatch):
    """One row of each sort, both recipes: the sweep starts by itself and ends in the table's files."""
    ran = dfkd(
        "experiment=paper/table1", "row=labels,spectral_layer_pairs,bytes_all_layers", "seed=0", "data=digits",
        "teacher=mlp", "student=mlp", "scale=smoke", "metadata.storage=fp16",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    [table] = ran.outputs.glob("runs/paper_table1/*/table.md")
    lines = table.read_text().splitlines()
    assert len(lines) == 2 + 1 + 3 * 2 + 3 * 2
    assert all(" | 1 | – | " in line for line in lines[2:9])
    table.unlink()
    monkeypatch.setattr("sys.argv", ["dfkd-report", str(table.parent)])
    report_again()
    assert table.read_text().splitlines() == lines, "dfkd-report writes it anew"
    notes = ["All with metadata.storage=fp16.",
             "scale: smoke (a test; the figures mean nothing).",
             "data=digits, teacher=mlp, student=mlp: not the experiment's own, for which figures were published."]  # fmt: skip
    assert [line for line in lines[9:] if line] == notes
    assert ran.result["row"]["name"] in ("labels", "spectral_layer_pairs", "bytes_all_layers")
    [report] = ran.outputs.glob("runs/paper_table1/*/report.csv")
    assert next(csv.reader(report.read_text().splitlines()))[2:4] == ["accuracy %", "accuracy % deviation"]
    [report] = ran.outputs.glob("runs/paper_table1/*/report.md")
    assert [line.removeprefix("- ") for line in report.read_text().splitlines()[:3]] == notes
    assert "published" not in report.read_text().partition("\n\n")[2]
