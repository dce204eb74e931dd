"""Each part of ``python -m benchmarks`` runs, at a size at which its figures mean nothing."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import (
    __main__,
    children,
    classes,
    collection,
    distillation,
    experiments,
    field,
    growth,
    lightning,
    measure,
    memory,
    photographs,
    reconstruction,
)
from dfkd_exp.models.networks import mlp
from tests.conftest import run_main
from tests.test_benchmarks import residual_teacher
from tests.toy import CLASSES, INPUTS


@pytest.fixture
def printed(monkeypatch, capsys):
    """``printed(part)``: what it prints when its work is small and its children are in this process."""

    def python(*arguments, **_):
        if arguments[1] == "benchmarks.classes":
            return json.dumps(classes.measured(int(arguments[2])))
        if arguments[1] == "benchmarks.memory":
            return json.dumps(memory.distilled(int(arguments[2])))
        if arguments[1] == "benchmarks.photographs":
            return json.dumps(photographs.measured("cnn_bn", int(arguments[3])))
        if arguments[1] == "benchmarks.field":
            return json.dumps(field.measured(arguments[2], Path(arguments[3]) if len(arguments) > 3 else None))
        assert run_main([argument.replace("hinton_net", "mlp") for argument in arguments[2:]]) == 0
        return ""

    small = {
        measure: {"MATRIX_SIDE": {"cpu": 64, "cuda": 64}},
        children: {"python": python},
        classes: {"IMAGES": 40, "STEPS": 1},
        collection: {"IMAGES": 20, "SINGLE_IMAGES": 2, "COLOURED_IMAGES": 4},
        distillation: {
            "PAIRS": {"Toy → half": ("mlp", "mlp", INPUTS.shape)}, "IMAGES": 64, "EPOCHS": 2, "ROUNDS": 1, "EVALUATED": 9,
        },
        field: {"BATCH": 10, "STEPS": 2, "ROUNDS": 1, "SHAPE": (3, 8, 8), "NETWORK": "cnn_bn"},
        experiments: {"STEPS_FROM_NOISE": {"scale=smoke": 2}, "missing_data": lambda: ""},
        growth: {
            "AXES": {
                name: axis._replace(values=values)
                for (name, axis), values in zip(growth.AXES.items(), [(200,), (1,), (2, 4), (8,)], strict=True)
            },
        },
        lightning: {"IMAGES": 128, "EPOCHS": 1},
        memory: {"NUM_BYTES": (memory.BYTES_PER_IMAGE * 9,), "PER_FILE": 4},
        photographs: {
            "NETWORK": "cnn_bn", "SHAPE": (3, 8, 8), "NUM_CLASSES": 2, "GROUP_SIZE": 4, "STEPS": 2, "ROUNDS": 1, "USUAL_STEPS": 2,
            "IMAGES": 8, "FEW_STEPS": 1,
            "AXES": {
                name: axis._replace(values=values)
                for (name, axis), values in zip(photographs.AXES.items(), [(2, 4), ("resnet8",)], strict=True)
            },
        },
        reconstruction: {
            "CASES": {"Toy": reconstruction.Case("residual", INPUTS.shape, CLASSES, group_size=4, steps=2, rounds=1)}
        },
    }  # fmt: skip
    for module, values in small.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(reconstruction, "builder", lambda name: lambda shape, num_classes: residual_teacher())

    def run(*parts):
        __main__.main(parts)
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    ("part", "lines"),
    [
        ("reconstruction", ["Toy, sample", "Toy, moments", "of fp32"]),
        ("collection", ["against PyTorch", "against NumPy", "of channels", "of units"]),
        ("distillation", ["images augmented", "images as they are", "evaluation, Toy"]),
        ("lightning", ["64-32-32-10, 64 images"]),
        ("growth", ["images", "steps", "classes", "width"]),
        ("photographs", ["the label alone", "channels and styles", "classes", "teacher"]),
        ("memory", ["reconstructions in files"]),
        ("field", ["clone of https://github.com/NVlabs/DeepInversion", "DeepInversion, as its paper says"]),
        ("experiments", ["scale=smoke"]),
    ],
)
def test_a_part_runs(printed, part, lines):
    said = printed(part)
    for line in lines:
        assert line in said


def test_a_published_loop_is_imported_without_what_it_imports_and_run_where_there_is_no_gpu(printed, tmp_path):
    place = tmp_path / "DeepInversion" / "cifar10"
    place.mkdir(parents=True)
    (place / "deepinversion_cifar10.py").write_text(PUBLISHED)
    modules = {*sys.modules}
    assert "DeepInversion, as published" in printed("field", "--published", str(tmp_path))
    assert not any(name.startswith("torchvision") for name in {*sys.modules} - modules)


PUBLISHED = """
import torch
import torchvision.transforms as transforms
import torchvision.utils as vutils
from kornia import augmentation

def get_images(net, bs, epochs, net_student, optimizer, inputs, **rest):
    net_student.cuda()
    crop = transforms.Compose([augmentation.RandomCrop(size=[8, 8], padding=4)])
    inputs.data = torch.randn((bs, 3, 8, 8), device='cuda')
    for epoch in range(epochs):
        optimizer.zero_grad()
        net(crop(inputs)).square().sum().backward()
        optimizer.step()
    vutils.save_image(inputs.data.clone(), 'nowhere/at/all.png', normalize=True)
    print('what the loop says is not among the figures')
"""


def test_experiments_are_skipped_where_there_is_no_mnist(monkeypatch, tmp_path):
    monkeypatch.setenv("DFKD_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DFKD_CACHE_DIR", str(tmp_path))
    [said] = experiments.tables()
    assert "experiments: skipped" in said
    assert "DFKD_DATA_DIR" in said


def test_an_unknown_part_is_named(printed):
    with pytest.raises(SystemExit, match="no benchmark colection; choose among reconstruction, collection"):
        printed("colection")


def test_everything_but_the_experiments_is_the_default(monkeypatch):
    asked = []
    monkeypatch.setattr(__main__, "machine", lambda: "")
    for parts in (__main__.ROWS, __main__.TABLES):
        for name in parts:
            monkeypatch.setitem(parts, name, lambda name=name: asked.append(name) or iter(()))
    __main__.main([])
    assert asked == [
        "reconstruction",
        "collection",
        "distillation",
        "lightning",
        "growth",
        "photographs",
        "memory",
        "spectra",
        "field",
    ]


def test_the_expected_cost_is_the_weights():
    net = mlp((1, 28, 28), 10, 30)
    assert growth.weights(30) == sum(parameter.numel() for parameter in net.parameters() if parameter.dim() == 2)


def test_a_child_starts_from_nothing():
    said = children.python("-c", "import os; print(os.environ['FRESH'])", FRESH="yes")
    assert said.strip() == "yes"
