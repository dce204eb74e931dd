"""Fixed-seed loss curves: a change that moves them is a change of the method, and says so."""

import pytest

from dfkd_exp.metadata import AllLayers, TopLayer
from dfkd_exp.reconstruction.loop import reconstruct
from tests.toy import INPUTS, toy_images, toy_teacher

CURVES = {
    ("AllLayers", "moments"): [58.3, 8.708, 5.376],
    ("AllLayers", "sample"): [0.06285, 0.005772, 0.003728],
    ("TopLayer", "moments"): [26.86, 1.897, 0.4093],
    ("TopLayer", "sample"): [2.247e-05, 1.462e-06, 9.484e-07],
}


@pytest.mark.parametrize(("kind", "match"), CURVES)
def test_the_loss_falls_as_it_did(kind, match):
    teacher = toy_teacher(seed=4)
    chosen = {"AllLayers": AllLayers, "TopLayer": TopLayer}[kind](covariance="full")
    metadata = chosen.collect(teacher, [toy_images()], INPUTS)
    losses = reconstruct(teacher, metadata, 8, match, steps=20).losses.mean(1)
    assert losses[::5].tolist() == pytest.approx(CURVES[kind, match], rel=1e-2)
