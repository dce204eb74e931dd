"""Flags that decide nothing are refused, or left out of the jobs of a sweep that have no use for them."""

from dataclasses import fields

import pytest

from dfkd_exp.config.effect import effective, without_effect
from dfkd_exp.config.groups import kinds
from dfkd_exp.config.tree import Config
from dfkd_exp.distillation.source import FromData, FromNoise, FromReconstruction
from dfkd_exp.distillation.synthesis import Synthesis
from dfkd_exp.errors import ConfigError
from dfkd_exp.metadata import SpectralLayerPairs, TopLayer
from dfkd_exp.reconstruction.moments import Moments
from dfkd_exp.reconstruction.sample import Sample
from tests.test_rows import composed

COUNT = "reconstruction.images_per_class=20"


@pytest.mark.parametrize("source", kinds("source").values())
def test_what_a_source_does_not_read_is_there(source):
    known = {f.name for f in fields(Config)} | {f"reconstruction.{f.name}" for f in fields(Moments)}
    for balance in ("equal", "shares"):
        assert {*source.unread, *source().reads(balance)} <= known


@pytest.mark.parametrize(
    ("source", "balance", "said", "idle"),
    [
        (FromNoise(), "equal", [COUNT, "seed=1", "optimizer=lbfgs", "+terms@terms.ink=a.Ink"], ["optimizer", "terms.ink"]),
        (FromNoise(images=9), "equal", [COUNT], ["reconstruction.images_per_class"]),
        (FromData(), "equal", [COUNT, "~terms.label"], ["reconstruction.images_per_class", "terms.label"]),
        (FromData(images=90), "equal", [COUNT, "reconstruction=sample"], ["reconstruction"]),
        (Synthesis(), "equal", [COUNT, "optimizer.lr=1", "reconstruction.shift=1"], ["reconstruction.images_per_class"]),
        (Synthesis(), "shares", [COUNT], []),
    ],
)  # fmt: skip
def test_what_a_source_has_no_use_for(source, balance, said, idle):
    found = without_effect(said, source, Moments(balance=balance), TopLayer(), {"method": "default"})
    assert [why.partition(" ")[0] for why in found.values()] == idle


def compose(job):
    return composed(*job)


def test_one_image_for_all_pairs_of_layers_needs_records_of_pairs():
    said = ["reconstruction.one_image=true"]
    for kind, idle in ((TopLayer(), said), (SpectralLayerPairs(), []), (None, [])):
        assert [*without_effect(said, FromReconstruction(), Sample(), kind, {"method": "default"})] == idle
    job, rest = ["recipe=paper", *said], ["metadata=top_layer"]
    assert effective([[*job, *rest], [*job, "metadata=spectral_layer_pairs"]], {"metadata"}, (), compose)[0] == [
        "recipe=paper",
        *rest,
    ]


def test_a_flag_for_one_of_several_sources_is_left_out_of_the_others_jobs():
    grid = [[f"source={name}", f"reconstruction.steps={n}"] for name in ("reconstruction", "noise") for n in (5, 9)]
    jobs = effective(grid, {"source", "reconstruction.steps"}, (), compose)
    assert jobs == [*grid[:2], ["source=noise"], ["source=noise"]]
    with pytest.raises(ConfigError, match=r"reconstruction\.steps has no effect with source=noise; leave it out"):
        effective(grid[2:], {"source", "reconstruction.steps"}, (), compose)


def test_what_an_experiment_or_a_row_says_is_not_refused():
    job = ["source=noise", "optimizer.lr=0.1", "reconstruction.steps=5"]
    assert effective([job], {"source"}, {"optimizer.lr=0.1"}, compose) == [job[:2]]


def test_a_method_may_have_a_protocol_that_others_do_not():
    grid = [[f"method={name}", f"protocol={how}"] for name in ("default", "dafl") for how in ("equal", "own")]
    assert effective(grid, {"method", "protocol"}, (), compose) == [grid[0], ["method=default"], *grid[2:]]


def test_a_job_that_is_wrong_is_left_to_whoever_runs_it():
    job = ["source=nope", "optimizer.lr=0.1"]
    assert effective([job], {"optimizer.lr"}, (), compose) == [job]


def test_a_sweep_of_sources_takes_what_is_for_one_of_them(dfkd):
    ran = dfkd("-m", "source=data,noise", "reconstruction.images_per_class=20,40", "reconstruction.group_size=20")
    assert ran.code == 0, ran.err
    said = [[text for text in result["overrides"] if text.startswith("reco")] for result in ran.results()]
    assert [len(texts) for texts in said] == [0, 2, 2]
    ran = dfkd("-m", "source=data,noise", "reconstruction.steps=5,9")
    assert ran.code == 2
    assert "reconstruction.steps has no effect" in ran.err
    assert len(ran.results()) == 3
