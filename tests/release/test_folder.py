"""The release folder: written, read back, and refused when it is not what it says."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import jsonschema
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from dfkd_exp import AllLayers
from dfkd_exp.config.groups import PACKAGE
from dfkd_exp.errors import DfkdError
from dfkd_exp.evaluation.probe import probe_pixels
from dfkd_exp.manifest import seal
from dfkd_exp.models.by_import_path import ByImportPath
from dfkd_exp.models.ours import Ours
from dfkd_exp.models.recording import frozen, weights_digest
from dfkd_exp.release.folder import copy_release, read_release, write_release
from tests.toy import CLASSES, INPUTS, toy_images


@pytest.fixture
def copy(release_folder, tmp_path):
    return shutil.copytree(release_folder, tmp_path / "copy")


def reseal(folder):
    card = (folder / "README.md").read_text()
    (folder / "README.md").unlink()
    seal(folder, {"phase": "release"})
    (folder / "README.md").write_text(card)


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps(config))
    reseal(folder)


def schema(name):
    return json.loads((PACKAGE / "schemas" / name).read_text())


def test_it_holds_the_five_files_of_a_hub_repository_and_reads_back(release_folder):
    assert {path.name for path in release_folder.iterdir()} == {
        "config.json", "model.safetensors", "metadata.safetensors", "manifest.json", "README.md",
    }  # fmt: skip
    release = read_release(release_folder)
    assert release.inputs.shape == (1, 8, 8)
    assert release.classes == [str(digit) for digit in range(10)]
    teacher = release.teacher()
    assert weights_digest(teacher) == release.config["teacher_sha256"]
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    release.metadata().check_teacher(teacher)


def test_its_json_follows_the_schemas(release_folder):
    jsonschema.validate(
        json.loads((release_folder / "config.json").read_text()), schema("release-config-v3.schema.json")
    )
    jsonschema.validate(json.loads((release_folder / "manifest.json").read_text()), schema("manifest-v1.schema.json"))
    with safe_open(str(release_folder / "metadata.safetensors"), "pt") as file:
        jsonschema.validate(json.loads(file.metadata()["dfkd"]), schema("metadata-v4.schema.json"))


def test_it_is_read_with_safetensors_and_json_alone(release_folder):
    script = f"""
import sys
sys.modules["dfkd_exp"] = None
import json
from safetensors import safe_open
folder = {str(release_folder)!r}
config = json.load(open(folder + "/config.json"))
with safe_open(folder + "/metadata.safetensors", "np") as file:
    header = json.loads(file.metadata()["dfkd"])
    tensors = {{name: file.get_tensor(name) for name in file.keys()}}
assert header["format"] == "dfkd-metadata" and header["version"] == 4
assert header["teacher_sha256"] == config["teacher_sha256"]
for index, statistic in enumerate(header["statistics"]):
    units = 1
    for size in header["layers"][statistic["layers"][0]]["shape"]:
        units *= size
    assert statistic["layers"] == [index]
    assert tensors[f"statistics.{{index}}.mean"].shape == (len(config["classes"]), units)
    if statistic["summary"] == "full":
        assert tensors[f"statistics.{{index}}.covariance"].shape[1] == units * (units + 1) // 2
with safe_open(folder + "/model.safetensors", "np") as file:
    assert sum(file.get_tensor(name).size for name in file.keys()) == config["num_parameters"]
print("read")
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "read\n", ran.stderr


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "metadata.safetensors"])
def test_an_altered_truncated_or_missing_file_is_refused_by_name(copy, name):
    path = copy / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DfkdError, match=f"{name} is altered"):
        read_release(copy)
    path.write_bytes(content[:-5])
    with pytest.raises(DfkdError, match=f"{name} is truncated"):
        read_release(copy)
    path.unlink()
    with pytest.raises(DfkdError, match=f"{name} is missing"):
        read_release(copy)


def test_the_card_may_be_edited(copy):
    digest = read_release(copy).digest
    (copy / "README.md").write_text("my own words")
    assert read_release(copy).digest == digest


class Answering(nn.Sequential):
    """The same weights, and what the receiver's version of the code makes of them."""

    def __init__(self, activation="ReLU", eps=1e-5):
        super().__init__(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, eps=eps), getattr(nn, activation)(), nn.Flatten(), nn.Linear(64, CLASSES)
        )  # fmt: skip


def test_a_network_that_computes_something_else_is_told_by_its_answers_to_the_probes(tmp_path):
    path = f"{__name__}.Answering"
    owners = ByImportPath(target=path)
    teacher = frozen(Answering())
    images, labels = toy_images()
    write_release(
        tmp_path / "it", teacher, AllLayers().collect(teacher, [(images, labels)], INPUTS), owners.architecture(), ["a", "b", "c"], 0.5
    )  # fmt: skip
    assert torch.equal(read_release(tmp_path / "it", owners).teacher()(images), teacher(images))
    for kwargs in ({"activation": "Softplus"}, {"activation": "LeakyReLU"}, {"activation": "GELU"}, {"eps": 0.1}):
        said = ByImportPath(target=path, kwargs=kwargs)
        with pytest.raises(
            DfkdError, match=r"Answering, of .*model.safetensors, is not the network that its owner has"
        ):
            read_release(tmp_path / "it", said).teacher()
    edit_config(tmp_path / "it", probe=[[0.0] * 4] * 4)
    with pytest.raises(DfkdError, match="answers to probes of another number of classes"):
        read_release(tmp_path / "it", owners)


def test_the_probes_are_the_bytes_of_a_hash():
    pixels = probe_pixels(INPUTS)
    assert pixels.shape == (4, 1, 6, 6)
    assert bytes(pixels.flatten().tolist()) == hashlib.shake_256(b"dfkd-probe").digest(4 * 36)


def test_another_version_is_refused(copy):
    edit_config(copy, format_version=99)
    with pytest.raises(DfkdError, match="version 99, this program reads dfkd-release version 3; update"):
        read_release(copy)


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(DfkdError, match="not a folder"):
        read_release(tmp_path / "nothing")
    with pytest.raises(DfkdError, match=r"manifest\.json is missing"):
        read_release(tmp_path)


def test_metadata_of_another_teacher_is_refused_even_if_the_manifest_is_right(copy):
    weights = load_file(copy / "model.safetensors")
    save_file({name: value + 1e-3 for name, value in weights.items()}, copy / "model.safetensors")
    reseal(copy)
    with pytest.raises(DfkdError, match="does not hold the weights"):
        read_release(copy).teacher()
    edit_config(copy, teacher_sha256="0" * 64)
    with pytest.raises(DfkdError, match="belongs to another teacher"):
        read_release(copy).metadata()


def test_a_name_in_a_release_is_never_looked_up(copy, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.chdir(tmp_path)
    for architecture in (
        {"kind": "custom", "name": "Net", "target": "evil.Net", "kwargs": {}},
        {"kind": "evil.Net", "name": "Net", "kwargs": {}},
        {"kind": "ours", "name": "evil.Net", "kwargs": {}},
    ):
        edit_config(copy, architecture=architecture)
        for said in (None, Ours()):
            with pytest.raises(DfkdError, match="whose code does not travel; name it: teacher=custom"):
                read_release(copy, said).teacher()
        with pytest.raises(DfkdError, match=r"does not fit toy_teacher"):
            read_release(copy, ByImportPath(target="tests.toy.toy_teacher")).teacher()
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (None, "architecture: None is not of type 'object'"),
        ({"name": "mlp", "kwargs": {}}, "architecture: 'kind' is a required property"),
        ({"kind": "ours", "kwargs": {}}, "architecture: 'name' is a required property"),
        ({"kind": "ours", "name": "mlp"}, "architecture: 'kwargs' is a required property"),
        ({"kind": "ours", "name": "mlp", "kwargs": []}, r"architecture.kwargs: \[\] is not of type 'object'"),
        ({"kind": "ours", "name": ["mlp"], "kwargs": {}}, r"architecture.name: \['mlp'\] is not of type 'string'"),
        ({"kind": "custom", "name": "Net", "target": "\x1bmy.Net", "kwargs": {}}, r"architecture.target: '\\x1bmy.Net' does not match"),
    ],
)  # fmt: skip
def test_an_architecture_that_is_none_is_refused(copy, architecture, message):
    edit_config(copy, architecture=architecture)
    with pytest.raises(DfkdError, match=message):
        read_release(copy)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"architecture": {"name": "mlp", "kwargs": {}}}, "architecture: 'kind' is a required property"),
        (
            {"architecture": {"kind": "ours", "name": "mlp", "kwargs": {"width": torch.float32}}},
            "not JSON serializable",
        ),
        ({"architecture": {"kind": "ours", "name": "mlp", "kwargs": {"slope": float("nan")}}}, "not JSON compliant"),
        ({"test_accuracy": 97.5}, "test_accuracy: 97.5 is greater than the maximum of 1"),
        ({"test_accuracy": float("nan")}, "not JSON compliant"),
        ({"classes": ["a"]}, "1 names for the metadata's 10 classes"),
        ({"classes": list(range(10))}, r"classes\[0\]: 0 is not of type 'string'"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line_and_leaves_nothing(release_folder, tmp_path, given, message):
    release = read_release(release_folder)
    whole = {"architecture": release.config["architecture"], "classes": release.classes, "test_accuracy": None}
    with pytest.raises(DfkdError, match=message) as error:
        write_release(tmp_path / "new", release.teacher(), release.metadata(), **(whole | given))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"depth": 3}, r"arguments \{'depth': 3\} do not fit mlp"),
        ({"width": "wide"}, r"arguments \{'width': 'wide'\} do not fit mlp"),
        ({"width": 64}, r"does not fit mlp: it has other shapes for"),
        ({"width": 10**9}, r"does not fit mlp: it has other shapes for"),  # four exabytes, were it built
        ({"width": 10**18}, r"arguments \{'width': 10+\} do not fit mlp"),
        ({"width": -1}, r"arguments \{'width': -1\} do not fit mlp"),
    ],
)
def test_arguments_in_a_release_that_do_not_fit_are_refused_before_they_take_memory(copy, kwargs, message):
    edit_config(copy, architecture={"kind": "ours", "name": "mlp", "kwargs": kwargs})
    with pytest.raises(DfkdError, match=message):
        read_release(copy).teacher()


def as_the_hub_caches(folder, place):
    """The folder as huggingface_hub keeps it: every file a link to one that is named by its sum."""
    snapshot, blobs = place / "models--owner--name" / "snapshots" / "0123abc", place / "models--owner--name" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in folder.iterdir():
        shutil.copyfile(path, blobs / f"of-{path.name}")
        (snapshot / path.name).symlink_to(f"../../blobs/of-{path.name}")
    return snapshot


def test_it_is_read_from_the_hubs_cache(release_folder, tmp_path):
    cached = as_the_hub_caches(release_folder, tmp_path)
    release = read_release(cached)
    assert release.digest == read_release(release_folder).digest
    release.metadata().check_teacher(release.teacher())
    copied = copy_release(release, tmp_path / "copied").folder
    assert not any(path.is_symlink() for path in copied.iterdir())


def test_a_copy_has_nothing_that_the_release_does_not_vouch_for(copy, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("of this machine")
    (copy / "README.md").unlink()
    for name in ("README.md", "notes.txt"):
        (copy / name).symlink_to(secret)
    copied = copy_release(read_release(copy), tmp_path / "copied").folder
    assert {path.name for path in copied.iterdir()} == {
        "config.json", "model.safetensors", "metadata.safetensors", "manifest.json",
    }  # fmt: skip


def a_pipe(path):
    os.mkfifo(path)


STRANGE = {
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a pipe": a_pipe,
    "a link to a pipe": lambda path: (a_pipe(path.with_name("pipe")), path.symlink_to("pipe")),
    "a folder": lambda path: path.mkdir(),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "an endless file of the system": lambda path: path.symlink_to("/proc/kmsg"),
}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("name", ["manifest.json", "config.json", "model.safetensors", "metadata.safetensors"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(copy, name, strange):
    (copy / name).unlink()
    STRANGE[strange](copy / name)
    with pytest.raises(DfkdError, match=rf"{name} is (missing|truncated|of an unknown format)"):
        read_release(copy)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "a/../../outside", "a\x00b", "a\nb", "x" * 300, "..", ""]
)
def test_names_in_a_manifest_that_lead_out_of_the_folder_or_nowhere_are_refused(copy, name):
    (copy.parent / "outside").write_text("x")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DfkdError, match=r"is not a manifest|is missing or not a regular file") as error:
        read_release(copy)
    assert "\n" not in str(error.value)


def large_or_small(width=4):
    """Somebody's own network, which asks for memory as its arguments say."""
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, width), torch.nn.Linear(width, 10))


@pytest.mark.parametrize("width", [10**9, 10**18, -1, "wide", None])
def test_arguments_for_somebodys_own_network_take_no_memory_either(copy, width):
    said = ByImportPath(target="tests.release.test_folder.large_or_small")
    weights = large_or_small().state_dict()
    save_file(weights, copy / "model.safetensors")
    edit_config(copy, architecture=said.architecture() | {"kwargs": {"width": width}}, num_parameters=310)
    with pytest.raises(DfkdError, match=r"model\.safetensors.*(does not fit|do not fit) ") as error:
        read_release(copy, said).teacher()
    assert "\n" not in str(error.value)


def needs_values(width=4):
    """Somebody's own network whose code looks at its weights, which those on the device meta have not."""
    network = large_or_small(width)
    network.scale = float(network[1].weight.abs().max().item())
    return network


def test_a_network_whose_code_needs_values_is_read_too(copy):
    said = ByImportPath(target="tests.release.test_folder.needs_values")
    state = needs_values().state_dict()
    network = said.rebuilt(state, "file", read_release(copy).inputs, 10)
    assert torch.equal(network[1].weight, state["1.weight"])


def test_it_overwrites_nothing(copy, release_folder, tmp_path):
    release = read_release(release_folder)
    with pytest.raises(DfkdError, match="not empty; name a new folder"):
        write_release(
            copy,
            release.teacher(),
            release.metadata(),
            {"kind": "ours", "name": "mlp", "kwargs": {}},
            release.classes,
            None,
        )
    assert copy_release(release, copy).folder == copy, "the same release there already is fine"
    (copy / "model.safetensors").unlink()
    with pytest.raises(DfkdError, match="holds something else already"):
        copy_release(release, copy)
    fresh = copy_release(release, tmp_path / "deep" / "new")
    assert fresh.digest == release.digest
    assert not list((tmp_path / "deep").glob(".*")), "nothing is left beside it"


def test_foreign_metadata_cannot_be_published(release_folder, tmp_path):
    release = read_release(release_folder)
    other = Ours(name="mlp").build(release.inputs, 10, seed=5)
    with pytest.raises(DfkdError, match="another teacher"):
        write_release(
            tmp_path / "r",
            other,
            release.metadata(),
            {"kind": "ours", "name": "mlp", "kwargs": {}},
            release.classes,
            None,
        )


def test_the_card_says_what_is_in_it_and_what_it_may_reveal(release_folder):
    card = (release_folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: dfkd_exp\n")
    release = read_release(release_folder)
    for expected in (
        "hidden1",
        "128",
        "What they may reveal",
        f"{release.metadata().num_bytes:,} bytes",
        "no differential privacy",
    ):
        assert expected in card
    assert f"{100 * release.teacher_accuracy:.2f} %" in card


def test_the_weights_are_the_teachers_own(release_folder):
    teacher = read_release(release_folder).teacher()
    stored = load_file(release_folder / "model.safetensors")
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, stored[name])


def test_names_on_the_card_are_names_and_nothing_else():
    from dfkd_exp.metadata import TopLayer
    from dfkd_exp.release.card import model_card
    from tests.toy import INPUTS, toy_images, toy_teacher

    hostile = "<script>x</script>\n# a heading ![](http://a/b.png) | more"
    config = {
        "architecture": {"kind": "custom", "name": "a`<b>", "target": "a.B; rm x", "kwargs": {}}, "num_parameters": 1,
        "inputs": INPUTS.to_json(), "classes": [hostile, "b", "c"], "test_accuracy": None,
    }  # fmt: skip
    metadata = TopLayer().collect(toy_teacher(), [toy_images()], INPUTS)
    card = model_card(config, metadata)
    assert "<script" not in card
    assert "](" not in card.replace(r"]\(", "")
    assert "\n# a heading" not in card
    assert "teacher=custom 'teacher.target=a.B; rm x' student=mlp" in card


def test_the_card_says_what_is_kept_and_that_records_are_of_single_images():
    from dfkd_exp.metadata import AllLayers, SpectralLayerPairs
    from dfkd_exp.release.card import model_card
    from tests.toy import INPUTS, toy_images, toy_teacher

    config = {
        "architecture": {"kind": "ours", "name": "cnn", "kwargs": {}}, "num_parameters": 1, "inputs": INPUTS.to_json(),
        "classes": ["a", "b", "c"], "test_accuracy": None,
    }  # fmt: skip
    gaussian, records = (
        model_card(config, kind.collect(toy_teacher(), [toy_images()], INPUTS))
        for kind in (AllLayers(covariance="full"), SpectralLayerPairs(signal="after_relu", records_per_class=5))
    )
    assert "the mean of its outputs and their covariance" in gaussian
    assert "Outputs are before the non-linearity" in gaussian
    assert "single" not in gaussian
    assert "| `0` | 4x4x4 | full | 25,728 |" in gaussian
    assert "Records are of single training images" in records
    assert "Outputs are after the non-linearity" in records
    assert "| `0`, `3` | 4x4x4 + 8 | records, graph Fourier | 630 |" in records
