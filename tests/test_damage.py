"""A campaign of structured damages: none is accepted where it cannot be meant, none ends in another error than one line."""

import pytest

from tests.damage import KINDS, Content, damages, outcome, whole_release


def wrong(folder, content, chosen):
    """What came of those damages that should have come to something else."""
    found = []
    for damage in chosen:
        damage.write(folder)
        came = outcome(folder)
        if came != "refused" and not (damage.possible and came == "accepted"):
            found.append(f"{damage.title}: {came}")
    content.write(folder)
    assert outcome(folder) == "accepted", "the damages alone are what is refused"
    return found


def test_some_damages_of_every_sort_are_refused_in_one_line(tmp_path):
    content = Content(whole_release(tmp_path / "whole", "all layers"))
    assert wrong(tmp_path / "copy", content, damages(content)[::43]) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_all_damages_are_refused_in_one_line(tmp_path, kind):
    content = Content(whole_release(tmp_path / "whole", kind))
    assert wrong(tmp_path / "copy", content, damages(content)) == []
