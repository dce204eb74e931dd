"""The command as a person meets it: help, mistakes, exit codes."""

import re
import shlex
import subprocess
import sys
from dataclasses import fields

import pytest

from dfkd_exp.config.groups import CONF, choices, groups, kinds
from dfkd_exp.config.words import headline
from tests.conftest import SMALL, draw_nothing, run_main

MISTAKES = {
    "data=mnst": ("data=mnst", "did you mean mnist?"),
    "teacher=lenet": ("teacher=lenet", "lenet5"),
    "metdata=top_layer": ("metdata", "did you mean metadata?"),
    "training.epohcs=3": ("training.epohcs", "did you mean epochs?"),
    "+training.epohcs=3": ("training.epohcs", "did you mean epochs?"),
    "+nothing=1": ("nothing", "seed"),
    "nothing.at_all=1": ("nothing.at_all", "reconstruction"),
    "training.epochs=many": ("training.epochs", "Integer"),
    "training.epochs=0": ("training.epochs", "at least 1"),
    "training/schedule=cosin": ("training/schedule=cosin", "did you mean cosine?"),
    "distillation/optimizer=sdg": ("distillation/optimizer=sdg", "adam, adamw, auto, custom, sgd (did you mean sgd?)"),
    "distillation/optimiser=sgd": ("distillation/optimiser", "distillation"),
    "distillation.optimizer.momentun=0.9": ("distillation.optimizer.momentun", "did you mean momentum?"),
    "distillation.optimizer.momentum=0.9": ("chosen distillation/optimizer has no", "distillation/optimizer=sgd"),
    "+training.augmentation.degres=3": ("training.augmentation.degres", "did you mean degrees?"),
    "training/optimizer=custom": ("training.optimizer._target_", "torch.optim.RMSprop"),
    "distillation.optimizer.lr=-1": ("distillation.optimizer.lr", "positive"),
    "distillation.label_smoothing=0.1": ("distillation.label_smoothing", "distillation.targets=labels"),
    "metadata.rank=1.5": ("metadata.rank", "Integer"),
    "metadata.layers=some": ("metadata.layers", "all, dense, top or a list"),
    "reconstruction.relu=false": ("reconstruction.relu", "reconstruction=sample"),
    "reconstruction.images_per_class=150": (
        "reconstruction.images_per_class",
        "multiple of reconstruction.group_size=100",
    ),
    "distillation.holdout=1": ("distillation.holdout", "below 1"),
    "optimizer.lr=-1": ("optimizer.lr", "positive"),
    "optimizer=custom": ("optimizer._target_", "torch.optim.RMSprop"),
    "data=image_folder": ("data.path", "a folder"),
    "data=hub": ("data.name", "Hub"),
    "data=none": ("data=none", "choose a data set"),
    "pipeline=from_release": ("release", "release=FOLDER"),
    "trainer=dpp": ("trainer=dpp", "did you mean ddp?"),
    "trainer.launcher=slrm": ("trainer.launcher", "did you mean slurm?"),
    "trainer.devices=0": ("trainer.devices", "empty for all GPUs"),
    "trainer.precision=8": ("trainer.precision", "bf16-mixed"),
    "seed=[1": ("seed=[1", "flag=value"),
    "seed=-1": ("seed", "at least 0"),
    "seed=9223372036854775808": ("seed must be at least 0 and below 2**63",),
    "name=a/b": ("name", "folder name"),
    "teacher.target=a.B": ("teacher.target", "teacher=custom"),
    "terms=[foo]": ("terms=foo: there is no such term; choose one of activation, ",),
    "terms=[label,label]": ("error: terms: label is chosen more than once; name each term once",),
    "terms.weight=2": ("terms.weight: each term has its own weight: terms.NAME.weight, of activation, ",),
    "terms.betas=[1]": ("each term has its own betas: terms.NAME.betas, of class_impression\n",),
    "terms.lable.weight=2": (
        "terms.lable.weight: there is no term lable; choose one of activation, ",
        "did you mean label?",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_one_line_that_names_the_flag_and_the_way_out(mistake, dfkd):
    ran = dfkd(mistake, small=False)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    for expected in MISTAKES[mistake]:
        assert expected in ran.err
    assert not list(ran.outputs.rglob("*.*")), "a mistake leaves nothing behind"


def test_a_release_that_is_not_there_is_named_by_its_flag_once(dfkd):
    ran = dfkd("pipeline=from_release", "release=/nothing")
    assert ran.code == 1
    assert ran.err == "error: release=/nothing: /nothing is not a folder; give the one that pipeline=release wrote\n"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("choice", "flag"),
    [
        ("data=arrays", "data.path"),
        ("data=image_folder", "data.path"),
        ("data=mnist", "data.root"),
        ("teacher=mlp", "teacher.checkpoint"),
        ("student=mlp", "student.checkpoint"),
        ("pipeline=from_release", "release"),
    ],
)
def test_a_path_in_the_home_folder_is_found_as_the_answer_says_to_write_it(dfkd, home, choice, flag):
    """Its file is no use, which is said of where it is."""
    (home / "mine").write_text("nothing of use")
    ran = dfkd(choice, f"{flag}=~/mine", small=False)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    [argument] = shlex.split(ran.err.rpartition(" as ")[2])
    assert argument == f'{flag}="~/mine"'
    ran = dfkd(choice, argument, "trainer=cpu", small=False)
    assert str(home / "mine") in ran.err
    assert "must be" not in ran.err
    assert "is not there" not in ran.err


def test_outputs_in_the_home_folder_are_together_there(home, tmp_path, monkeypatch):
    draw_nothing(monkeypatch)
    monkeypatch.chdir(tmp_path)
    search = ("-m", "hydra/sweeper=study", "hydra.sweeper.trials=1", "distillation.optimizer.lr=interval(0.001,0.02)")
    assert run_main([*search, 'outputs="~/mine"', *SMALL]) == 0
    assert {path.name for path in (home / "mine").iterdir()} == {"runs", "store", "studies"}
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_flags_that_the_pipeline_does_not_reach_are_refused(dfkd, release_folder):
    ran = dfkd("pipeline=from_release", f"release={release_folder}", "metadata=top_layer")
    assert ran.code == 2
    assert "metadata=top_layer: the release has AllLayers; leave it out" in ran.err
    for without_effect in ("metadata.temperature=3", "training.epochs=3", "training/optimizer=sgd"):
        ran = dfkd("pipeline=from_release", f"release={release_folder}", without_effect)
        assert f"{without_effect} has no effect" in ran.err
    for without_effect in ("student.kwargs.width=3", "+student.kwargs.own=3", "++student.kwargs.width=3"):
        ran = dfkd("pipeline=release", without_effect)
        assert ran.code == 2
        assert f"{without_effect} has no effect" in ran.err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--help", "metadata", "engine"], ["training.epochs=0"], ["data=mnst"], ["--cfg", "job"]]
)
def test_help_and_mistakes_do_not_wait_for_torch(arguments, tmp_path):
    script = (
        "import sys\nsys.argv[0] = 'dfkd'\nfrom dfkd_exp.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pytorch_lightning', 'wandb', 'matplotlib', 'sklearn', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr


def test_help_fits_on_one_screen_and_names_every_choice(dfkd):
    ran = dfkd("--help", small=False)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 100
    for group in groups():
        assert re.search(rf"(^|[ ,]){group}[ ,]", ran.out, re.M)
        for name in choices(group):
            assert re.search(rf" {re.escape(name)}( |$)", ran.out, re.M), f"{group}={name}"


def test_help_on_groups_says_what_their_choices_and_fields_are(dfkd):
    ran = dfkd("--help", "metadata", "source", small=False)
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 100
    for group in ("metadata", "source"):
        for name in choices(group):
            title, _ = headline(CONF / group / f"{name}.yaml")
            assert re.search(rf"^  {name} +{re.escape(title)}", ran.out, re.M)
    for name, schema in kinds("metadata").items():
        for field in fields(schema):
            assert f"  metadata.{field.name}" in ran.out, f"{name}: {field.name}"
    assert re.search(r"^  metadata\.storage  str = fp32\n +\w", ran.out, re.M)


def test_help_on_terms_has_flags_that_there_are(dfkd):
    for asked in ("terms", "terms=label"):
        assert re.search(r"^  terms\.label\.weight  float = 1\.0$", dfkd("--help", asked, small=False).out, re.M)


def test_help_on_one_choice_has_its_defaults_and_an_experiments_its_rows(dfkd):
    ran = dfkd("--help", "teacher=lenet5", "experiment=tradeoff_mnist_hinton", small=False)
    assert "hinton_net_800" not in ran.out
    assert re.search(r"^  teacher\.name  str = lenet5$", ran.out, re.M)
    assert re.search(r"^  training\.epochs  int = 30$", dfkd("--help", "training=long", small=False).out, re.M)
    assert re.search(r"^  moments_int8 +means and deviations, one byte each$", ran.out, re.M)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("trainr", "there is no such group; there are data, "),
        ("metadata=top_layr", "choose one of all_layers, "),
        ("metadata=top_layr", "did you mean top_layer?"),
    ],
)
def test_help_on_what_there_is_not_is_answered_in_one_line(dfkd, asked, said):
    ran = dfkd("--help", asked, small=False)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert said in ran.err


def test_python_m_is_the_command(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "dfkd_exp", "-h"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0
    assert "dfkd --cfg job" in ran.stdout


def test_an_interrupted_run_says_so(dfkd, monkeypatch):
    import dfkd_exp.pipeline

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(dfkd_exp.pipeline, "run", interrupted)
    ran = dfkd()
    assert ran.code == 130
    assert "the same command continues" in ran.err


def test_what_nobody_foresaw_leaves_a_traceback_in_the_run(dfkd, monkeypatch):
    import dfkd_exp.pipeline

    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(dfkd_exp.pipeline, "run", broken)
    ran = dfkd()
    assert ran.code == 1
    assert "RuntimeError: a bug" in ran.err
    [traceback] = ran.outputs.glob("runs/digits/*/error.txt")
    assert "in broken" in traceback.read_text()


def test_a_full_disk_is_one_line(dfkd, monkeypatch):
    import dfkd_exp.phases.owner

    def full(*_):
        raise OSError(28, "No space left on device", "model.safetensors")

    monkeypatch.setattr(dfkd_exp.phases.owner, "write_atomically", full)
    ran = dfkd()
    assert ran.code == 1
    assert "No space left on device: model.safetensors; mend that" in ran.err
    monkeypatch.undo()
