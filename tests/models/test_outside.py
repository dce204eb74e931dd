"""A source of networks is one file: a kind from outside the package, through a whole run and through a release."""

import json

import pytest

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.ours import Ours
from dfkd_exp.release.folder import read_release
from dfkd_exp.settings import under_flag
from tests.models.outside import Tiny

TINY = "tests.models.outside.Tiny"


@pytest.fixture(autouse=True)
def downloads():
    Tiny.downloads.clear()
    return Tiny.downloads


def test_it_is_teacher_and_student_of_a_whole_run(dfkd):
    ran = dfkd(f"teacher={TINY}", "teacher.width=6", f"student={TINY}", "student.width=3")
    assert ran.code == 0, ran.err
    assert ran.result["teacher"] == ran.result["student"] == "Tiny"
    assert ran.result["teacher_parameters"] == 65 * 6 + 7 * 10
    assert ran.result["student_parameters"] == 65 * 3 + 4 * 10
    assert "teacher: training Tiny" in ran.out


def test_a_release_of_it_says_what_it_is_and_its_receiver_names_it(dfkd, tmp_path, downloads):
    folder = tmp_path / "published"
    ran = dfkd("pipeline=release", f"release={folder}", f"teacher={TINY}", "teacher.width=5", "teacher.published=true")
    assert ran.code == 0, ran.err
    assert f"release={folder} teacher={TINY} student=" in ran.out
    assert f"`teacher={TINY}` names it" in (folder / "README.md").read_text()
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == {"kind": TINY, "name": "Tiny", "kwargs": {"width": 5}}
    assert (config["inputs"]["low"], config["inputs"]["high"]) == ([-1.0], [1.0])

    receiver = ("pipeline=from_release", f"release={folder}", "student=mlp")
    refused = dfkd(*receiver)
    assert refused.code == 1
    assert f"none of the project's networks but Tiny ({TINY}), whose code does not travel" in refused.err
    downloads.clear()
    ran = dfkd(*receiver, f"teacher={TINY}", "teacher.published=true")
    assert ran.code == 0, ran.err
    assert ran.result["teacher_parameters"] == 65 * 5 + 6 * 10, "the width is the release's"
    assert downloads == [], "and so are the weights"
    with pytest.raises(DfkdError, match="does not fit Tiny: it has other shapes for"):
        read_release(folder, Tiny(width=4)).teacher()


def test_pretrained_is_not_having_a_checkpoint(dfkd, downloads):
    command = ("pipeline=release", f"teacher={TINY}", "teacher.published=true")
    ran = dfkd(*command)
    assert ran.code == 0, ran.err
    assert "teacher: loading Tiny" in ran.out
    assert downloads == ["Tiny"], "once, for the phase that is about it"
    again = dfkd(*command, "seed=1", "training.epochs=3")
    assert again.out.count("reused from the store") == 3, "neither the seed nor the training has a say in it"


def test_its_inputs_decide_what_the_metadata_is_of(dfkd):
    """Two teachers may have the same weights for other inputs."""
    ran = dfkd("pipeline=release", f"teacher={TINY}", "teacher.published=true", "teacher.width=128")
    [checkpoint] = ran.outputs.glob("store/teacher/*/model.safetensors")
    same = ("teacher=custom", "teacher.target=tests.models.test_outside.same", f"teacher.checkpoint={checkpoint}")
    assert dfkd("pipeline=release", *same).code == 0
    weights, metadata = (
        {path.read_bytes() for path in ran.outputs.glob(f"store/{name}.safetensors")}
        for name in ("teacher/*/model", "metadata/*/metadata")
    )
    assert (len(weights), len(metadata)) == (1, 2)


def same():
    from dfkd_exp.models.networks import Mlp

    return Mlp((1, 8, 8), 10, (128,))


def test_images_of_another_shape_than_it_wants_are_refused(dfkd):
    ran = dfkd("teacher=tests.models.outside.Large")
    assert ran.code == 1
    assert (
        "Large wants images of shape [1, 999, 999], the data's are of shape [1, 8, 8]; choose data that can be so"
        in ran.err
    )
    assert ran.err.rstrip().endswith("data=image_folder data.path=FOLDER data.size=999")


@pytest.mark.parametrize("flag", ["teacher", "student"])
def test_its_mistakes_name_the_flag(dfkd, flag):
    ran = dfkd(f"{flag}={TINY}", f"{flag}.width=0")
    assert ran.code == 2
    assert f"{flag}.width must be at least 1, got 0" in ran.err


def test_its_identity_is_its_own():
    kinds = [Tiny(), Tiny(width=3), Ours(name="mlp"), Ours(name="cnn")]
    identities = [json.dumps(kind.identity(), sort_keys=True) for kind in kinds]
    assert len(set(identities)) == 4
    assert json.loads(identities[0])["kind"] == TINY, "two packages may have a class of the same name"


def test_what_the_receiver_says_wins_over_the_release():
    said = {"kind": TINY, "name": "Tiny", "kwargs": {"width": 5, "checkpoint": "/etc/passwd", "published": True}}
    with under_flag("teacher"):
        settings = Tiny()
    completed = settings.completed(said)
    assert completed == Tiny(width=5), "and of the weights the release says nothing"
    assert completed.flag == "teacher"
    assert Tiny(width=6).completed(said) == Tiny(width=6)
    with pytest.raises(DfkdError, match=r"arguments \{'width': 'wide'\} of the release's teacher do not fit Tiny"):
        Tiny().completed({**said, "kwargs": {"width": "wide"}})
    assert Tiny(width=6).completed({"kind": "another", "name": "Net", "kwargs": {"width": 3}}) == Tiny(width=6)
