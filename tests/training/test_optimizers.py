"""Optimisers and their parameter groups, schedules and their rates."""

import math

import pytest
import torch
from torch import nn

from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.training.optimizers import Adam, AdamW, Auto, CustomOptimizer, Optimizer, Sgd
from dfkd_exp.training.schedules import Constant, Cosine, OneCycle, Steps

RMSPROP = CustomOptimizer(_target_="torch.optim.RMSprop", weight_decay=0.1, kwargs={"momentum": 0.9})
DECAYING = [Adam(weight_decay=0.1), AdamW(weight_decay=0.1), Sgd(weight_decay=0.1), RMSPROP]


def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 4), nn.LayerNorm(4))


@pytest.mark.parametrize("settings", DECAYING, ids=lambda settings: type(settings).__name__)
def test_norms_and_biases_do_not_decay_and_the_other_weights_do(settings):
    net = network()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1.0)
    optimizer = settings.build(net)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(3):
        optimizer.step()
    decayed = {name for name, parameter in net.named_parameters() if (parameter < 1).all()}
    assert decayed == {"0.weight", "3.weight"}
    assert all((parameter == 1).all() for name, parameter in net.named_parameters() if name not in decayed)


@pytest.mark.parametrize("settings", DECAYING, ids=lambda settings: type(settings).__name__)
def test_all_parameters_decay_if_that_is_asked(settings):
    net = network()
    [group] = type(settings)(**{**vars(settings), "decay_all": True}).build(net).param_groups
    assert len(group["params"]) == len(list(net.parameters()))
    assert group["weight_decay"] == 0.1


def test_auto_is_sgd_for_networks_with_batch_norm_and_adam_for_others():
    settings = Auto(lr=0.003, sgd_lr=0.2, weight_decay=0.01)
    with_norm, without = settings.build(network()), settings.build(nn.Linear(3, 2))
    assert type(with_norm) is torch.optim.SGD
    assert {group["lr"] for group in with_norm.param_groups} == {0.2}
    assert [group["weight_decay"] for group in with_norm.param_groups] == [0.01, 0]
    assert type(without) is torch.optim.Adam
    assert [(group["lr"], group["weight_decay"]) for group in without.param_groups] == [(0.003, 0)]
    assert settings.rate_flag(network()) == "training.optimizer.sgd_lr (now 0.2)"
    assert settings.rate_flag(nn.Linear(3, 2)) == "training.optimizer.lr (now 0.003)"


@pytest.mark.parametrize(
    ("settings", "theirs", "options"),
    [
        (Adam(lr=0.01), torch.optim.Adam, {}),
        (AdamW(lr=0.01, decay_all=True), torch.optim.AdamW, {"weight_decay": 0.01}),
        (Sgd(lr=0.01, weight_decay=0), torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (CustomOptimizer(lr=0.01, _target_="torch.optim.Rprop"), torch.optim.Rprop, {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_optimiser_is_pytorchs(settings, theirs, options):
    def trained(build):
        torch.manual_seed(0)
        net, images = nn.Linear(5, 3), torch.randn(20, 5)
        optimizer = build(net)
        for _ in range(4):
            optimizer.zero_grad()
            net(images).square().mean().backward()
            optimizer.step()
        return net.weight

    torch.testing.assert_close(
        trained(settings.build), trained(lambda net: theirs(net.parameters(), lr=0.01, **options))
    )


@pytest.mark.parametrize(
    ("cls", "wrong", "message"),
    [
        (Adam, {"lr": 0.0}, "training.optimizer.lr must be positive"),
        (Adam, {"betas": [0.9]}, "training.optimizer.betas must be two numbers"),
        (AdamW, {"weight_decay": -1.0}, "training.optimizer.weight_decay must be at least 0"),
        (Sgd, {"momentum": 1.0}, "training.optimizer.momentum must be at least 0 and below 1"),
        (Sgd, {"momentum": 0.0}, "training.optimizer.nesterov must be false with training.optimizer.momentum=0"),
        (CustomOptimizer, {}, "training.optimizer._target_ must be an import path"),
        (OneCycle, {"warmup": 1.0}, "training.schedule.warmup must be at least 0 and below 1"),
        (Steps, {"at": [0.5, 1.0]}, "training.schedule.at must be shares of the training"),
        (Steps, {"to": 1.0}, "training.schedule.to must be between 0 and 1"),
    ],
)
def test_what_cannot_be_is_refused_by_its_flag(cls, wrong, message):
    with pytest.raises(ConfigError, match=message):
        cls(**wrong)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (CustomOptimizer(_target_="torch.optim.Nothing"), "has nothing called Nothing"),
        (CustomOptimizer(_target_="torch.nn.Linear"), "is not a torch.optim.Optimizer"),
        (CustomOptimizer(_target_="torch.optim.LBFGS"), "evaluates a batch several times"),
        (CustomOptimizer(_target_="torch.optim.RMSprop", kwargs={"momentun": 1}), "do not fit torch.optim.RMSprop"),
        (CustomOptimizer(_target_="torch.optim.Rprop", weight_decay=0.1), "'weight_decay': 0.1.*do not fit"),
    ],
    ids=lambda value: getattr(value, "_target_", ""),
)
def test_a_custom_optimiser_that_cannot_be_used_is_one_line(settings: Optimizer, message):
    with pytest.raises(DfkdError, match=message):
        settings.build(network())


def rates(schedule, steps=10):
    return [schedule.factor(step, steps) for step in range(steps)]


def test_a_cosine_falls_from_the_full_rate_to_zero():
    assert rates(Constant()) == [1.0] * 10
    assert rates(Cosine()) == pytest.approx([(1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)])
    assert Cosine().factor(10, 10) == 0


def test_one_cycle_rises_along_a_line_and_falls_to_zero():
    found = rates(OneCycle(warmup=0.3), 100)
    assert found[:31] == pytest.approx([(step + 1) / 31 for step in range(31)])
    assert max(found) == found[30] == 1
    assert found[31:] == sorted(found[31:], reverse=True)
    assert 0 < found[-1] < 1e-3
    assert OneCycle().factor(100, 100) == 0
    assert rates(OneCycle(warmup=0)) == rates(Cosine())


def test_steps_fall_at_their_shares_of_the_training():
    assert rates(Steps()) == pytest.approx([1] * 4 + [0.1] * 4 + [0.01] * 2)
    assert rates(Steps(at=[0.5], to=0.2)) == pytest.approx([1] * 5 + [0.2] * 5)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_trainings_have_a_rate_too(steps):
    assert all(0 < rate <= 1 for rate in rates(OneCycle(warmup=0.9), steps))
