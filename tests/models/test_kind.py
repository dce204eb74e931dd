"""Networks by name and by import path, and the weights they start from."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.by_import_path import ByImportPath
from dfkd_exp.models.ours import Ours
from dfkd_exp.models.plain import attach_output
from dfkd_exp.models.recording import weights_digest
from dfkd_exp.settings import under_flag
from tests.toy import CLASSES, INPUTS

TOY = "tests.toy.toy_teacher"


class Other(nn.Module):
    """Not what a classifier of the toy images is."""

    def __init__(self, gives="logits"):
        super().__init__()
        self.gives, self.layer = gives, nn.Linear(36, 5)

    def forward(self, x):
        return (x,) if self.gives == "tuple" else self.layer(x.flatten(1))


def not_a_network():
    return "a string"


def build(checkpoint=None, seed=0, flag="teacher", **settings):
    settings = settings or {"target": TOY, "kwargs": {"seed": 5}}
    with under_flag(flag):
        kind = ByImportPath if "target" in settings else Ours
        return kind(checkpoint=checkpoint and str(checkpoint), **settings).build(INPUTS, CLASSES, seed)


def test_the_seed_decides_the_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    digests = [weights_digest(build(name="mlp", seed=seed)) for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_come_from_a_checkpoint(tmp_path, suffix):
    state = build().state_dict()
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    fresh = {"target": TOY, "kwargs": {"seed": 6}}
    assert weights_digest(build(**fresh)) != weights_digest(build())
    assert weights_digest(build(path, **fresh)) == weights_digest(build())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "tests.models.test_kind.Missing"}, r"teacher.target=.*has nothing called Missing"),
        ({"target": "no_such_module.Net"}, r"teacher.target=no_such_module.Net: No module named"),
        ({"target": "Net"}, r"teacher.target must be an import path like .*, got 'Net'"),
        ({"target": TOY, "kwargs": {"width": 3}}, r"teacher: the arguments .*'width'.* do not fit toy_teacher"),
        ({"target": f"{__name__}.not_a_network"}, r"is not a torch.nn.Module but str"),
        ({"target": f"{__name__}.Other"}, r"must return logits of shape \[N, 3\].*returns \[5\]"),
        (
            {"target": f"{__name__}.Other", "kwargs": {"gives": "tuple"}},
            r"must return logits .*returns \[1, 6, 6\] for each image",
        ),
        (
            {"target": "torch.nn.Linear", "kwargs": {"in_features": 7, "out_features": 3}},
            r"cannot take images of shape \[1, 6, 6\]",
        ),
    ],
)
def test_a_network_that_cannot_be_used_is_refused(settings, message):
    with pytest.raises(DfkdError, match=message):
        build(**settings)


def test_the_flag_in_a_message_is_that_of_the_group():
    with pytest.raises(DfkdError, match=r"student: the arguments \{'depth': 3\} do not fit mlp"):
        build(flag="student", name="mlp", kwargs={"depth": 3})
    with pytest.raises(DfkdError, match=r"student.target=.*has nothing called Missing"):
        build(flag="student", target="tests.models.test_kind.Missing")


def test_a_checkpoint_that_is_not_there_is_refused_at_once(tmp_path):
    with under_flag("teacher"), pytest.raises(DfkdError, match=r"teacher.checkpoint must be a file that is there, got"):
        Ours(checkpoint=str(tmp_path / "missing.pt"))


def test_a_network_is_checked_in_evaluation_mode_and_left_as_it_was():
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Sequential(nn.Linear(36, CLASSES), nn.Dropout()))
    network[1].eval()
    before = network[1].running_mean.clone()
    attach_output(network, INPUTS.shape, CLASSES, "teacher Net")
    assert [module.training for module in network.modules()] == [True, True, False, True, True, True]
    assert torch.equal(network[1].running_mean, before)


def test_a_checkpoint_counts_by_its_content_not_its_place(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    (tmp_path / "c").write_bytes(b"other")
    one, two, three = (Ours(checkpoint=str(tmp_path / name)).identity() for name in "abc")
    assert one == two != three


def test_architectures_say_what_a_release_does_and_what_people_call_it():
    own = ByImportPath(target="my.module.Net", kwargs={"width": 3})
    assert own.title == "Net"
    assert own.architecture() == {"kind": "custom", "name": "Net", "target": "my.module.Net", "kwargs": {"width": 3}}
    assert Ours(name="lenet5").title == "lenet5"
    assert Ours(name="lenet5").architecture() == {"kind": "ours", "name": "lenet5", "kwargs": {}}


def test_a_receiver_gives_its_own_path_and_takes_the_releases_arguments():
    said = {"kind": "custom", "name": "Net", "target": "theirs.Net", "kwargs": {"width": 3}}
    assert ByImportPath(target="mine.Net").completed(said) == ByImportPath(target="mine.Net", kwargs={"width": 3})
    chosen = ByImportPath(target="mine.Net", kwargs={"width": 4})
    assert chosen.completed(said) == chosen
    assert Ours().completed(said) is None
    assert Ours().completed({"kind": "ours", "name": "cnn", "kwargs": {"width": 3}}) == Ours(
        name="cnn", kwargs={"width": 3}
    )


RETURNS = "tests.models.returns.Digits"


def test_what_a_teacher_returns_is_said_and_travels_to_whoever_has_its_code(dfkd, tmp_path):
    """A tuple of features and probabilities: the teacher answers alike on both sides of the wall."""
    folder = tmp_path / "published"
    custom = ("teacher=custom", f"teacher.target={RETURNS}")
    form = "+teacher.kwargs.form=tuple_of_softmax"
    ran = dfkd("pipeline=release", f"release={folder}", *custom, form)
    assert ran.code == 0, ran.err
    assert "network: entry 1 is probabilities, and their logarithm, centred, taken as its logits" in ran.out
    said = json.loads((folder / "config.json").read_text())["architecture"]
    assert said["output"] == {"entry": "1", "form": "probabilities"}
    received = dfkd("pipeline=from_release", f"release={folder}", *custom, "data=digits", "student=mlp")
    assert received.code == 0, received.err
    published = json.loads((folder / "config.json").read_text())["test_accuracy"]
    assert received.result["teacher_accuracy"] == published > 0.15


def test_a_teacher_that_computes_without_gradients_is_refused_before_it_is_loaded(dfkd, tmp_path):
    target = f"{__name__}.NoGradient"
    torch.save(NoGradient().state_dict(), tmp_path / "weights.pt")
    custom = ("teacher=custom", f"teacher.target={target}", f"teacher.checkpoint={tmp_path / 'weights.pt'}")
    for pipeline in ("full", "release"):
        ran = dfkd(f"pipeline={pipeline}", *custom)
        assert ran.code == 1
        assert "teacher NoGradient computes without gradients (torch.no_grad" in ran.err
        assert not list(ran.outputs.glob("store/teacher/*/model.safetensors"))
    ran = dfkd("teacher=mlp", "student=custom", f"student.target={target}")
    assert "student NoGradient computes without gradients" in ran.err
    assert dfkd(*custom, "source=noise", "student=mlp").code == 0, "no gradient of it is needed for noise"


class NoGradient(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))

    @torch.no_grad()
    def forward(self, images):
        return super().forward(images)


def test_an_output_that_is_not_said_leaves_the_keys_of_what_is_in_the_store():
    assert "output" not in Ours(name="mlp").identity()
    assert ByImportPath(target=TOY, output="0").identity() != ByImportPath(target=TOY).identity()
