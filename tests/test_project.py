"""What stands around the code: how it is cited, and what a public runner does with it."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_it_is_cited_by_the_name_version_and_licence_it_has():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["title"], cited["version"], cited["license"]) == tuple(
        PROJECT[name] for name in ("name", "version", "license")
    )
    assert cited["authors"] == [{"name": "the dfkd_exp authors"}]


def test_a_public_runner_checks_what_is_checked_before_a_change_lands():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["env"] == {"PIP_EXTRA_INDEX_URL": "https://download.pytorch.org/whl/cpu"}
    steps = {name: [step.get("run") for step in job["steps"]] for name, job in workflow["jobs"].items()}
    assert ".ci/run" in steps["check"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    assert any("pytest -m slow" in (step or "") for step in steps["slow"])
    needed = PROJECT["requires-python"].removeprefix(">=")
    for job in workflow["jobs"].values():
        assert [s["with"]["python-version"] for s in job["steps"] if "setup-python" in s.get("uses", "")] == [needed]
