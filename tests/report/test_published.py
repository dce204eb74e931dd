"""The paper's tables are laid out from result files alone, and every row that a table sweeps is known to it."""

import csv
from types import SimpleNamespace

import pytest
from dfkd_exp.report.paper import COLUMNS, PAPER, TITLES, paper_rows, write_tables
from omegaconf import OmegaConf

from dfkd_exp.config import CONF, choices


def result(row, recipe, seed, accuracy, **more):
    overrides = [f"row={row}", f"recipe={recipe}", "scale=cpu", f"seed={seed}"]
    base = {"overrides": overrides, "seed": seed, "accuracy": accuracy, "teacher_accuracy": 0.98 + seed / 1000}
    return {**base, "teacher_accuracy_by_owner": None, "source_bytes": 1234, "images": 10, "seconds": 5.0, **more}


RESULTS = [
    result("spectral_layer_pairs", "best", 0, 0.95),
    result("all_layers", "best", 0, 0.97),
    result("all_layers", "best", 1, 0.99),
    result("all_layers", "paper", 0, 0.80),
    result("bytes_all_layers", "best", 0, None),
    result("labels", "paper", 0, 0.96, source_bytes=0),
]


def cells(row):
    return dict(zip(COLUMNS, row.cells, strict=True))


def test_rows_stand_in_the_papers_order_with_mean_deviation_and_difference():
    rows = [cells(row) for row in paper_rows(RESULTS, "table1")]
    titles = [(row["row"], row["recipe"]) for row in rows]
    assert titles == [
        (TITLES["teacher"], ""),
        (TITLES["labels"], "paper"),
        (TITLES["all_layers"], "paper"),
        (TITLES["all_layers"], "best"),
        ("the same bytes of real images: all layers", "best"),
        (TITLES["spectral_layer_pairs"], "best"),
    ]
    assert rows[0]["ours %"] == "98.05 ± 0.07"
    assert (rows[0]["paper %"], rows[0]["difference"]) == ("96.95", "+1.10")
    assert (rows[3]["ours %"], rows[3]["difference"], rows[3]["seeds"]) == ("98.00 ± 1.41", "+21.62", "2")
    assert (rows[4]["ours %"], rows[4]["paper %"], rows[4]["difference"]) == ("–", "–", "–")
    assert (rows[1]["bytes"], rows[5]["bytes"]) == ("–", "1,234")


def test_rows_of_more_records_stand_beside_the_papers_figure_too():
    for table, published in (("table1", "91.24"), ("table2", "92.47")):
        (row,) = [cells(row) for row in paper_rows([result("spectral_layer_pairs_1000", "paper", 0, 0.9)], table)][1:]
        assert (row["row"], row["paper %"]) == (TITLES["spectral_layer_pairs_1000"], published)


def test_the_three_files_hold_the_same(tmp_path):
    rows = paper_rows(RESULTS, "table1")
    paths = write_tables(tmp_path, rows)
    assert [path.name for path in paths] == ["table.md", "table.csv", "table.tex"]
    markdown, separated, tex = (path.read_text() for path in paths)
    assert list(csv.reader(separated.splitlines())) == [list(COLUMNS), *(list(row.cells) for row in rows)]
    assert markdown.count("\n") == len(rows) + 2
    assert r"98.00 $\pm$ 1.41" in tex
    assert r"paper \%" in tex
    assert tex.count(r" \\") == len(rows) + 1


def test_no_results_make_no_rows():
    assert paper_rows([], "table2") == []


@pytest.mark.parametrize("table", PAPER)
def test_a_table_sweeps_rows_that_there_are_and_all_of_the_papers(table):
    params = OmegaConf.load(CONF / "experiment" / "paper" / f"{table}.yaml").hydra.sweeper.params
    rows = params.row.split(",")
    assert set(rows) <= set(choices("row"))
    assert set(PAPER[table]) - {"teacher"} <= set(rows)
    assert {row.removeprefix("bytes_") for row in rows} <= set(TITLES)
    assert params.recipe == "paper,best"


def test_a_whole_table_runs_small(dfkd):
    """One row of each sort, both recipes: the sweep starts by itself and ends in the table's files."""
    ran = dfkd(
        "experiment=paper/table1", "row=labels,spectral_layer_pairs,bytes_all_layers", "seed=0", "data=digits",
        "teacher=mlp", "student=mlp", "scale=smoke", "metadata.storage=fp16",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    [table] = ran.outputs.glob("runs/paper_table1/*/table.md")
    assert len(table.read_text().splitlines()) == 2 + 1 + 3 * 2
    assert "91.24" in table.read_text()
    assert SimpleNamespace(**ran.result).metadata in ("AllLayers", "SpectralLayerPairs")
