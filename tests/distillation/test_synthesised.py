"""A student in the loop: what it is shown, when, and that a training that was interrupted goes on as if it had not been."""

import itertools
from dataclasses import replace

import pytest
import torch

from dfkd_exp.distillation.distill import train_on_teacher
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.distillation.synthesis import Synthesis
from dfkd_exp.distillation.synthesised import Synthesised
from dfkd_exp.errors import ConfigError
from dfkd_exp.metadata.gaussian import AllLayers
from dfkd_exp.models.recording import frozen
from dfkd_exp.reconstruction.engine.settings import PLAIN
from dfkd_exp.reconstruction.moments import Moments
from dfkd_exp.reconstruction.objective import Objective, draw_groups
from dfkd_exp.reconstruction.optimizers import Adam
from dfkd_exp.reconstruction.parametrisation.generator import FromGenerator
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from dfkd_exp.reconstruction.problem import Problem
from dfkd_exp.reconstruction.terms.class_entropy import ClassEntropy
from dfkd_exp.reconstruction.terms.contrast import Contrast
from dfkd_exp.reconstruction.terms.disagreement import Disagreement
from dfkd_exp.reconstruction.terms.label import Label
from dfkd_exp.reconstruction.terms.term import Candidates
from dfkd_exp.seeding import derive_seed
from tests.toy import INPUTS, toy_images, toy_teacher


def synthesised(made_of=None, terms=(), moves=None, **settings):
    """What is made from the toy teacher, in groups of four."""
    teacher = frozen(toy_teacher())
    metadata = AllLayers(covariance="top_only").collect(teacher, [toy_images()], INPUTS).resolved(teacher)
    asked = Moments(images_per_class=4, group_size=4, schedule="constant", **(moves or {}))
    problem = Problem(teacher, metadata, asked, made_of or FromGenerator(latents=5, width=4), terms)
    epochs = settings.pop("epochs", 1)
    settings = Synthesis(**{"images": 40, "batch_size": 8, "groups": 2, **settings})
    return Synthesised(settings, lambda: Objective(problem, PLAIN), Adam(lr=0.01), {}, 0, seed=1, epochs=epochs)


def student():
    torch.manual_seed(3)
    return toy_teacher()


def shown(images, epoch=0, size=8):
    return [batch.pixels.clone() for batch in images.batches(epoch, size, seed=0)]


DISAGREEMENT = Disagreement()


def loop(made_of=None, terms=(DISAGREEMENT,), **settings):
    """With the student in it."""
    images = synthesised(made_of, terms, **settings)
    images.adapt(student())
    return images


def test_an_epoch_has_as_many_images_as_are_asked_for_and_batches_are_equal_for_equal_seeds():
    first, second = shown(loop()), shown(loop())
    assert [len(batch) for batch in first] == [8] * 5
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_batch_is_shown_as_often_as_is_asked_for(steps):
    batches = shown(loop(student_steps=steps))
    equal = [torch.equal(one, other) for one, other in itertools.pairwise(batches)]
    assert equal == [(index + 1) % steps != 0 for index in range(4)]


def test_a_batch_may_be_shown_for_longer_than_an_epoch():
    images = loop(student_steps=7)
    batches = [batch for epoch in range(3) for batch in shown(images, epoch)]
    assert images.synthesiser.made == 3
    assert [torch.equal(one, other) for one, other in itertools.pairwise(batches)] == [
        step not in (7, 14) for step in range(1, 15)
    ]


def test_fresh_batches_are_of_other_latents_of_the_same_generator():
    images = loop(student_steps=5, fresh=True)
    batches = shown(images)
    assert images.synthesiser.made == 1
    assert len({batch.sum().item() for batch in batches}) == 5


def test_the_student_is_left_as_it_was():
    network = student().train()
    network[0].weight.requires_grad_(False)
    images = loop()
    images.adapt(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    shown(images)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [p.requires_grad for p in network.parameters()] == [False] + 5 * [True]
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(("terms", "asked"), [([ClassEntropy()], 0), ([ClassEntropy(), Disagreement()], 3)])
def test_a_student_is_asked_where_a_term_looks_at_it_and_not_otherwise(terms, asked):
    images, network, calls = synthesised(terms=terms, steps=3), student(), []
    network.register_forward_hook(lambda *_: calls.append(1))
    images.adapt(network)
    next(images.batches(0, 8, seed=0))
    assert len(calls) == asked


def test_what_is_made_depends_on_the_student_if_a_term_looks_at_it():
    one, other = loop(), loop()
    other.adapt(toy_teacher(seed=5))
    assert not torch.equal(shown(one)[1], shown(other)[1])
    one, other = loop(terms=(Label(),)), loop(terms=(Label(),))
    other.adapt(toy_teacher(seed=5))
    assert torch.equal(shown(one)[1], shown(other)[1])


@pytest.mark.parametrize("made_of", [Pixels(), FromGenerator(latents=5, width=4, kept="batch", optimise_latents=True)])
def test_more_steps_fulfil_the_objective_better(made_of):
    def loss(steps):
        images = synthesised(made_of, steps=steps)
        objective, recorded = images.synthesiser.objective, []
        real = objective.losses
        objective.losses = lambda *parts: recorded.append(real(*parts)) or recorded[-1]
        shown(images)
        return torch.stack(recorded[steps - 1 :: steps]).mean()

    assert loss(30) < 0.7 * loss(1)


def test_a_generator_that_is_kept_learns_from_batch_to_batch():
    images = synthesised(FromGenerator(latents=5, width=4), images=800)
    objective, losses = images.synthesiser.objective, []
    real = objective.losses
    objective.losses = lambda *parts: losses.append(real(*parts)) or losses[-1]
    shown(images)
    losses = torch.stack(losses).mean(1)
    assert losses[-10:].mean() < 0.7 * losses[:10].mean()


NOISY = FromGenerator(latents=5, width=4, latents_from="classes", noisy_layers=4, renew_every=3)
META = FromGenerator(latents=5, width=4, kept="meta", optimise_latents=True, latents_lr=0.05)
FORMS = {
    "generator": {},
    "fresh": {"student_steps": 2, "fresh": True},
    "pool": {"pool": 16, "student_steps": 2},
    "generator of a batch": {
        "made_of": FromGenerator(latents=5, width=4, kept="batch", optimise_latents=True),
        "steps": 2,
    },
    "pixels": {"made_of": Pixels()},
    "contrast": {"terms": (Contrast(bank=12, dimensions=3), Label()), "steps": 2},
    "contrast of a batch": {
        "made_of": FromGenerator(latents=5, width=4, kept="batch", optimise_latents=True),
        "terms": (Label(), Contrast(bank=20, negatives=5, dimensions=3)),
        "moves": {"shift": 1},
    },
    "moved": {"made_of": Pixels(), "moves": {"shift": 2, "flip": True}, "steps": 2},
    "learned start": {"made_of": META, "steps": 2},
    "noisy layers": {"made_of": NOISY, "steps": 2},
    "learned start, fresh": {"made_of": META, "steps": 2, "fresh": True, "schedule": "cosine", "epochs": 3},
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_made_after_an_interruption_is_what_would_have_been_made(form):
    whole, broken, continued = (loop(**FORMS[form]) for _ in range(3))
    expected = [shown(whole, epoch) for epoch in range(3)][-1]
    for epoch in range(2):
        shown(broken, epoch)
    continued.load_state({name: value.clone() for name, value in broken.state().items()})
    assert all(torch.equal(one, other) for one, other in zip(shown(continued, epoch=2), expected, strict=True))


def test_image_steps_are_counted_over_an_interruption():
    broken, continued = (loop(student_steps=2, steps=3) for _ in range(2))
    shown(broken)
    assert broken.image_steps == 3 * 8 * 3
    continued.load_state(broken.state())
    shown(continued, epoch=1)
    assert continued.image_steps == 5 * 8 * 3  # ten batches are shown, each twice


@pytest.mark.parametrize("form", FORMS)
def test_to_look_at_a_sample_changes_nothing_of_what_is_made(form):
    watched, alone = (loop(**FORMS[form]) for _ in range(2))
    for images in (watched, alone):
        shown(images)
    seen = list(itertools.islice(watched.sample(6, seed=1), 2))
    assert all(batch.pixels.isfinite().all() for batch in seen)
    watched.preview(num_classes=3, samples=1)
    assert all(torch.equal(one, other) for one, other in zip(shown(watched, 1), shown(alone, 1), strict=True))


def test_what_a_term_learns_and_remembers_goes_with_the_run():
    images = loop(terms=(Contrast(bank=100, dimensions=3), Label()))
    begun = images.state()
    shown(images)
    state = images.state()
    assert int(state["learned.0.added"]) == 40
    assert state["learned.0.bank"][:40].any(1).all()
    assert not state["learned.0.bank"][40:].any()
    assert not torch.equal(state["learned.0.head.0.weight"], begun["learned.0.head.0.weight"])
    assert state["learning.0.step"] == 5
    other = loop(terms=(Contrast(bank=100, dimensions=3), Label()))
    assert torch.equal(other.state()["learned.0.head.0.weight"], begun["learned.0.head.0.weight"])


def test_a_learned_start_moves_along_the_sum_of_the_gradients_of_a_batch():
    """Fast's, written out: an inner Adam of weights and latents from the start, an outer one of the start, at k times the rate."""
    steps, made = 3, synthesised(META, steps=3).synthesiser
    objective = synthesised(META).synthesiser.objective
    network = objective.space.network
    start = [weights.detach().clone().requires_grad_(True) for weights in network.parameters()]
    outer = torch.optim.Adam(start, lr=steps * 0.01)
    for number in range(3):
        pixels, _ = made.make()
        latents, target = draw_groups(objective, [2 * number, 2 * number + 1], derive_seed(1, "batch"))
        latents.requires_grad_(True)
        with torch.no_grad():
            for weights, from_here in zip(network.parameters(), start, strict=True):
                weights.copy_(from_here)
        inner = torch.optim.Adam([{"params": network.parameters(), "lr": 0.01}, {"params": [latents], "lr": 0.05}])
        total = [torch.zeros_like(weights) for weights in start]
        for _ in range(steps):
            with objective.recording(target) as recorder:
                last = objective.made(latents)
                loss = objective.losses(recorder, last, target).mean()
            gradients = torch.autograd.grad(loss, [*network.parameters(), latents])
            for tensor, gradient in zip([*network.parameters(), latents], gradients, strict=True):
                tensor.grad = gradient
            total = [one + other for one, other in zip(total, gradients, strict=False)]
            inner.step()
        torch.testing.assert_close(pixels, last[0].detach(), rtol=1e-4, atol=1e-5)
        for weights, gradient in zip(start, total, strict=True):
            weights.grad = gradient
        outer.step()
    for weights, expected in zip(made.objective.space.starts(), start, strict=True):
        if weights.dim() > 1:  # biases before a BatchNorm have no gradient but rounding, of which Adam takes the sign
            torch.testing.assert_close(weights, expected.detach(), rtol=1e-3, atol=1e-4)


def test_from_a_learned_start_few_steps_fulfil_the_objective_better_than_from_any():
    means = {}
    for kept in ("meta", "batch"):
        images = synthesised(replace(META, kept=kept, latents_lr=None), images=400, steps=2)
        objective, seen = images.synthesiser.objective, []
        real = objective.losses
        objective.losses = lambda *parts, real=real, seen=seen: seen.append(real(*parts)) or seen[-1]
        shown(images)
        means[kept] = torch.stack(seen[-20:]).mean()
    assert means["meta"] < 0.7 * means["batch"]


def rates(**settings):
    """Of the generator's optimiser, batch by batch, over two epochs of five."""
    images, seen = synthesised(epochs=2, **settings), []
    for epoch in range(2):
        for _ in images.batches(epoch, 8, seed=0):
            seen.append(images.synthesiser._kept.param_groups[0]["lr"])
    return torch.tensor(seen)


def test_the_rate_falls_along_a_cosine_over_all_batches_that_are_made():
    every = 0.01 * (1 + torch.cos(torch.pi * torch.arange(10) / 10)) / 2
    torch.testing.assert_close(rates(schedule="cosine"), every)
    torch.testing.assert_close(rates(), torch.full((10,), 0.01))
    # Five batches are made where each is shown twice.
    made = 0.01 * (1 + torch.cos(torch.pi * torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 4]) / 5)) / 2
    torch.testing.assert_close(rates(schedule="cosine", student_steps=2), made)


def test_gradients_are_no_longer_than_is_asked_for():
    def norms(clip):
        made = synthesised(clip=clip).synthesiser
        made.make()
        return torch.stack([weights.grad.norm() for weights in made.objective.space.shared()]).norm()

    free = norms(None)
    torch.testing.assert_close(norms(float(free) / 2), free / 2, rtol=1e-4, atol=0)
    torch.testing.assert_close(norms(float(free) * 2), free)


def test_a_student_in_the_loop_is_trained():
    images = synthesised(terms=(Disagreement(weight=0.1),))
    settings = Distillation(epochs=2, batch_size=8)
    before = student().state_dict()["0.weight"]
    trained = train_on_teacher(student(), toy_teacher(), images, INPUTS, settings, seed=0, label="the student")
    assert not torch.equal(trained.state_dict()["0.weight"], before)
    assert images.synthesiser.made == 10


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"images": 0}, "images"), ({"steps": 0}, "steps"), ({"student_steps": 0}, "student_steps"), ({"pool": 3}, "pool"),
        ({"pool": 400, "fresh": True}, "fresh"), ({"clip": 0.0}, "clip"), ({"schedule": "one_cycle"}, "schedule"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(settings, flag):
    with pytest.raises(ConfigError, match=rf"source\.{flag} must be"):
        Synthesis(**settings)


@pytest.mark.parametrize(
    ("batch", "classes", "groups"), [(250, 10, 10), (250, 1, 1), (64, 10, 8), (64, 1000, 8), (6, 3, 1)]
)
def test_a_batch_has_a_group_for_each_class_as_far_as_they_are_not_too_small(batch, classes, groups):
    assert Synthesis(batch_size=batch).num_groups(classes) == groups
    assert Synthesis(batch_size=batch, groups=2).num_groups(classes) == 2


def test_what_holds_of_all_classes_is_asked_of_the_batch_and_not_of_each_class():
    def lost(terms):
        objective = synthesised(Pixels(), terms).synthesiser.objective
        drawn = draw_groups(objective, range(2), seed=0, group_size=4)
        return objective, drawn, objective(*drawn)[0]

    term = ClassEntropy(weight=2.0)
    objective, (values, _), with_term = lost((term,))
    *_, without = lost(())
    pixels = objective.images(values)
    logits = objective.teacher(objective._inputs(pixels))
    expected = 2.0 * term(Candidates(pixels, logits, torch.zeros(8).long(), num_groups=1))
    torch.testing.assert_close(with_term - without, expected.expand(2), rtol=1e-4, atol=1e-5)
