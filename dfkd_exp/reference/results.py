"""docs/results/README.md, made from the result files beside it: ``python -m dfkd_exp.reference.results`` writes it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from dfkd_exp.config.groups import CONF

RESULTS = CONF.parent / "docs" / "results"
HEADER = """# Results

Made from the result files by `python -m dfkd_exp.reference.results`; do not edit it by hand. Which version of the code made how many
of a page's result files: between figures of two versions the code may have changed, which `git log A..B -- dfkd_exp` tells. `+changes` says
that files differed from the commit.

| page | folder | results, by the version that made them |
|---|---|---|
"""


def results_reference() -> str:
    """The page, as Markdown."""
    lines = []
    for page in sorted(RESULTS.glob("*/README.md")):
        title = page.read_text("utf-8").splitlines()[0].removeprefix("# ")
        made = {
            folder: _versions(folder) for folder in [page.parent, *sorted(filter(Path.is_dir, page.parent.rglob("*")))]
        }
        for folder, versions in made.items():
            if versions:
                said = ", ".join(f"{count} by {version}" for version, count in versions.most_common())
                lines.append(f"| [{title}]({page.parent.name}/README.md) | `{folder.relative_to(RESULTS)}` | {said} |")
        if not any(made.values()):
            lines.append(f"| [{title}]({page.parent.name}/README.md) | | figures of the commands on the page |")
    return HEADER + "\n".join(lines) + "\n"


def _versions(folder: Path) -> Counter[str]:
    """How many of the results in a folder's files, in those below it not, each version has made."""
    found: Counter[str] = Counter()
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text("utf-8"))
        found.update(result["code_version"] for result in (content if isinstance(content, list) else [content]))
    return found


if __name__ == "__main__":
    target = RESULTS / "README.md"
    target.write_text(results_reference(), "utf-8")
    print(f"wrote {target}")
