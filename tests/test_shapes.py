"""Inputs of one to four dimensions go the whole way; what is for images alone is refused in a line for others."""

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dfkd_exp import AllLayers, Cnn, DfkdError, InputSpec, Mlp, distill, reconstruct
from dfkd_exp.inputs import noun
from dfkd_exp.models.ours import BUILDERS, Ours
from dfkd_exp.reconstruction.engine import Engine
from dfkd_exp.reconstruction.losses import gaussian_blur
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from dfkd_exp.reconstruction.terms.l2 import L2
from dfkd_exp.reconstruction.terms.term import Candidates
from dfkd_exp.reconstruction.terms.total_variation import TotalVariation
from dfkd_exp.release.folder import read_release, write_release
from dfkd_exp.report.pictures import draw_images
from dfkd_exp.schema import require_schema
from dfkd_exp.training.augmentation import Affine, FlipAndCrop
from dfkd_exp.training.transfer_set import FixedImages
from tests.conftest import run_main

SHAPES = {"table": (7,), "series": (2, 16), "images": (1, 6, 6), "volume": (1, 4, 4, 4)}
PLAIN = Engine(precision="fp32", convolutions="direct", compile=False, images_per_batch=60)


def examples(shape, count=60):
    """Three classes whose means differ in every value, each channel in a range of its own."""
    labels = torch.arange(count) % 3
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, *shape, generator=generator)
    scale = (1 + torch.arange(shape[0])).view(-1, *[1] * (len(shape) - 1))
    return scale * (centres[labels] + 0.3 * torch.randn(count, *shape, generator=generator)), labels


def taught(network, inputs, labels):
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    return network.eval()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_inputs_of_any_shape_go_the_whole_way(tmp_path, shape):
    torch.manual_seed(0)
    inputs, labels = examples(shape)
    teacher = taught(Mlp(shape, 3, (16,)), inputs, labels)
    metadata = AllLayers(covariance="top_only").collect(
        teacher, [(inputs[:30], labels[:30]), (inputs[30:], labels[30:])]
    )
    assert metadata.inputs.shape == shape
    across = [0, *range(2, inputs.dim())]
    assert metadata.inputs.low == pytest.approx(inputs.amin(across).tolist())
    made = reconstruct(
        teacher, metadata, per_class=20, steps=40, engine=PLAIN, terms=[L2(weight=0.001), TotalVariation(weight=0.001)],
        parametrisation=Pixels(start="metadata", blur_sigma=0.3),
    )  # fmt: skip
    assert made.inputs.shape == (60, *shape)
    assert (teacher(made.inputs).argmax(1) == made.labels).double().mean() > 0.9
    student = distill(Mlp(shape, 3, (16,)), teacher, made, epochs=20, batch_size=8)
    assert (student(inputs).argmax(1) == teacher(inputs).argmax(1)).double().mean() > 0.8
    architecture = {"kind": "custom", "name": "Mine", "target": "mine.Net", "kwargs": {}}
    written = write_release(tmp_path / "release", teacher, metadata, architecture, ["a", "b", "c"], None)
    assert read_release(written.folder).inputs == metadata.inputs
    card = (written.folder / "README.md").read_text()
    assert f"training {noun(shape)}" in card
    assert ("pixels" in card.partition("## What")[0]) == (len(shape) == 3)


@pytest.mark.parametrize("shape", [(2, 40), (1, 8, 8), (1, 6, 6, 6)], ids=str)
def test_cnn_takes_all_that_has_space(shape):
    assert Cnn(shape, 3, width=4)(torch.zeros(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize("name", sorted(set(BUILDERS) - {"mlp", "cnn", "cnn_half", "hinton_net", "hinton_net_800"}))
def test_networks_for_images_refuse_what_is_none(name):
    for shape in ((13,), (1, 128), (1, 4, 4, 4)):
        with pytest.raises(DfkdError, match=f"takes images, and the data's are {noun(shape)}.*choose mlp"):
            Ours(name=name).untrained(InputSpec.normalised(shape, [], []), 3, 0)
    for what_has_space in ("cnn", "cnn_half"):
        with pytest.raises(DfkdError, match=r"cnn takes what has space.*choose mlp"):
            Ours(name=what_has_space).untrained(InputSpec.normalised((13,), [], []), 3, 0)


def test_only_images_are_augmented_unless_somebody_asks():
    inputs, _labels = examples((2, 16))
    teacher = Mlp((2, 16), 3, (8,)).eval()
    networks = [Mlp((2, 16), 3, (4,)) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    one, two = (distill(n, teacher, inputs, epochs=1, augment=a) for n, a in zip(networks, (True, False), strict=True))
    assert all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))
    for policy in (Affine(), FlipAndCrop()):
        with pytest.raises(DfkdError, match=r"is for images, and the data's are series of shape .2, 16.; set .*=none"):
            distill(networks[0], teacher, inputs, epochs=1, augmentation=policy)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (torch.randint(0, 50, (9, 12)), "tokens.*embedding"), (torch.zeros(9, 12, dtype=torch.uint8), "bytes.*x.float"),
        (torch.full((9, 12), torch.nan), "NaN"), (torch.zeros(9), "shape"), (torch.zeros(9, 1, 2, 2, 2, 2), "shape"),
    ],
)  # fmt: skip
def test_what_cannot_be_reconstructed_is_refused_at_the_border(inputs, words):
    with pytest.raises(DfkdError, match=words):
        AllLayers().collect(Mlp((12,), 3, (8,)), [(inputs, torch.arange(9) % 3)])


def test_a_network_that_looks_tokens_up_is_told_apart_from_one_that_does_not_fit():
    from dfkd_exp.models.plain import attach_output

    network = nn.Sequential(nn.Embedding(50, 8), nn.Flatten(), nn.Linear(96, 3))
    with pytest.raises(DfkdError, match=r"rows of shape \[12\].*tokens.*behind the embedding"):
        attach_output(network, (12,), 3, "teacher")


@pytest.mark.parametrize("space", [1, 2, 3])
def test_a_blur_is_the_gaussian_in_each_direction(space):
    point = torch.zeros(1, 2, *[9] * space)
    point[(0, 0, *[4] * space)] = 1
    blurred = gaussian_blur(point, 0.8)
    kernel = torch.exp(-0.5 * (torch.arange(-2, 3) / 0.8) ** 2)
    kernel /= kernel.sum()
    for steps in itertools.product(range(-2, 3), repeat=space):
        wanted = torch.stack([kernel[step + 2] for step in steps]).prod()
        assert blurred[(0, 0, *[4 + step for step in steps])] == pytest.approx(float(wanted), abs=1e-6)
    assert blurred[0, 1].abs().max() == 0


def test_total_variation_is_summed_over_the_directions_there_are():
    def of(pixels):
        return TotalVariation()(Candidates(pixels, torch.zeros(1, 3), torch.zeros(1, dtype=torch.long))).item()

    ramp = torch.linspace(0, 1, 5)
    assert of(torch.rand(1, 5)) == 0
    assert of(ramp.view(1, 1, 5)) == pytest.approx(0.25)
    assert of(ramp.expand(1, 1, 3, 5)) == pytest.approx(0.25)
    assert of((ramp.view(5, 1, 1) + ramp.view(5, 1) + ramp).view(1, 1, 5, 5, 5)) == pytest.approx(0.75)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_pictures_of_any_shape_show_something(tmp_path, shape):
    inputs, labels = examples(shape)
    preview = FixedImages.of(InputSpec.observed([inputs]).to_pixels(inputs), labels).preview(3, 8)
    draw_images(tmp_path / "p.png", preview, ["a", "b", "c"], preview, [f"feature {i}" for i in range(7)])
    with Image.open(tmp_path / "p.png") as image:
        assert image.convert("L").getextrema()[0] < 110
        box = image.convert("L").point(lambda level: 255 * (level < 200)).getbbox()
    assert box[2] > 500


@pytest.mark.parametrize("shape", [[], [1, 2, 3, 4, 5], [0], [2.0], [2**24 + 1], ["1"]], ids=str)
def test_a_release_is_of_one_to_four_dimensions_of_possible_sizes(shape):
    with pytest.raises(ValueError, match="shape"):
        require_schema(said(shape), "release-config-v3")
    require_schema(said([13]), "release-config-v3")


def said(shape):
    return {
        "format": "dfkd-release", "format_version": 3, "library_name": "dfkd_exp",
        "architecture": {"kind": "ours", "name": "mlp", "kwargs": {}}, "num_parameters": 1,
        "inputs": {"shape": shape, "low": [0], "high": [1]}, "classes": ["a"], "test_accuracy": None, "teacher_sha256": "0" * 64,
        "probe": [[0]] * 4,
    }  # fmt: skip


@pytest.mark.parametrize("shape", [(13,), (1, 128), (3, 2, 2, 2)], ids=str)
def test_inputs_travel_in_json_and_are_checked(shape):
    spec = InputSpec(shape, (0.0,) * shape[0], (2.0,) * shape[0])
    assert InputSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    with pytest.raises(ValueError, match="low must be below high"):
        InputSpec.from_json({**spec.to_json(), "low": [2.0] * shape[0]})
    with pytest.raises(ValueError, match="more than"):
        InputSpec.from_json({**spec.to_json(), "shape": [shape[0], 2**24, 2]})


@pytest.mark.parametrize("data", ["wine", "waves"])
def test_a_table_and_series_run_from_end_to_end_and_are_measured(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    assert run_main([f"data={data}", "scale=smoke", "trainer=cpu", "privacy=true", "likeness=true"]) == 0
    [folder] = (tmp_path / "outputs" / "runs" / data).iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert 0 <= result["accuracy"] <= 1
    assert (folder / "reconstructions.png").is_file()


def test_of_a_table_with_a_feature_that_never_varies_that_is_said(tmp_path, dfkd):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 4)).astype("float32")
    x[:, 2] = 5
    np.savez(tmp_path / "t.npz", x=x, y=np.arange(60) % 3)
    ran = dfkd("data=arrays", f"data.path={tmp_path / 't.npz'}", "student=mlp", "source=noise")
    assert ran.code == 0, ran.err
    assert "1 of the features (2, from 0) never vary" in " ".join(ran.out.split())
