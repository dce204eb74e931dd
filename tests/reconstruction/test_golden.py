"""Fixed-seed loss curves: a change that moves them is a change of the method, and says so."""

import pytest

from dfkd_exp.metadata import AllLayers, TopLayer
from dfkd_exp.reconstruction.loop import reconstruct
from tests.toy import INPUTS, toy_images, toy_teacher

CURVES = {
    ("AllLayers", "moments"): [60.66, 6.647, 4.645],
    ("AllLayers", "sample"): [0.02636, 0.001802, 0.001132],
    ("TopLayer", "moments"): [25.05, 1.428, 0.3984],
    ("TopLayer", "sample"): [1.515e-07, 1.515e-07, 1.515e-07],
}


@pytest.mark.parametrize(("kind", "match"), CURVES)
def test_the_loss_falls_as_it_did(kind, match):
    teacher = toy_teacher()
    chosen = {"AllLayers": AllLayers, "TopLayer": TopLayer}[kind](covariance="full")
    metadata = chosen.collect(teacher, [toy_images()], INPUTS)
    losses = reconstruct(teacher, metadata, 8, match, steps=20).losses.mean(1)
    assert losses[::5].tolist() == pytest.approx(CURVES[kind, match], rel=1e-2)
