"""Image classifiers of transformers: folders that save_pretrained wrote, types, and what a release says of either."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.from_hub import Hub
from dfkd_exp.settings import under_flag

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers")
CONFIG = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "patch_size": 4}
NAMES = ["Zero", "one", "Two"]
INPUTS = InputSpec.normalised((1, 8, 8), [], [])


def hub(model="vit", flag="teacher", **settings) -> Hub:
    with under_flag(flag):
        return Hub(model=model, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network of three classes and images of 8x8 pixels, as the library writes it; nothing but its own is asked of the Hub."""
    network = hub(config=CONFIG).build(INPUTS, 3, seed=3)
    network.config.id2label = dict(enumerate(NAMES))
    place = tmp_path_factory.mktemp("hub") / "tiny-vit"
    network.save_pretrained(place)
    processor = {"image_mean": [0.25], "image_std": [0.5], "size": {"height": 8, "width": 8}}
    (place / "preprocessor_config.json").write_text(json.dumps(processor))
    return place


@pytest.fixture
def copied(folder, tmp_path):
    """``copied(hidden_act="relu")``: the folder with another config."""

    def copy(**config):
        shutil.copytree(folder, tmp_path / "copy")
        path = tmp_path / "copy" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
        return str(tmp_path / "copy")

    return copy


def test_a_folder_is_loaded_as_its_author_meant_it(folder):
    settings = hub(str(folder), pretrained=True)
    inputs = settings.wanted_inputs(INPUTS)
    assert inputs == InputSpec.normalised((1, 8, 8), [0.25], [0.5])
    assert settings.class_names(inputs) == NAMES
    images = torch.rand(2, 1, 8, 8)
    expected = hub(config=CONFIG).build(INPUTS, 3, seed=3).eval()(images)
    assert torch.equal(settings.build(inputs, 3, seed=0).eval()(images), expected)
    assert settings.title == "tiny-vit"


def test_fresh_weights_take_the_datas_images_and_classes(folder):
    given = InputSpec.normalised((3, 12, 8), [], [])
    for settings in (hub(str(folder)), hub(config=CONFIG)):
        assert settings.wanted_inputs(given) == given
        assert settings.build(given, 5, seed=0)(torch.zeros(2, 3, 12, 8)).shape == (2, 5)


def test_images_of_another_size_are_taken_only_where_no_weight_depends_on_it(folder, tmp_path):
    given = InputSpec.normalised((1, 16, 16), [], [])
    assert hub(str(folder), pretrained=True).wanted_inputs(given).shape == (1, 8, 8)
    convolutions = {"embedding_size": 4, "hidden_sizes": [4], "depths": [1], "layer_type": "basic", "num_channels": 1}
    hub("resnet", config=convolutions).build(INPUTS, 3, seed=0).save_pretrained(tmp_path / "resnet")
    (tmp_path / "resnet" / "preprocessor_config.json").write_text(json.dumps({"size": 8, "do_normalize": False}))
    assert hub(str(tmp_path / "resnet"), pretrained=True).wanted_inputs(given) == given


@pytest.mark.parametrize(
    ("processor", "mean", "std"),
    [
        ({}, 0.0, 1.0),
        ({"do_normalize": True}, 0.5, 0.5),
        ({"do_rescale": True, "rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}, 0.5, 0.5),
        ({"do_rescale": False, "image_mean": [127.5], "image_std": [51]}, 0.5, 0.2),
    ],
)
def test_normalisation_is_that_of_the_image_processor(folder, copied, processor, mean, std):
    path = Path(copied())
    (path / "preprocessor_config.json").write_text(json.dumps(processor))
    wanted = hub(str(path), pretrained=True).wanted_inputs(INPUTS)
    assert (*wanted.low, *wanted.high) == pytest.approx((-mean / std, (1 - mean) / std))


def test_other_classes_need_training(folder):
    with pytest.raises(
        DfkdError, match=r"the weights of tiny-vit are for 3 classes, the data has 4: teacher.finetune=true"
    ):
        hub(str(folder), pretrained=True).build(INPUTS, 4, seed=0)
    told = []
    tuned = hub(str(folder), pretrained=True, finetune=True).build(INPUTS, 4, seed=0, tell=told.append)
    assert told[0].notes == ["fresh, to be trained: classifier.weight, classifier.bias"]
    fresh, published = hub(config=CONFIG).build(INPUTS, 4, seed=0), hub(config=CONFIG).build(INPUTS, 3, seed=3)
    for name, value in tuned.state_dict().items():
        assert torch.equal(value, (fresh if "classifier" in name else published).state_dict()[name]), name


@pytest.mark.parametrize("name", ["DeiTForImageClassification", "DeiTForImageClassificationWithTeacher"])
def test_of_a_type_with_several_networks_the_release_says_which(name):
    said = hub("deit", config={**CONFIG, "architectures": [name]}).architecture()
    assert type(Hub().completed(said).build(INPUTS, 3, seed=0)).__name__ == name
    assert type(hub("deit", config={**CONFIG, "architectures": ["x.Evil"]}).build(INPUTS, 3, 0)).__name__.startswith(
        "DeiT"
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("", "teacher.model must be a type of transformers' image classifiers, or a folder"),
        ("vitt", r"teacher.model=vitt is not a type of .*, or a folder \(did you mean vit\?\)"),
        ("timm_wrapper", "is not a type of"),
    ],
)
def test_a_type_that_there_is_not_is_refused(model, message):
    with pytest.raises(DfkdError, match=message):
        hub(model).build(INPUTS, 3, seed=0)


def test_what_cannot_be_fetched_is_said_in_a_line(monkeypatch):
    def fail(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(
        DfkdError, match=r"teacher.model=org/name is no folder, and cannot be fetched .*OSError: no route"
    ):
        hub("org/name", pretrained=True).identity()


def test_a_folder_of_timms_is_referred_to_timm(copied):
    path = copied()
    (Path(path) / "config.json").write_text(json.dumps({"architecture": "resnet18", "num_classes": 10}))
    with pytest.raises(DfkdError, match=r"names no model_type.*it is timm's: teacher=timm teacher.model=resnet18"):
        hub(path, pretrained=True).wanted_inputs(INPUTS)


def test_a_folder_counts_by_its_content_and_not_its_place(folder, copied):
    here, there = (hub(str(place), pretrained=True) for place in (folder, copied()))
    assert here.identity() == there.identity()
    assert hub(str(folder)).identity() != here.identity()
    weights = hub(config=CONFIG).build(INPUTS, 3, seed=4)
    weights.save_pretrained(there.model)
    assert hub(there.model, pretrained=True).identity() != here.identity()
    assert hub(there.model, pretrained=True).function() == here.function(), "which does not say the weights"


def test_what_a_release_says_is_enough_and_names_nothing_to_fetch(folder, copied):
    owner = hub(copied(auto_map={"AutoModelForImageClassification": "x--y.Z"}, _attn_implementation="org/kernel"))
    owner = owner.changed(config={"attn_implementation": "org/kernel", "layer_norm_eps": 1e-6}, pretrained=True)
    network, said = owner.build(INPUTS, 3, seed=0), owner.architecture()
    assert said["name"] == "copy"
    assert said["kwargs"]["model"] == "vit"
    assert said["kwargs"]["config"]["layer_norm_eps"] == 1e-6
    assert not [word for word in ("org", "x--y", str(folder.parent), "Zero") if word in json.dumps(said)]
    with under_flag("teacher"):
        receiver = Hub(pretrained=True).completed(said)
    again = receiver.rebuilt(network.state_dict(), "a release", INPUTS, 3)
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(again.eval()(images), network.eval()(images))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"model": "org/name", "config": {}}, "the release's teacher is to be org/name, which is no type of network"),
        ({"model": "vit", "config": {**CONFIG, "hidden_size": 8 * 10**6}}, "a release does not fit vit"),
        ({"model": "timm_wrapper", "config": {"architecture": "hf-hub:org/name"}}, "is not a type of"),
        ({"model": "vit", "config": "hidden"}, "teacher.config must be entries by name, got 'hidden'"),
        ({"model": 3, "config": {}}, "teacher.model must be a text, got 3"),
    ],
)
def test_a_release_that_asks_for_more_is_refused(kwargs, message, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("something was fetched"))
    state = hub(config=CONFIG).build(INPUTS, 3, seed=0).state_dict()
    with under_flag("teacher"), pytest.raises(DfkdError, match=message):
        Hub().completed({"kind": "hub", "name": "Net", "kwargs": kwargs}).rebuilt(state, "a release", INPUTS, 3)


def test_it_is_teacher_and_student_of_a_whole_run_and_its_release_of_another(dfkd, folder, tmp_path):
    student = ["student=hub", "student.model=resnet", "+student.config={embedding_size:4,hidden_sizes:[4],depths:[1]}"]
    teacher = ["teacher=hub", f"teacher.model={folder}", "metadata=channels"]
    refused = dfkd(*teacher)
    assert "the weights of tiny-vit are for 3 classes, the data has 10" in refused.err
    ran = dfkd(*teacher, "teacher.finetune=true", "pipeline=release", f"release={tmp_path / 'published'}")
    assert ran.code == 0, ran.err
    assert "fine-tuning tiny-vit" in ran.out
    receiver = ["pipeline=from_release", f"release={tmp_path / 'published'}", *student]
    assert "whose code does not travel; name it: teacher=hub" in dfkd(*receiver).err
    ran = dfkd(*receiver, "teacher=hub")
    assert ran.code == 0, ran.err
    assert (ran.result["teacher"], ran.result["student"]) == ("tiny-vit", "resnet")
