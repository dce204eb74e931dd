"""Many classes, or few images of one: what is said beforehand, and what the card says."""

import json
import re

import pytest

from dfkd_exp import AllLayers
from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata import memory as room
from dfkd_exp.metadata.card import images_behind, images_per_class, warning_of_few
from dfkd_exp.metadata.channels import Channels
from dfkd_exp.metadata.composed import Composed
from dfkd_exp.metadata.spatial import Spatial
from dfkd_exp.metadata.spectral import SpectralLayerPairs
from tests.toy import INPUTS, toy_images, toy_teacher

GIGABYTE = 10**9


def memory(kind, num_classes, capsys, monkeypatch):
    """Gigabytes that are said to be needed; 0 if nothing is said."""
    monkeypatch.setattr(room, "WARN_FROM", 1)
    monkeypatch.setattr(room, "machine_memory", lambda: None)
    kind.check_memory(kind.recorded(toy_teacher(), INPUTS.example()), num_classes)
    said = re.search(r"take about ([\d.]+) GB", capsys.readouterr().out)
    return float(said[1]) if said else 0.0


def test_memory_grows_with_classes_and_with_what_is_kept(capsys, monkeypatch):
    diagonal, many = 100_000, 1_000_000

    def of(kind, num_classes=many):
        return memory(kind, num_classes, capsys, monkeypatch)

    units = 64 + 8 + 3
    assert of(AllLayers(covariance="diagonal"), diagonal) == pytest.approx(56 * units * diagonal / GIGABYTE, abs=0.06)
    assert of(AllLayers(covariance="diagonal")) == pytest.approx(
        10 * of(AllLayers(covariance="diagonal"), diagonal), rel=0.2
    )
    assert of(AllLayers(covariance="full")) > of(Spatial()) > of(AllLayers(covariance="diagonal"))
    assert of(Channels(covariance="diagonal")) < of(AllLayers(covariance="diagonal"))
    assert of(Composed(basis="channels", covariance="diagonal")) == of(Channels(covariance="diagonal"))
    assert of(Composed(basis="layer_pairs", covariance="diagonal")) > of(AllLayers(covariance="diagonal"))
    assert of(Composed(summary="records", basis="units", records_per_class=10)) == pytest.approx(
        8 * units * 10 * many / GIGABYTE, abs=0.06
    )
    twice = 8  # units of a layer that is in two pairs
    assert of(SpectralLayerPairs(records_per_class=10)) == pytest.approx(
        8 * (units + twice) * 10 * many / GIGABYTE, abs=0.06
    )


def test_more_than_the_machine_has_is_refused_before_anything_is_trained(dfkd, monkeypatch):
    monkeypatch.setattr(room, "WARN_FROM", 1)
    monkeypatch.setattr(room, "machine_memory", lambda: 1000)
    ran = dfkd("pipeline=release", "release=made")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert re.search(
        r"statistics of 10 classes in \d layers take about .* GB .* this machine has 0.0 GB; metadata=channels", ran.err
    )
    assert not list(ran.outputs.glob("store/*/*/manifest.json"))


def unequal(*counts):
    pixels, labels = toy_images()
    kept = [
        index for label, count in enumerate(counts) for index in (labels == label).nonzero().squeeze(1)[:count].tolist()
    ]
    return AllLayers().collect(toy_teacher(), [(pixels[kept], labels[kept])], INPUTS)


def test_the_card_says_how_images_are_spread_over_classes():
    names = ["cat", "`dog`", "emu"]
    metadata = unequal(20, 3, 40)
    assert images_behind(metadata, names) == "63 (3 in the smallest class, `dog`; 40 in the largest class, emu)"
    section = images_per_class(metadata, names)
    assert "1 classes have fewer than 10 images" in section
    assert json.loads(re.search(r"```json\n(.*)\n```", section)[1]) == {"cat": 20, "`dog`": 3, "emu": 40}
    assert section.count("`") == 6
    assert images_behind(unequal(9, 9, 9), names) == "27 (9 in each class)"
    assert images_per_class(unequal(9, 9, 9), names) == ""


def test_classes_of_few_images_are_warned_of(dfkd):
    assert warning_of_few([10, 11], ["a", "b"]) == ""
    assert warning_of_few([10, 2, 9], ["a", "b", "c"]).startswith(
        "2 of 3 classes have fewer than 10 training images, b only 2:"
    )
    ran = dfkd("pipeline=release", "release=made", "data.limit=40")
    assert ran.code == 0
    assert "warning: 10 of 10 classes have fewer than 10 training images, 0 only 4" in ran.err


def test_a_machine_without_a_number_refuses_nothing(monkeypatch):
    monkeypatch.setattr(room, "WARN_FROM", 1)
    monkeypatch.setattr(room, "machine_memory", lambda: 10**15)
    AllLayers().check_memory(AllLayers().recorded(toy_teacher(), INPUTS.example()), 3)
    monkeypatch.setattr(room, "machine_memory", lambda: 10)
    with pytest.raises(DfkdError, match="this machine has"):
        AllLayers().check_memory(AllLayers().recorded(toy_teacher(), INPUTS.example()), 3)
