"""A teacher that somebody else has trained: what it knows stands at once, and a wrong one is told of."""

from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import load_file

from dfkd_exp.errors import DfkdError
from dfkd_exp.phases.claims import Claim, tell_accuracy
from dfkd_exp.phases.owner import check_order


def test_what_a_pretrained_teacher_knows_stands_before_anything_is_made_with_it(dfkd, tmp_path):
    trained = dfkd("pipeline=release", "release=own")
    assert trained.code == 0, trained.err
    weights = load_file(next((tmp_path / "outputs" / "store" / "teacher").glob("*/model.safetensors")))
    torch.save({"net": {f"module.{key}": value for key, value in weights.items()}, "best_acc1": 99.9}, "good.pth")
    torch.save({key: torch.zeros_like(value) for key, value in weights.items()}, "blank.pth")
    for again in range(2):
        good = dfkd("pipeline=release", "release=good", "teacher.checkpoint=good.pth")
        assert good.code == 0, good.err
        assert ("weights: without the prefix module." in good.out) == (not again)
        assert "of the test images are answered rightly; its file says 99.90%" in good.out
        assert "where its file says 99.90%. The usual causes: classes in another order" in " ".join(good.err.split())
    assert good.out.index("answered rightly") < good.out.index("collecting")
    blank = dfkd("pipeline=release", "release=blank", "teacher.checkpoint=blank.pth")
    assert "which is near chance" in " ".join(blank.err.split())
    assert "warning" not in trained.err


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        ([], False),
        (["cat", "dog"], False),
        ([" Cat", "DOG"], False),
        (["n02121808", "n02084071"], False),
        (["Dog", "cat"], True),
    ],
)
def test_classes_that_the_weights_have_in_another_order_are_refused(names, refused):
    with (
        pytest.raises(DfkdError, match=r"Ours has the classes in another order.*Dog, cat, and not cat, dog")
        if refused
        else nullcontext()
    ):
        check_order(names, ["cat", "dog"], "Ours")


@pytest.mark.parametrize(
    ("found", "claim", "said"),
    [
        (0.09, None, "which is below chance (50.00%), as where classes are mistaken for one another"),
        (0.55, None, "which is near chance"),
        (0.80, Claim("its file", 0.9), "where its file says 90.00%"),
        (0.80, Claim("its release", 0.9, num_images=20), ""),
        (0.80, None, ""),
    ],
)
def test_an_accuracy_that_cannot_be_right_is_told_of(found, claim, said, capsys):
    tell_accuracy("a net", found, 2, claim)
    told = " ".join(capsys.readouterr().err.split())
    assert (
        f"a net answers {found:.2%} of the test images rightly, {said}. The usual causes" in told if said else not told
    )
