"""The methods of the field: each is a yaml that says where it is from, composes, runs, and has its paper's settings."""

import re
from dataclasses import replace

import pytest

from dfkd_exp.config.groups import CONF, choices
from dfkd_exp.config.words import headline
from dfkd_exp.errors import ConfigError
from tests.conftest import run_main
from tests.each import each
from tests.test_config import composed

METHODS = [name for name in choices("method") if name != "default"]
OF_BATCH_NORM = ["adaptive_deep_inversion", "cmi", "deep_inversion", "fast", "nayer"]
TINY = {
    "fixed": ["reconstruction.images_per_class=20", "reconstruction.group_size=10", "reconstruction.steps=2"],
    "in the loop": ["source.images=64", "source.steps=2"],
}


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """Small releases of digits, with statistics of channels, by whether the teacher has BatchNorm."""
    folder = tmp_path_factory.mktemp("releases")
    for name in ("cnn_bn", "cnn"):
        said = [f"teacher={name}", "metadata=channels", f"release={folder / name}", f"outputs={folder / 'outputs'}"]
        assert run_main(["pipeline=release", *said, "training.epochs=1", "trainer=cpu", "data=digits"]) == 0
    return folder


def run(dfkd, releases, method, *said, teacher="cnn_bn"):
    text = (CONF / "method" / f"{method}.yaml").read_text()
    size = TINY["in the loop" if "/source: synthesis" in text else "fixed"]
    generator = ["parametrisation.width=4"] if method in choices("parametrisation") else []
    start = ["pipeline=from_release", f"release={releases / teacher}", "data=digits", f"student={teacher}"]
    common = ["trainer=cpu", "distillation.epochs=1", "distillation.batch_size=32"]
    return dfkd(*start, f"method={method}", *size, *generator, *common, *said, small=False)


@each(METHODS)
def test_a_method_says_where_it_is_from(method):
    text = (CONF / "method" / f"{method}.yaml").read_text()
    for what in ("paper", "reported", "command", "cost"):
        assert re.search(rf"^# {what} +\S", text, re.M), what
    assert all(headline(CONF / "method" / f"{method}.yaml"))
    assert method in choices("distillation")  # what protocol=own takes
    assert f"| `{method}`" in (CONF.parent / "docs" / "methods.md").read_text()


def test_every_method_of_the_field_is_there():
    assert {"lopes", "dfkd", "deep_inversion", "adaptive_deep_inversion", "dafl", "dfad", "zskt", "zskd"} < set(METHODS)
    assert {"cmi", "fast", "nayer"} < set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_a_student_of_a_release(dfkd, releases, method):
    ran = run(dfkd, releases, method)
    assert ran.code == 0, ran.err
    assert 0 <= ran.result["accuracy"] <= 1
    assert (ran.result["source_bytes"] > 0) == (
        method in ("lopes", "dfkd")
    )  # all others leave what was published aside


@pytest.mark.parametrize("said", ["pixels", "latents", "dafl", "nayer"])
def test_a_method_goes_with_images_made_otherwise(said):
    """What it says of its own generator is not asked of another parametrisation."""
    own, other = composed("method=fast"), composed("method=fast", f"parametrisation={said}")
    assert own.parametrisation.kept == "meta" != getattr(other.parametrisation, "kept", None)
    assert own.terms == other.terms


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("mnist", (1.0, 5.0, 0.1, 100, 0.2)),
        ("image_folder data.path=mine data.channels=1", (1.0, 5.0, 0.1, 100, 0.2)),
        ("image_folder data.path=mine", (0.05, 5.0, 0.01, 1000, 0.02)),
        ("hub data.name=mine", (0.05, 5.0, 0.01, 1000, 0.02)),
        ("celeba", (0.05, 5.0, 0.01, 1000, 0.02)),
        ("digits", (1.0, 5.0, 0.1, 100, 0.2)),
        ("cifar10", (0.05, 5.0, 0.01, 1000, 0.02)),
        ("cifar100", (0.5, 20.0, 0.1, 1000, 0.02)),
    ],
)
def test_settings_are_those_that_the_paper_gives_for_the_data(data, expected):
    """Those of DAFL: its Sec. 4, and those of its code for CIFAR-100; somebody's own photographs have those for CIFAR-10."""
    config = composed("method=dafl", *f"data={data}".split())
    weights = [config.terms[name].weight for name in ("confidence", "class_entropy", "activation")]
    assert (*weights, config.parametrisation.latents, config.optimizer.lr) == expected


def test_students_are_taught_alike_or_as_the_paper_teaches_them():
    equal, own = composed("method=fast"), composed("method=dafl", "protocol=own")
    assert equal.distillation == composed().distillation
    assert (own.distillation.temperature, own.distillation.batch_size, own.source.batch_size) == (1.0, 1024, 1024)
    assert type(own.distillation.optimizer).__name__ == "Sgd"
    alike = composed("method=dafl").distillation
    assert alike == replace(composed().distillation, augmentation=alike.augmentation)
    assert not alike.augmentation.changes  # what is made against the student, it sees as it is
    assert composed("protocol=own").distillation == composed().distillation  # no method, and so none of its own


def test_a_student_that_is_there_is_reused_without_what_makes_its_images(dfkd, releases, monkeypatch):
    assert run(dfkd, releases, "dafl").code == 0
    monkeypatch.setattr("dfkd_exp.distillation.synthesised.Synthesiser", None)
    again = run(dfkd, releases, "dafl")
    assert again.code == 0, again.err


@pytest.mark.parametrize("method", OF_BATCH_NORM)
def test_without_batch_norm_a_method_asks_for_statistics_in_its_place(dfkd, tmp_path, method):
    said = [f"method={method}", "teacher=cnn", "student=cnn", "trainer=cpu", "scale=smoke", "source.batch_size=60"]
    said = [text for text in said if not text.startswith("source") or method != "deep_inversion"]
    ran = dfkd(*said, small=False)
    assert ran.code == 1
    assert "terms.batch_norm: the teacher has no BatchNorm layers" in ran.err
    assert "metadata=channels" in ran.err


def test_a_term_is_taken_away_by_its_name_and_not_by_naming_the_others():
    terms = composed("method=fast", "~terms.batch_norm").terms
    assert list(terms) == ["label", "disagreement"]
    assert terms["disagreement"].agreed_only
    with pytest.raises(ConfigError, match=r"take terms away from a method by ~terms.NAME"):
        composed("method=fast", "terms=[label,disagreement]")


def test_published_statistics_take_the_place_of_batch_norms(dfkd, releases):
    ran = run(dfkd, releases, "deep_inversion", "metadata=channels", teacher="cnn")
    assert ran.code == 0, ran.err
    assert ran.result["source_bytes"] > 0
    assert "published statistics are matched in its place" in ran.out


def test_a_method_without_students_of_its_own_names_the_file_that_is_missing(dfkd, tmp_path):
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "mine.yaml").write_text((CONF / "method" / "deep_inversion.yaml").read_text())
    for how in ([], ["-m"]):
        ran = dfkd(*how, "--config-dir", str(tmp_path / "conf"), "method=mine", "protocol=own")
        assert ran.code == 2
        assert (
            "protocol=own: method=mine has no students of its own: there is no conf/distillation/mine.yaml" in ran.err
        )
