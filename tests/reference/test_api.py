"""docs/api.md is what the docstrings say."""

from pathlib import Path

from dfkd_exp.config import groups as config
from dfkd_exp.data.base import Data
from dfkd_exp.reference.api import api_reference, contracts

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_page_is_current():
    assert PAGE.read_text() == api_reference(), "run: python -m dfkd_exp.reference.api"


def test_a_contract_is_what_all_kinds_of_a_group_derive_from():
    bases = contracts()
    assert bases[Data] == "Data (data)"
    for group in config.groups():
        kinds = {*config.kinds(group).values()}
        if len(kinds) > 1:
            assert any(
                group in title and all(issubclass(kind, base) for kind in kinds) for base, title in bases.items()
            )


def test_it_says_what_must_be_implemented_and_what_it_gives():
    page = PAGE.read_text()
    contract = page[page.index("### Data (data)") :]
    assert "* `read() -> ImageData`\n\n  **To implement.** Read the images" in contract
    assert "### ImageData\n" in contract
    assert "`fingerprint() -> dict[str, Any]`\n\n  What identifies" in contract
