"""The engines: all make what plain PyTorch makes, within rounding; the choice among them is measured once and kept."""

import itertools
import json
import os
from dataclasses import replace

import pytest
import torch
from torch import nn

from dfkd_exp.errors import ConfigError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata import AllLayers, Channels
from dfkd_exp.models.networks import LeNet5
from dfkd_exp.models.recording import frozen
from dfkd_exp.reconstruction import Moments, Sample
from dfkd_exp.reconstruction.engine import choose, measure
from dfkd_exp.reconstruction.engine.choose import engine_in_the_loop, resolve_engine
from dfkd_exp.reconstruction.engine.known import CHOICES, PRECISION, Known
from dfkd_exp.reconstruction.engine.settings import PLAIN, Engine, ResolvedEngine
from dfkd_exp.reconstruction.loop import reconstruct
from dfkd_exp.reconstruction.objective import Objective, draw_groups
from dfkd_exp.reconstruction.parametrisation.generator import FromGenerator
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from dfkd_exp.reconstruction.terms.batch_norm import BatchNorm
from dfkd_exp.reconstruction.terms.class_impression import ClassImpression
from dfkd_exp.reconstruction.terms.disagreement import Disagreement
from dfkd_exp.reconstruction.terms.l2 import L2
from dfkd_exp.reconstruction.terms.label import Label
from dfkd_exp.reconstruction.terms.total_variation import TotalVariation
from tests.toy import INPUTS, normalised_teacher, problem, toy_images

SETTINGS = Moments(images_per_class=8, group_size=4, steps=10)
ENGINES = [
    ResolvedEngine(precision, convolutions, compile, 8)
    for precision, convolutions, compile in itertools.product(
        ("fp32", "bf16"), ("direct", "blocks", "channels_last"), (False,)
    )
]


@pytest.fixture(autouse=True)
def all_is_worth_measuring(monkeypatch):
    """As if it were work for days."""
    monkeypatch.setattr(choose, "WORTH_MEASURING", 0)
    monkeypatch.setattr(choose, "FEWEST_STEPS", 0)
    monkeypatch.setattr(choose, "SHARE", 1e9)


def at_rates(monkeypatch, rate_of):
    """Engines that work at the rate, in image-steps per second, that ``rate_of(engine)`` says."""

    def measured(asked, engine, reference, slowest, steps):
        outcome, _ = measure._first_step(asked, engine)
        near = reference is None or measure._close(outcome, reference)
        return measure.Timed(rate_of(engine) if near else 0.0, engine)

    monkeypatch.setattr(measure, "_measured", measured)


def start(teacher, metadata, engine, settings=SETTINGS, terms=()):
    """Losses and gradient of two groups at the start."""
    objective = Objective(problem(teacher, metadata, settings, Pixels(), terms), engine)
    return objective(*draw_groups(objective, [0, 1], seed=0))


@pytest.mark.parametrize("engine", ENGINES, ids=choose.describe)
@pytest.mark.parametrize("match", [Moments, Sample])
def test_every_engine_computes_the_same_loss_and_gradient(teacher, metadata, engine, match):
    settings = match(images_per_class=8, group_size=4)
    terms = [TotalVariation(), L2(), Label(), ClassImpression(temperature=1.0)]
    losses, gradient = start(teacher, metadata, engine, settings, terms)
    true_losses, true_gradient = start(teacher, metadata, PLAIN, settings, terms)
    error = (gradient - true_gradient).norm() / true_gradient.norm()
    if engine.precision == "fp32":
        torch.testing.assert_close(losses, true_losses)
        assert error < 1e-5
    else:
        torch.testing.assert_close(losses, true_losses, rtol=0.02, atol=0)
        assert 0 < error < 0.1
    assert losses.dtype == gradient.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "convolutions"), [("fp32", "direct"), ("fp32", "blocks"), ("bf16", "blocks")])
def test_compiled_it_computes_the_same(teacher, metadata, precision, convolutions):
    engine = ResolvedEngine(precision, convolutions, False, 8)
    losses, gradient = start(teacher, metadata, replace(engine, compile=True))
    plain_losses, plain_gradient = start(teacher, metadata, engine)
    error = (gradient - plain_gradient).norm() / plain_gradient.norm()
    assert error < (1e-5 if precision == "fp32" else 0.1)
    torch.testing.assert_close(losses, plain_losses, rtol=1e-5 if precision == "fp32" else 0.02, atol=0)


KINDS = {
    "units": AllLayers(covariance="top_only"),
    "channels": Channels(),
    "regions": Channels(grid=3),
    "spectrum": Channels(pixels="spectrum"),
    "styles": Channels(styles=1),
}


@pytest.fixture(scope="module", params=KINDS)
def lenet(request):
    """LeNet-5, whose units within a run lie in the order of blocks, and its metadata."""
    torch.manual_seed(0)
    network = frozen(LeNet5((1, 20, 20)))
    images = torch.rand(60, 1, 20, 20)
    inputs = InputSpec((1, 20, 20), (0.0,), (1.0,))
    return network, KINDS[request.param].collect(network, [(images, torch.arange(60) % 10)], inputs)


@pytest.mark.parametrize(
    ("precision", "compile"), [("fp32", False), ("bf16", False), pytest.param("fp32", True, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("match", [Moments, Sample])
def test_units_on_blocks_are_compared_with_their_own_statistics(lenet, precision, compile, match):
    if match is Sample and not all(statistic.drawable for statistic in lenet[1].resolved(lenet[0]).statistics):
        pytest.skip("of a spectrum and of styles nothing is drawn")
    settings = match(images_per_class=8, group_size=4)
    losses, gradient = start(*lenet, ResolvedEngine(precision, "blocks", compile, 8), settings)
    true_losses, true_gradient = start(*lenet, PLAIN, settings)
    tolerance = 1e-4 if precision == "fp32" else measure.LARGEST_GRADIENT_ERROR  # without blocks it is as large
    assert (gradient - true_gradient).norm() / true_gradient.norm() < tolerance
    torch.testing.assert_close(losses, true_losses, rtol=tolerance, atol=0)


def test_units_with_channels_last_are_compared_with_their_own_statistics(lenet):
    losses, gradient = start(*lenet, ResolvedEngine("fp32", "channels_last", False, 8))
    true_losses, true_gradient = start(*lenet, PLAIN)
    torch.testing.assert_close(gradient, true_gradient, rtol=1e-3, atol=1e-4 * float(true_gradient.abs().max()))
    torch.testing.assert_close(losses, true_losses, rtol=1e-4, atol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_blocks_a_group_does_not_depend_on_those_beside_it(lenet, precision):
    objective = Objective(problem(*lenet, SETTINGS), ResolvedEngine(precision, "blocks", False, 8))
    losses, gradient = objective(*draw_groups(objective, [0, 1, 2], seed=0))
    alone, own_gradient = objective(*draw_groups(objective, [1], seed=0))
    torch.testing.assert_close(alone, losses[1:2], rtol=1e-3, atol=0)
    assert (own_gradient - gradient[4:8]).norm() <= 1e-3 * own_gradient.norm()


@pytest.mark.parametrize("engine", ENGINES[1:], ids=choose.describe)
def test_its_images_fit_the_metadata_as_well_and_whatever_is_made_beside_them(teacher, metadata, engine):
    plain = reconstruct(teacher, metadata, 8, steps=40, group_size=4, engine=PLAIN)
    images = reconstruct(teacher, metadata, 8, steps=40, group_size=4, engine=engine)
    assert images.losses[-1].mean().item() == pytest.approx(plain.losses[-1].mean().item(), rel=0.05)
    alone = reconstruct(teacher, metadata, 8, steps=40, group_size=4, engine=replace(engine, images_per_batch=4))
    torch.testing.assert_close(images.losses[0], alone.losses[0], rtol=0.01, atol=0)
    torch.testing.assert_close(images.losses[-1], alone.losses[-1], rtol=0.05, atol=0)


def test_the_teacher_itself_stays_as_it_was(teacher, metadata):
    start(teacher, metadata, ResolvedEngine("bf16", "blocks", False, 8))
    assert {parameter.dtype for parameter in teacher.parameters()} == {torch.float32}
    assert any(isinstance(module, nn.Conv2d) for module in teacher.modules())


def test_little_work_is_done_plainly_without_measuring(teacher, metadata, tmp_path, monkeypatch):
    monkeypatch.setattr(choose, "WORTH_MEASURING", 1e9)
    assert resolve_engine(Engine(), problem(teacher, metadata, SETTINGS), tmp_path / "engine.json") == PLAIN
    assert (
        resolve_engine(Engine(precision="bf16"), problem(teacher, metadata, SETTINGS), tmp_path / "x").precision
        == "bf16"
    )
    assert not list(tmp_path.iterdir())


def measured(cache):
    """The precisions that are kept, and the one engine that is."""
    known = json.loads(cache.read_text())
    kept = known.pop(PRECISION)
    [found] = known.values()
    return kept, found


def test_rows_of_one_table_do_not_differ_in_a_precision_that_was_measured(teacher, metadata, tmp_path, monkeypatch):
    """Another match, another number of images: other work, measured anew, but with the precision of the first."""
    rates = {"fp32": 1.0, "bf16": 2.0}
    at_rates(monkeypatch, lambda engine: rates[engine.precision])
    cache, open_choice = tmp_path / "engine.json", Engine(compile=False)
    assert resolve_engine(open_choice, problem(teacher, metadata, SETTINGS), cache).precision == "bf16"
    rates |= {"fp32": 9.0}
    other = problem(teacher, metadata, Sample(images_per_class=16, group_size=8))
    assert resolve_engine(open_choice, other, cache).precision == "bf16"
    monkeypatch.setattr(choose, "WORTH_MEASURING", 1e30)
    assert resolve_engine(open_choice, other, cache).precision == "bf16", "little work too"
    assert resolve_engine(Engine(precision="fp32"), other, cache).precision == "fp32", "but for what is asked for"


def test_a_precision_that_is_too_rough_for_this_metadata_is_said(teacher, metadata, tmp_path, monkeypatch, capsys):
    asked, cache = problem(teacher, metadata, SETTINGS), tmp_path / "engine.json"
    at_rates(monkeypatch, lambda engine: 1.0 + (engine.precision == "bf16"))
    assert resolve_engine(Engine(compile=False), asked, cache).precision == "bf16"
    monkeypatch.setattr(measure, "LARGEST_GRADIENT_ERROR", 1e-6)
    assert resolve_engine(Engine(compile=False), asked, cache).precision == "fp32"
    assert "bf16, which other work with this kind of teacher used, is too rough" in capsys.readouterr().err


def test_what_was_measured_is_kept_and_believed(teacher, metadata, tmp_path, monkeypatch, capsys):
    cache = tmp_path / "store" / "engine.json"
    open_choice = Engine(compile=False)
    chosen = resolve_engine(open_choice, problem(teacher, metadata, SETTINGS), cache)
    assert isinstance(chosen, ResolvedEngine)
    kept, found = measured(cache)
    assert found["image_steps_per_second"] > 0
    assert set(kept.values()) == {chosen.precision}
    assert "times plain PyTorch" in capsys.readouterr().out
    monkeypatch.setattr(choose, "fastest", None)  # calling it would fail
    assert resolve_engine(open_choice, problem(teacher, metadata, SETTINGS), cache) == chosen
    assert resolve_engine(chosen, problem(teacher, metadata, SETTINGS), cache) == chosen


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b""], ids=["cut off", "a list", "bytes", "empty"])
def test_a_file_of_engines_that_cannot_be_read_is_a_warning_and_written_anew(
    teacher, metadata, tmp_path, monkeypatch, capsys, content
):
    cache = tmp_path / "engine.json"
    cache.write_bytes(content)
    chosen = resolve_engine(Engine(compile=False), problem(teacher, metadata, SETTINGS), cache)
    assert capsys.readouterr().err.count("warning") == 1
    monkeypatch.setattr(choose, "fastest", None)  # calling it would fail
    assert resolve_engine(Engine(compile=False), problem(teacher, metadata, SETTINGS), cache) == chosen
    assert not capsys.readouterr().err


ODD_ENTRIES = [
    None, [], {}, {"precision": "fp8"}, {"convolutions": "rows"}, {"images_per_batch": "many"}, {"images_per_batch": 2.5}, {"compile": 1},
]  # fmt: skip


@pytest.mark.parametrize("entry", ODD_ENTRIES, ids=str)
def test_an_entry_of_unknown_form_is_measured_again_and_the_others_stay(
    teacher, metadata, tmp_path, monkeypatch, capsys, entry
):
    cache = tmp_path / "engine.json"
    resolve_engine(Engine(compile=False), problem(teacher, metadata, SETTINGS), cache)
    known = json.loads(cache.read_text())
    key, good = next((key, value) for key, value in known.items() if key != PRECISION)
    cache.write_text(json.dumps({**known, key: {**good, **entry} if entry else entry, "another": 1}))
    capsys.readouterr()
    chosen = resolve_engine(Engine(compile=False), problem(teacher, metadata, SETTINGS), cache)
    assert capsys.readouterr().err.count("warning") == 1
    known = json.loads(cache.read_text())
    assert known["another"] == 1
    assert ResolvedEngine(**{name: known[key][name] for name in CHOICES}) == chosen


ODD_FILES = [b"", b"\xff", b"[]", b'{"precision": []}', b'{"a": NaN}', b"[" * 9999, "pipe", "folder"]


@pytest.mark.parametrize("content", ODD_FILES, ids=range(len(ODD_FILES)))
def test_a_file_of_choices_that_cannot_be_read_is_put_aside(content, tmp_path, capsys):
    cache = tmp_path / "engine.json"
    if content == "pipe":
        os.mkfifo(cache)
    elif content == "folder":
        cache.mkdir()
    else:
        cache.write_bytes(content)
    assert Known(cache).precision(torch.nn.Identity()) is None
    assert not cache.exists()
    assert capsys.readouterr().err.count("engine.json cannot be read") == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"settings": replace(SETTINGS, group_size=8)},
        {"terms": [TotalVariation()]},
        {"settings": Sample(images_per_class=8, group_size=4, steps=10)},
        {"engine": Engine(precision="fp32", compile=False)},
        {"threads": 7},
    ],
    ids=lambda change: str(change)[:60],
)
def test_what_the_choice_depends_on_is_asked_for_anew(teacher, metadata, tmp_path, monkeypatch, change):
    cache = tmp_path / "engine.json"
    resolve_engine(Engine(compile=False), problem(teacher, metadata, SETTINGS), cache)
    if "threads" in change:
        monkeypatch.setattr(torch, "get_num_threads", lambda: change["threads"])
    settings, terms = change.get("settings", SETTINGS), change.get("terms", ())
    asked = problem(teacher, metadata, settings, Pixels(), terms)
    resolve_engine(change.get("engine", Engine(compile=False)), asked, cache)
    assert len(json.loads(cache.read_text()).keys() - {PRECISION}) == 2


def test_the_two_best_are_compiled_and_the_best_of_all_is_taken(teacher, metadata, tmp_path, monkeypatch):
    """Compiling may turn the order round."""
    rates = {("bf16", "direct"): 4.0, ("bf16", "blocks"): 3.0, ("fp32", "direct"): 1.0, ("fp32", "blocks"): 2.0}
    compiled = []

    def rate(engine):
        form = (engine.precision, engine.convolutions)
        compiled.extend([form] if engine.compile else [])
        return (
            rates.get(form, 0.5)
            * (10 if engine.compile and form == ("bf16", "blocks") else 1)
            / engine.images_per_batch
        )

    at_rates(monkeypatch, rate)
    chosen = resolve_engine(Engine(), problem(teacher, metadata, SETTINGS))
    assert compiled == [("bf16", "direct"), ("bf16", "blocks")]
    assert chosen == ResolvedEngine("bf16", "blocks", True, 4), "one group of the six at a time is fastest"


def test_a_settled_engine_leaves_nothing_open():
    with pytest.raises(ConfigError, match=r"engine\.compile must be chosen, got None"):
        ResolvedEngine(compile=None)
    assert ResolvedEngine().identity() == Engine(precision="fp32", convolutions="direct").identity()


def test_what_the_user_says_is_not_changed(teacher, metadata, tmp_path, monkeypatch):
    said = Engine(precision="bf16", convolutions="direct", compile=False)
    assert resolve_engine(said, problem(teacher, metadata, SETTINGS), tmp_path / "engine.json").precision == "bf16"
    assert (
        resolve_engine(
            replace(said, images_per_batch=4), problem(teacher, metadata, SETTINGS), tmp_path / "x"
        ).images_per_batch
        == 4
    )


def test_where_nothing_can_be_compiled_the_work_is_done_uncompiled(teacher, metadata, tmp_path, monkeypatch, capsys):

    def without_compiler(*_, **__):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", without_compiler)
    assert resolve_engine(Engine(), problem(teacher, metadata, SETTINGS), tmp_path / "engine.json").compile is False
    assert "not compiled (RuntimeError)" in capsys.readouterr().out


def test_a_precision_that_is_too_far_off_is_not_taken(teacher, metadata, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "LARGEST_GRADIENT_ERROR", 1e-4)
    assert (
        resolve_engine(Engine(compile=False), problem(teacher, metadata, SETTINGS), tmp_path / "engine.json").precision
        == "fp32"
    )


@pytest.mark.parametrize(
    "wrong", [{"precision": "fp16"}, {"convolutions": "fft"}, {"images_per_batch": 0}], ids=lambda w: next(iter(w))
)
def test_wrong_choices_name_the_flag(wrong):
    with pytest.raises(ConfigError, match=f"engine.{next(iter(wrong))} must be"):
        Engine(**wrong)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_generator_and_a_student_compute_as_the_teacher_does_and_as_plain_pytorch_within_rounding(precision):
    teacher = frozen(normalised_teacher())
    metadata = AllLayers(covariance="top_only").collect(teacher, [toy_images()], INPUTS)
    student = frozen(normalised_teacher(seed=1))
    terms = [Label(), BatchNorm(), Disagreement()]

    def first_step(engine):
        objective = Objective(problem(teacher, metadata, SETTINGS, FromGenerator(width=8), terms), engine)
        objective.student = student
        values, target = draw_groups(objective, [0, 1], seed=0)
        with objective.recording(target) as recorder:
            losses = objective.losses(recorder, objective.made(values), target)
        gradient = torch.autograd.grad(losses.sum(), objective.space.shared())
        assert {tensor.dtype for tensor in (losses, objective.images(values), *gradient)} == {torch.float32}
        return losses.detach(), torch.cat([part.flatten() for part in gradient])

    losses, gradient = first_step(PLAIN)
    fast_losses, fast_gradient = first_step(ResolvedEngine(precision, "channels_last"))
    error = (fast_gradient - gradient).norm() / gradient.norm()
    if precision == "fp32":
        assert error < 1e-4
    else:
        assert 0 < error < 0.3
    torch.testing.assert_close(fast_losses, losses, rtol=1e-4 if precision == "fp32" else 0.02, atol=1e-3)


def test_in_the_loop_a_precision_is_chosen_without_measuring_and_kept(monkeypatch, teacher, metadata, tmp_path):
    cache, asked = (
        tmp_path / "engine.json",
        problem(teacher, metadata, SETTINGS, FromGenerator(width=4), [Disagreement()]),
    )
    monkeypatch.setattr(choose, "multiplies_bf16", lambda device: True)
    monkeypatch.setattr(choose, "precisions", lambda problem, plain: ["fp32", "bf16"])
    chosen = ResolvedEngine("bf16", "channels_last")
    assert engine_in_the_loop(Engine(), asked, cache) == chosen
    monkeypatch.setattr(choose, "multiplies_bf16", lambda device: False)
    assert engine_in_the_loop(Engine(), asked, cache) == chosen, "all work with that kind of teacher has one precision"
    assert engine_in_the_loop(Engine(), asked).precision == "fp32"
    assert engine_in_the_loop(Engine(precision="fp32", convolutions="direct"), asked, cache) == PLAIN


def test_in_the_loop_nothing_is_compiled():
    Engine(compile=False).check_in_the_loop()
    with pytest.raises(ConfigError, match=r"engine.compile must be false, or empty, where images are made while a stu"):
        Engine(compile=True).check_in_the_loop()
