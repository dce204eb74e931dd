"""The phase that measures what is given away, by the command: its figures, its picture, its two controls, and where it cannot be."""

import json

import jsonschema
import numpy as np
import pytest
import torch

from dfkd_exp.config.groups import PACKAGE
from dfkd_exp.data.images import LabelledImages
from dfkd_exp.errors import DfkdError
from dfkd_exp.evaluation.members import candidates


def test_what_is_given_away_is_in_the_result_and_the_two_controls_are_where_they_should_be(dfkd):
    ran = dfkd("-m", "privacy=true", "source=data,noise")
    assert ran.code == 0, ran.err
    schema = json.loads((PACKAGE / "schemas" / "result-v1.schema.json").read_text())
    data, noise = (result["privacy"]["attacks"]["shown"] for result in ran.results())
    for result in ran.results():
        jsonschema.validate(result, schema)
        assert set(result["privacy"]["attacks"]) == {"teacher", "metadata", "shown", "student"}
        assert result["privacy"]["nearest"]["among"] == 359
    assert data["auc"] > 0.999
    assert data["tpr_at_0.1%"]["rate"] > 0.99
    assert abs(noise["auc"] - 0.5) < 0.1
    assert noise["tpr_at_0.1%"]["rate"] < 0.05
    assert len(list(ran.outputs.glob("runs/digits/*/*/nearest.png"))) == 2
    page = next(ran.outputs.glob("runs/digits/*/report.html")).read_text()
    assert "What is given away" in page
    assert page.count('most like it"') == 2


def test_members_are_the_images_that_what_is_attacked_was_made_from(dfkd):
    """A tenth of the coefficients, and real images, are found exactly, however few of the training images they are of."""
    ran = dfkd(
        "-m", "privacy=true", "metadata=spectral_layer_pairs", "metadata.fraction=0.1", "metadata.records_per_class=5",
        "source=reconstruction,same_bytes",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    reconstructed, real = (result["privacy"]["attacks"] for result in ran.results())
    assert reconstructed["teacher"]["members"] == 1_438
    assert reconstructed["metadata"]["members"] == reconstructed["student"]["members"] == 50
    assert reconstructed["metadata"]["auc"] > 0.999
    assert reconstructed["metadata"]["tpr_at_1%"]["rate"] > 0.95
    assert real["shown"]["members"] == ran.results()[1]["images"] > 50
    assert real["shown"]["auc"] > 0.999


def test_members_that_a_codec_has_changed_are_known(dfkd):
    ran = dfkd("privacy=true", "source=same_bytes", "source.codec=jpeg")
    assert ran.code == 0, ran.err
    attacks = ran.result["privacy"]["attacks"]
    assert attacks["shown"]["members"] == attacks["student"]["members"] == ran.result["images"]
    assert attacks["shown"]["auc"] > 0.99


def test_shadows_are_attacked_too_if_that_is_asked_and_kept_in_the_store(dfkd):
    """Statistics of 90 digits a class, as many numbers, give most of them away to who holds all candidates."""
    asked = "privacy=true", "shadows=6", "shadow_students=true", "metadata=all_layers_diagonal"
    ran = dfkd(*asked)
    assert ran.code == 0, ran.err
    jsonschema.validate(ran.result, json.loads((PACKAGE / "schemas" / "result-v1.schema.json").read_text()))
    attacks = ran.result["privacy"]["attacks"]
    assert attacks["metadata_shadows"]["auc_low"] > 0.8
    assert (attacks["metadata_shadows"]["members"], attacks["metadata_shadows"]["others"]) == (898, 899)
    assert 0.4 < attacks["student_shadows"]["auc"] < 0.6
    assert "shadow 6 of 6" in ran.out
    taken = 0.0
    for phase in ("metadata", "reconstruction", "student"):
        made = [json.loads(path.read_text()) for path in (ran.outputs / "store" / phase).glob("*/manifest.json")]
        others = [one["seconds"] for one in made if one["key"] != ran.result["phases"][phase]["artifact"]]
        assert len(others) == 6
        taken += sum(others)
    assert ran.result["phases"]["shadows"]["seconds"] > taken, "what they took is a part of what the run took"
    again = dfkd(*asked)
    assert again.result["privacy"] == ran.result["privacy"]
    assert all(phase["reused"] for phase in again.result["phases"].values())
    owner = dfkd("pipeline=release", "shadows=6", "metadata=all_layers_diagonal")
    assert owner.code == 0, owner.err
    assert (
        f"metadata of half of the images: area under the attack's curve {attacks['metadata_shadows']['auc']:.3f}"
        in owner.out
    )
    more = dfkd(*asked[:2], asked[3], "metadata.temperature=4")
    assert set(more.result["privacy"]["attacks"]) == {"teacher", "metadata", "shown", "student", "metadata_shadows"}


def test_a_student_that_knows_its_images_by_heart_is_found_by_its_shadows_of_which_a_search_hears_nothing(
    dfkd, monkeypatch
):
    asked = "data.limit=200", "metadata=channels", "source=data", "distillation=labels", "distillation.epochs=40"
    assert dfkd(*asked).code == 0
    monkeypatch.setenv("DFKD_TRIAL", "of/no/study.journal:0")
    ran = dfkd(*asked, "privacy=true", "shadows=6", "shadow_students=true")
    assert ran.code == 0, ran.err
    assert ran.result["privacy"]["attacks"]["student_shadows"]["auc_low"] > 0.5


def test_shadows_of_a_class_with_a_single_image_are_refused_before_anything_is_computed(dfkd, tmp_path):
    labels = np.arange(41) % 4
    labels[40] = 4
    images = np.random.default_rng(0).integers(0, 255, (41, 8, 8), np.uint8)
    np.savez(tmp_path / "own.npz", x_train=images, y_train=labels, x_test=images[:40], y_test=labels[:40])
    ran = dfkd("data=arrays", f"data.path={tmp_path / 'own.npz'}", "privacy=true", "shadows=6")
    assert ran.code == 1
    assert "shadows is for two images of each class" in ran.err
    assert not list(ran.outputs.glob("store/*/*/manifest.json"))


def test_the_classes_of_members_and_others_have_the_same_shares():
    def part(*counts):
        labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
        return LabelledImages(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels)

    members, others = candidates(part(100, 200, 0), part(30, 50, 70), torch.Generator())
    assert members.labels.bincount().tolist() == [100, 200]
    assert others.labels.bincount().tolist() == [25, 50]
    members, others = candidates(part(10, 10), part(0, 4, 5), torch.Generator())
    assert (members.labels.bincount().tolist(), others.labels.bincount().tolist()) == ([0, 10], [0, 4])
    with pytest.raises(DfkdError, match="none of both"):
        candidates(part(10), part(0, 4), torch.Generator())


def test_of_images_that_are_made_while_the_student_learns_some_are_attacked(dfkd):
    """As many as an epoch shows, of however many there could be."""
    flags = "method=dfad", "source.images=100", "source.batch_size=50", "distillation.epochs=1", "privacy=true"
    ran = dfkd(*flags)
    assert ran.code == 0, ran.err
    assert ran.result["privacy"]["attacks"].keys() == {"teacher", "metadata", "shown", "student"}


def test_it_is_not_measured_unless_it_is_asked_for(dfkd):
    ran = dfkd()
    assert ran.result["privacy"] is None
    assert not list(ran.outputs.glob("runs/digits/*/nearest.png"))


def test_where_it_cannot_be_measured_it_is_refused(dfkd, release_folder):
    ran = dfkd("privacy=true", "pipeline=from_release", f"release={release_folder}", "data=none")
    assert ran.code == 2
    assert "privacy=true compares with the training images" in ran.err
    ran = dfkd("privacy=true", "pipeline=release")
    assert ran.code == 2
    assert "no effect with pipeline=release" in ran.err
