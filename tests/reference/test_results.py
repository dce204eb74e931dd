"""docs/results/README.md says which version of the code made which result files."""

import json

from dfkd_exp.reference import results as results_reference


def test_the_page_is_current():
    page = (results_reference.RESULTS / "README.md").read_text()
    assert page == results_reference.results_reference(), "run: python -m dfkd_exp.reference.results"


def test_it_counts_the_versions_of_each_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(results_reference, "RESULTS", tmp_path)
    for page in ("one", "two"):
        (tmp_path / page / "deeper").mkdir(parents=True)
        (tmp_path / page / "README.md").write_text(f"# Page {page}\n\ntext\n")
    results = [{"code_version": version} for version in ("a", "b", "b")]
    (tmp_path / "one" / "results.json").write_text(json.dumps(results))
    (tmp_path / "one" / "deeper" / "single.json").write_text(json.dumps(results[0]))
    assert results_reference.results_reference().endswith(
        "| [Page one](one/README.md) | `one` | 2 by b, 1 by a |\n"
        "| [Page one](one/README.md) | `one/deeper` | 1 by a |\n"
        "| [Page two](two/README.md) | | figures of the commands on the page |\n"
    )
