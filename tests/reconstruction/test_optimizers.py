"""Every optimiser of conf/optimizer lowers the loss with its own defaults."""

import pytest
from hydra import compose, initialize_config_dir

from dfkd_exp.config.errors import CONFIG_ERRORS, explain
from dfkd_exp.config.groups import CONF, choices
from dfkd_exp.config.typed import typed
from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata import AllLayers
from dfkd_exp.reconstruction.loop import reconstruct
from dfkd_exp.reconstruction.optimizers import CustomOptimizer
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from tests.toy import INPUTS, toy_images, toy_teacher

CUSTOM = ["optimizer._target_=torch.optim.RMSprop", "+optimizer.kwargs.momentum=0.5"]


def chosen(name, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose("config", overrides=[f"optimizer={name}", *overrides])).optimizer


def fit(optimizer, match="moments", **settings):
    teacher = toy_teacher()
    metadata = AllLayers(covariance="full").collect(teacher, [toy_images()], INPUTS)
    return reconstruct(teacher, metadata, 8, match, optimizer=optimizer, **{"steps": 40} | settings).losses.mean(1)


@pytest.mark.parametrize("match", ["moments", "sample"])
@pytest.mark.parametrize("name", choices("optimizer"))
def test_it_lowers_the_loss(name, match):
    steps = 8 if name == "lbfgs" else 40  # of several evaluations each
    losses = fit(chosen(name, *(CUSTOM if name == "custom" else [])), match, steps=steps)
    assert losses[-1] < 0.6 * losses[0], losses


@pytest.mark.parametrize("flag", ["optimizer.kwargs.momentum=0.5", "optimizer.kwargs={momentum: 0.5}"])
def test_arguments_without_a_plus_are_answered_with_the_plus(flag):
    with pytest.raises(CONFIG_ERRORS) as caught:
        chosen("custom", flag)
    assert "+optimizer.kwargs.NAME=VALUE" in explain(caught.value)


def test_weight_decay_pulls_pixels_to_zero():
    assert chosen("adamw").weight_decay > 0
    teacher = toy_teacher()
    metadata = AllLayers().collect(teacher, [toy_images()], INPUTS)
    weak, strong = (
        reconstruct(
            teacher,
            metadata,
            4,
            steps=20,
            parametrisation=Pixels(clamp=False),
            optimizer=chosen("adamw", f"optimizer.weight_decay={w}"),
        )
        for w in (0.01, 10)
    )
    assert strong.inputs.square().mean() < weak.inputs.square().mean()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"_target_": "torch.nn.Linear"}, "optimizer._target_=torch.nn.Linear is not a torch.optim.Optimizer"),
        ({"_target_": "torch.optim.Nothing"}, "module torch.optim .*has nothing called Nothing"),
        ({"_target_": "torch.optim.SGD", "kwargs": {"speed": 1}}, "optimizer.kwargs=.* do not fit torch.optim.SGD"),
        (
            {"_target_": "torch.optim.Adam", "kwargs": {"betas": [2, 2]}},
            "optimizer.kwargs=.* do not fit torch.optim.Adam",
        ),
    ],
)
def test_what_is_no_optimiser_is_refused(settings, message):
    with pytest.raises(DfkdError, match=message):
        fit(CustomOptimizer(**settings), steps=1)
