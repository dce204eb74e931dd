"""Whole runs, small: what is written, what is reused, the baselines, both sides of the wall."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from safetensors.torch import load_file

from dfkd_exp.config.groups import PACKAGE
from dfkd_exp.manifest import verify
from tests.celeba import TEST, make_celeba
from tests.conftest import SMALL

PROVENANCE = {"seconds", "phases", "peak_memory_bytes", "overrides", "code_version"}


def figures(result: dict) -> dict:
    """What must be the same for the same config: everything but times, and how it came about."""
    return {name: value for name, value in result.items() if name not in PROVENANCE}


def test_a_run_leaves_result_config_picture_and_log(dfkd):
    ran = dfkd()
    assert ran.code == 0, ran.err
    [folder] = ran.outputs.glob("runs/digits/*")
    assert {"result.json", "config.yaml", "job.json", "reconstructions.png", "log.txt", "logs"} == {
        path.name for path in folder.iterdir()
    }
    result_schema = json.loads((PACKAGE / "schemas" / "result-v1.schema.json").read_text())
    jsonschema.validate(ran.result, result_schema)
    assert ran.result["accuracy"] is not None
    assert ran.result["teacher_parameters"] == 26122
    assert ran.result["compression"] == pytest.approx(26122 / 3466)
    assert set(ran.result["phases"]) == {"teacher", "metadata", "release", "reconstruction", "student", "evaluation"}
    assert all(phase["peak_memory_bytes"] > 1e6 for phase in ran.result["phases"].values())
    for expected in (
        "▸ teacher",
        "▸ metadata",
        "▸ release",
        "▸ reconstruction",
        "▸ student",
        "▸ evaluation",
        "student accuracy",
    ):
        assert expected in ran.out
        assert expected in (folder / "log.txt").read_text()
    assert (folder / "reconstructions.png").read_bytes()[:4] == b"\x89PNG"
    assert (folder / "logs" / "teacher" / "metrics.csv").read_text().startswith("epoch,loss")


def test_the_same_again_computes_nothing_and_finds_the_same(dfkd):
    dfkd()
    again = dfkd()
    first, second = again.results()
    assert figures(first) == figures(second)
    assert all(phase["reused"] for phase in second["phases"].values())
    assert not any(phase["reused"] for phase in first["phases"].values())
    assert again.out.count("reused from the store") == 6
    assert second["seconds"] == first["seconds"], "the seconds of making it, not of finding it"


HEAVY = {
    "torch",
    "pytorch_lightning",
    "lightning_fabric",
    "numpy",
    "scipy",
    "sklearn",
    "matplotlib",
    "safetensors",
    "wandb",
}
LOADED = f"""
import sys
from dfkd_exp.app import main
try:
    main()
finally:
    print("loaded", *{HEAVY} & set(sys.modules))
"""


@pytest.mark.parametrize("kind", ["full", "arrays", "release", "from_release"])
def test_a_run_that_is_wholly_reused_loads_nothing_heavy(kind, dfkd, release_folder, tmp_path):
    release = release_folder if kind == "from_release" else None
    told = [f"pipeline={kind}", f"release={release or tmp_path / 'release'}"]
    told = {"full": [], "arrays": ["data=wine"]}.get(kind, told)
    first = dfkd(*told)
    assert first.code == 0, first.err

    def loaded(before: str = "") -> set[str]:
        command = [sys.executable, "-c", before + LOADED, *told, *SMALL, f"outputs={first.outputs}"]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        return set(ran.stdout.splitlines()[-1].split()) - {"loaded"}

    assert loaded() == set()
    if kind == "full":
        assert loaded("import numpy") == {"numpy"}, "the test would see it"


def test_a_graphs_basis_is_computed_once_and_its_seconds_are_counted(dfkd, monkeypatch):
    first = dfkd("metadata=spectral_layer_pairs")
    assert first.code == 0, first.err
    assert first.result["phases"]["signals"]["seconds"] > 0
    monkeypatch.setattr("dfkd_exp.metadata.metadata.graph_bases", None)
    again = dfkd("metadata=spectral_layer_pairs")
    assert again.code == 0, again.err
    assert figures(again.results()[0]) == figures(again.results()[1])
    assert again.result["seconds"] == first.result["seconds"]
    other = dfkd("metadata=spectral_layer_pairs", "reconstruction.steps=3")  # needs the signals, and finds them
    assert other.code == 0, other.err


def test_a_release_half_written_is_written_again(dfkd):
    dfkd("pipeline=release")
    [folder] = (path for path in Path("outputs/store/release").iterdir() if path.is_dir())
    partial = folder.with_name(f"{folder.name}.partial")
    folder.rename(partial)
    (partial / "manifest.json").unlink()
    (partial / "release" / "metadata.safetensors").unlink()
    ran = dfkd("pipeline=release")
    assert ran.code == 0, ran.err
    assert verify(folder)["resumed"]


def test_a_resolved_config_is_a_whole_run_choices_and_values(dfkd, tmp_path):
    dfkd("metadata=spectral_layer_pairs", "training/optimizer=sgd", "student.kwargs.width=16", "seed=3")
    [folder] = (tmp_path / "outputs").glob("runs/digits/*")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert next(iter(config)) == "choices"
    flags = [f"{group}={choice}" for group, choice in config.pop("choices").items() if choice is not None]
    assert {"metadata=spectral_layer_pairs", "training/optimizer=sgd", "data=digits"} <= set(flags)

    def flatten(prefix, value):
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                flatten(f"{prefix}.{name}" if prefix else name, inner)
        elif value not in ({}, ""):
            text = json.dumps(value) if isinstance(value, list) else "null" if value is None else str(value)
            flags.append(f"{prefix}={text}")

    flatten("", config)
    again = dfkd(*[flag for flag in flags if not flag.startswith("outputs")], small=False)
    assert again.code == 0, again.err
    assert all(phase["reused"] for phase in again.result["phases"].values())


def test_a_sweep_trains_the_teacher_once_and_ends_in_a_table(dfkd):
    first = dfkd("-m", "student.kwargs.width=8,16", "seed=0,1,2")
    assert first.code == 0, first.err
    assert len(first.results()) == 6
    made = [name for result in first.results() for name, phase in result["phases"].items() if not phase["reused"]]
    assert {name: made.count(name) for name in set(made)} == {
        "teacher": 3, "metadata": 3, "release": 3, "reconstruction": 3, "student": 6, "evaluation": 6,
    }  # fmt: skip
    table = first.out[first.out.index("setting") :].split("report  ")[0]
    assert table.count("±") == 4
    assert "student width 16" in table
    second = dfkd("-m", "student.kwargs.width=8,16", "seed=0,1,2")
    assert second.out[second.out.index("setting") :].split("report  ")[0] == table
    assert all(phase["reused"] for result in second.results()[6:] for phase in result["phases"].values())
    assert "6 of 6 jobs done" in second.out


def test_a_job_that_fails_is_named_and_the_others_go_on(dfkd):
    ran = dfkd("-m", "student=mlp,lenet5")
    assert ran.code == 1
    assert len(ran.results()) == 1
    assert "LeNet-5 needs images of at least 16x16 pixels" in ran.err
    assert "job 1 failed" in ran.err
    assert "1 of 2 jobs done" in ran.out


@pytest.mark.parametrize(
    ("flags", "images"),
    [
        (["source=data"], 1438),
        (["source=data", "distillation=labels"], 1438),
        (["source=data", "source.images=100"], 100),
        (["source=noise", "source.images=100"], 95),
        (["source=same_bytes"], 23080 // 64),
        (
            ["source=same_bytes", "source.codec=webp", "source.quality=20"],
            None,
        ),  # as many as this machine's library makes of them
        (["reconstruction=sample", "metadata=top_layer"], 190),
        (["recipe=best", "metadata=top_layer"], 190),
        (["recipe=paper", "metadata=all_layers", "metadata.full_up_to=64", "metadata.rank=4"], 200),
        (["optimizer=lbfgs", "reconstruction.images_per_class=10", "reconstruction.steps=2"], 95),
        (["optimizer=custom", "optimizer._target_=torch.optim.RMSprop"], 190),
        (
            ["distillation/augmentation=affine", "terms=[total_variation,l2]", "parametrisation.blur_sigma=0.5"],
            190,
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_baselines_and_variants_are_values_of_the_same_config(dfkd, flags, images):
    small = [flag for flag in SMALL if not any(f.startswith(flag.partition("=")[0] + "=") for f in flags)]
    ran = dfkd(*small, *flags, small=False)
    assert ran.code == 0, ran.err
    assert ran.result["images"] == images or (images is None and 30 < ran.result["images"] < 1438)
    assert ("reconstruction" in ran.result["phases"]) == (ran.result["source"] == "FromReconstruction")


def test_too_many_training_images_are_refused_though_all_before_the_student_is_there(dfkd):
    assert dfkd("source=data").code == 0
    ran = dfkd("source=data", "source.images=2000")
    assert ran.code == 2
    assert "source.images must be from 10, one of each class, to 1,438, or empty, got 2000" in ran.err
    some = dfkd("source=data", "source.images=100")
    assert "some of the training set" in some.out
    assert some.result["source_bytes"] == 6_400


def test_a_students_accuracy_over_its_training_is_in_the_result(dfkd):
    told = ("distillation.epochs=12", "distillation.snapshots=5", "reconstruction.steps=7")
    ran = dfkd(*SMALL, *told)
    assert ran.code == 0, ran.err
    curve, result = ran.result["curve"], ran.result
    assert [point["epoch"] for point in curve] == [3, 5, 8, 10, 12]
    assert curve[-1]["accuracy"] == result["accuracy"] == result["accuracy_last_tenth"], "11 and 12 are the last tenth"
    assert result["accuracy_best_epoch"] == max(point["accuracy"] for point in curve)
    before = sum(result["phases"][name]["seconds"] for name in ("metadata", "release", "reconstruction"))
    seconds = [point["seconds"] for point in curve]
    assert before < seconds[0] < seconds[-1] < before + result["phases"]["student"]["seconds"]
    assert {point["image_steps"] for point in curve} == {result["image_steps"]} == {200 * 7}
    assert result["student_image_steps"] == 190 * 12
    assert result["peak_memory_bytes"] in {phase["peak_memory_bytes"] for phase in result["phases"].values()}
    [last] = ran.outputs.glob("store/student/*/snapshots/000012.safetensors")
    assert last.read_bytes() == (last.parents[1] / "model.safetensors").read_bytes()
    without = dfkd(*SMALL, "distillation.epochs=12", "reconstruction.steps=7").result
    assert without["accuracy"] == result["accuracy"]
    assert [without[name] for name in ("curve", "accuracy_last_tenth", "accuracy_best_epoch")] == 3 * [None]


def test_many_bytes_of_snapshots_are_said_beforehand(dfkd, monkeypatch):
    monkeypatch.setattr("dfkd_exp.phases.rehearsal.MUCH", 20_000)
    ran = dfkd("distillation.snapshots=9", "distillation.epochs=2")
    assert ran.err == (
        "warning: distillation.snapshots=9 keeps 2 times the student's 13,864 bytes in the store, 0.0 GiB; fewer take less\n"
    )
    assert dfkd("distillation.snapshots=1", "distillation.epochs=2").err == ""


IN_THE_LOOP = ("source=synthesis", "source.images=60", "source.batch_size=20", "distillation.batch_size=20")


@pytest.mark.parametrize(
    "flags",
    [
        ["metadata=none", "parametrisation=generator", "terms=[confidence,activation,class_entropy]"],  # DAFL
        [
            "metadata=none",
            "parametrisation=generator",
            "terms=[disagreement]",
            "source.student_steps=3",
            "source.fresh=true",
        ],  # DFAD
        [
            "terms=[disagreement]",
            "source.pool=40",
            "source.steps=2",
        ],  # statistics of classes, and what the student has yet to learn
        [
            "parametrisation=generator",
            "parametrisation.kept=batch",
            "parametrisation.optimise_latents=true",
            "source.steps=2",
        ],
        [
            "metadata=none",
            "parametrisation=generator",
            "terms=[disagreement]",
            "source.schedule=cosine",
            "source.clip=5",
            "source.student_steps=3",
            "teacher=cnn",
            "student=cnn",
            "distillation.attention=250",
            "distillation.clip=5",
        ],  # ZSKT
        [
            "parametrisation=generator",
            "parametrisation.kept=meta",
            "parametrisation.optimise_latents=true",
            "parametrisation.latents_lr=0.01",
            "source.steps=2",
            "source.pool=40",
            "distillation.loss=l1",
        ],  # Fast
        [
            "parametrisation=generator",
            "parametrisation.latents_from=classes",
            "source.steps=2",
            "source.pool=40",
        ],  # NAYER
    ],
)
def test_images_are_made_for_a_student_in_the_loop(dfkd, flags):
    ran = dfkd(*SMALL, *IN_THE_LOOP, *flags)
    assert ran.code == 0, ran.err
    assert ran.result["images"] == 60
    batches = 1 if "source.student_steps=3" in flags else 3
    assert ran.result["image_steps"] == batches * 20 * (2 if "source.steps=2" in flags else 1)
    assert ran.result["metadata_bytes"] == (0 if "metadata=none" in flags else 23_080)
    again = dfkd(*SMALL, *IN_THE_LOOP, *flags)
    assert figures(again.result) == figures(ran.result)
    assert "reused from the store" in again.out


def test_the_trainers_precision_leaves_the_reconstructions_alone(dfkd, release_folder):
    from_release = ("pipeline=from_release", f"release={release_folder}")
    shards = []
    for precision in ("32-true", "bf16-mixed"):
        ran = dfkd(*from_release, f"trainer.precision={precision}")
        assert ran.code == 0, ran.err
        [folder] = (path for path in ran.outputs.glob("store/reconstruction/*") if path.is_dir())
        shards.append([path.read_bytes() for path in sorted(folder.glob("*.safetensors"))])
        folder.rename(ran.outputs / precision)
    assert shards[0] == shards[1]


def test_labels_for_noise_are_refused(dfkd):
    ran = dfkd("source=noise", "distillation=labels")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "a source of noise has none" in ran.err


def test_a_training_that_diverges_says_what_to_lower(dfkd):
    ran = dfkd("distillation.optimizer.lr=1e30")
    assert ran.code == 1
    assert "lower distillation.optimizer.lr (now 1e+30)" in ran.err
    [log] = ran.outputs.glob("runs/*/*/log.txt")
    assert "lower distillation.optimizer.lr (now 1e+30)" in log.read_text()
    assert dfkd("training.optimizer.lr=1e30").code == 1


def test_both_sides_of_the_wall_find_what_the_whole_finds(dfkd, tmp_path):
    whole = dfkd().result
    owner = dfkd("pipeline=release", f"release={tmp_path / 'published'}")
    assert owner.code == 0, owner.err
    assert "released: " in owner.out
    alone = dfkd("pipeline=from_release", f"release={tmp_path / 'published'}", "distillation.snapshots=1").result
    assert alone["accuracy"] is alone["curve"] is alone["accuracy_best_epoch"] is None
    assert alone["teacher_accuracy"] is None
    assert alone["teacher_accuracy_by_owner"] == whole["teacher_accuracy"]
    assert alone["agreement_held_out"] == whole["agreement_held_out"]
    assert alone["agreement_training"] is None
    assert alone["phases"]["reconstruction"]["reused"], "the same release, the same images"
    measured = dfkd("pipeline=from_release", f"release={tmp_path / 'published'}", "data=digits").result
    assert measured["accuracy"] == whole["accuracy"]
    assert measured["agreement_training"] == whole["agreement_training"] != whole["agreement"]
    wrong = dfkd("pipeline=from_release", f"release={tmp_path / 'published'}", "data=digits", "data.pad=2")
    assert wrong.code == 1
    assert "the release is for images of shape [1, 8, 8]" in wrong.err


def test_a_release_goes_into_the_runs_folder_unless_named(dfkd):
    ran = dfkd("pipeline=release")
    assert len(list(ran.outputs.glob("runs/digits/*/release/model.safetensors"))) == 1
    assert dfkd("pipeline=release", f"release={ran.outputs}").code == 1


def test_somebodys_own_network_and_own_images(dfkd, tmp_path):
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, width=8):\n"
        "        super().__init__()\n"
        "        self.body = nn.Sequential(nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))\n"
        "        self.head = nn.Linear(width, 3)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.body(x).mean((2, 3)))\n"
    )
    import torch
    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    for label, name in enumerate(("red", "green", "blue")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(15):
            pixels = torch.rand(9, 7, 3, generator=generator) * 100
            pixels[..., label] += 120
            Image.fromarray(pixels.byte().numpy()).save(tmp_path / "images" / name / f"{index}.png")
    own = ["teacher=custom", "teacher.target=own_net.Net", "+teacher.kwargs.width=6", "training.batch_size=8"]
    flags = [
        *own,
        "data=image_folder",
        f"data.path={tmp_path / 'images'}",
        "training.epochs=30",
        "student=custom",
        "student.target=own_net.Net",
    ]
    ran = dfkd("scale=smoke", "trainer=cpu", *flags, small=False)
    assert ran.code == 0, ran.err
    assert ran.result["teacher"] == "Net"
    assert ran.result["teacher_accuracy"] == 1.0
    [metadata] = ran.outputs.glob("store/metadata/*/metadata.safetensors")
    assert [name for name in load_file(metadata) if name.endswith("mean")] == [f"statistics.{i}.mean" for i in range(3)]
    [checkpoint] = ran.outputs.glob("store/teacher/*/model.safetensors")
    loaded = dfkd(*flags[:3], f"teacher.checkpoint={checkpoint}", *flags[4:6], "student=cnn")
    assert loaded.code == 0, loaded.err
    assert loaded.result["teacher_accuracy"] == 1.0


def test_named_layers_are_the_ones_recorded(dfkd):
    ran = dfkd("metadata.layers=[hidden2]")
    assert ran.code == 0, ran.err
    [metadata] = ran.outputs.glob("store/metadata/*/metadata.safetensors")
    assert load_file(metadata)["statistics.0.mean"].shape == (10, 128)
    wrong = dfkd("metadata.layers=[hiden2]")
    assert wrong.code == 1
    assert "hidden1, hidden2, logits" in wrong.err


@pytest.mark.parametrize("logger", ["none", "csv", "tensorboard"])
def test_loggers_write_where_they_should_and_end_with_the_run(dfkd, logger):
    ran = dfkd(f"logger={logger}")
    assert ran.code == 0, ran.err
    [folder] = ran.outputs.glob("runs/digits/*")
    expected = {
        "none": None,
        "csv": "logs/student/metrics.csv",
        "tensorboard": "logs/student/events*",
    }
    if expected[logger]:
        assert len(list(folder.glob(expected[logger]))) == 1
    else:
        assert not (folder / "logs").exists()


def test_wandb_gives_each_job_of_a_sweep_its_own_run_which_ends_with_it_even_after_a_failure(dfkd):
    import wandb

    ran = dfkd("-m", "logger=wandb", "student=mlp,lenet5,cnn")
    assert ran.code == 1
    assert len(list(ran.outputs.glob("runs/digits/*/*/wandb/offline-run-*/*.wandb"))) == 3
    assert wandb.run is None
    for job in "012":
        assert re.search(rf"wandb sync \S*/{job}/wandb/offline-run-", ran.out), job
    assert re.search(r"wandb sync \S*/\*/wandb/offline-run-\*", ran.out), "and all of them at once"


FEWER = ("reconstruction.images_per_class=200", "reconstruction.steps=100")


@pytest.mark.parametrize(
    "flags", [FEWER, pytest.param((), marks=pytest.mark.slow)], ids=["fewer images", "as README says"]
)
def test_the_digits_student_learns_without_data(dfkd, flags):
    ran = dfkd("trainer=cpu", *flags, small=False)
    assert ran.code == 0, ran.err
    assert ran.result["teacher_accuracy"] > 0.93
    assert ran.result["accuracy"] > (0.88 if flags else 0.94)
    assert ran.result["accuracy"] != ran.result["agreement"]
    assert os.environ.get("WANDB_MODE") is None


def test_faces_of_celeba_and_alexnet(dfkd, tmp_path):
    flags = [f"data.root={make_celeba(tmp_path / 'celeba')}", "data.size=63", "teacher=alexnet", "student=alexnet_half"]
    flags += ["metadata=top_layer", "reconstruction.images_per_class=10", "reconstruction.steps=2"]
    ran = dfkd("data=celeba", *flags)
    assert ran.code == 0, ran.err
    assert ran.out.count("attribute Smiling: 50.0% of the training part have it") == 1
    assert (ran.result["teacher"], ran.result["student"]) == ("alexnet", "alexnet_half")
    assert ran.result["test_images"] == TEST
    again = dfkd("data=celeba", *flags, "data.attribute=Smiling")
    assert all(phase["reused"] for phase in again.result["phases"].values()), "it is the attribute that was chosen"
