"""Fixed-seed loss curves of every kind of metadata and both matches: a change that moves them is a change of the method, and says so."""

import json
from pathlib import Path

import pytest

from dfkd_exp.config.groups import kinds
from dfkd_exp.reconstruction.engine.settings import PLAIN
from dfkd_exp.reconstruction.loop import reconstruct
from tests.toy import INPUTS, dropout_teacher, normalised_teacher, toy_images, toy_teacher

CURVES = json.loads(Path(__file__).with_name("golden.json").read_text())
"""By kind, but those that are nothing or another, and match: the mean loss at steps 0, 6, 12 and the last of 20.
``python -m tests.reconstruction.test_golden`` writes it."""
TEACHERS = {"batch_norm": normalised_teacher, "all_layers_dropout": dropout_teacher}
NAMES = [
    f"{kind}, {match}" for kind in kinds("metadata") if kind not in ("none", "auto") for match in ("moments", "sample")
]


def curve(name: str) -> list[float]:
    kind, match = name.split(", ")
    teacher = TEACHERS.get(kind, toy_teacher)(4)
    metadata = kinds("metadata")[kind]().collect(teacher, [toy_images()], INPUTS)
    losses = reconstruct(teacher, metadata, 8, match, steps=20, group_size=8, engine=PLAIN).losses.mean(1)
    return losses[[0, 3, 6, -1]].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls_as_it_did(name):
    assert curve(name) == pytest.approx(CURVES[name], rel=1e-2)


if __name__ == "__main__":
    Path(__file__).with_name("golden.json").write_text(
        json.dumps({name: curve(name) for name in NAMES}, indent=2) + "\n"
    )
