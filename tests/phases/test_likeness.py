"""The phase that compares images with the training images, by the command: its figures, its picture, and where it cannot be."""

import json

import jsonschema

from dfkd_exp.config.groups import PACKAGE


def test_training_images_vary_as_themselves_and_noise_does_not(dfkd):
    ran = dfkd("-m", "likeness=true", "source=data,noise", "teacher=cnn", "student=cnn")
    assert ran.code == 0, ran.err
    schema = json.loads((PACKAGE / "schemas" / "result-v1.schema.json").read_text())
    data, noise = ran.results()
    for result in (data, noise):
        jsonschema.validate(result, schema)
        assert all(layer["between"] > 0 for layer in result["likeness"])
    assert all(
        abs(layer[name] - 1) < 0.25 for layer in data["likeness"] for name in layer if isinstance(layer[name], float)
    )
    assert max(abs(layer["between"] - 1) for layer in noise["likeness"]) > 0.3
    assert len(list(ran.outputs.glob("runs/digits/*/*/likeness.png"))) == 2
    assert "from image to image, that of real images being 1" in ran.out


def test_of_images_that_follow_the_student_it_is_measured_too(dfkd):
    ran = dfkd(
        "likeness=true", "source=synthesis", "parametrisation=generator", "terms=[label]", "metadata=none",
        "source.images=64", "source.steps=2", "parametrisation.width=4", "teacher=cnn", "student=cnn",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.result["likeness"]


def test_it_is_not_measured_unless_it_is_asked_for(dfkd):
    ran = dfkd()
    assert ran.result["likeness"] is None
    assert not list(ran.outputs.glob("runs/digits/*/likeness.png"))


def test_where_it_cannot_be_measured_it_is_refused(dfkd, release_folder):
    ran = dfkd("likeness=true", "pipeline=from_release", f"release={release_folder}", "data=none")
    assert ran.code == 2
    assert "likeness=true compares with the training images" in ran.err
    ran = dfkd("likeness=true", "pipeline=release")
    assert ran.code == 2
    assert "no effect with pipeline=release" in ran.err
