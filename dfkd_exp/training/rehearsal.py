"""A step of training on noise: what cannot be trained is known before anything else is computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import in_brief
from dfkd_exp.inputs import InputSpec, described
from dfkd_exp.models.plain import WITHOUT_GRADIENT
from dfkd_exp.seeding import seeded
from dfkd_exp.training.settings import Training

T = TypeVar("T")
IMAGES = 2
STEPS = 10
"""Of a schedule that is looked at; a real training may have millions."""


def rehearse_training(network: nn.Module, settings: Training, inputs: InputSpec, num_classes: int, name: str) -> None:
    """Train ``network``, which a message calls ``name``, for one step on two images of noise.

    Raises DfkdError, with its flag, if optimiser, schedule, augmentation or network cannot do that. The network is changed, torch's
    generator is not.
    """
    settings = settings.suited_to(inputs.shape)
    optimizing, scheduling, augmenting = (
        f"{part.flag}: {type(part).__name__}" for part in (settings.optimizer, settings.schedule, settings.augmentation)
    )
    with seeded(0), torch.enable_grad():
        network.train()
        optimizer = tried(lambda: settings.optimizer.build(network), f"{optimizing} cannot be built for {name}")
        schedule = tried(lambda: settings.schedule.build(optimizer, STEPS), f"{scheduling} cannot be built")
        pixels, labels = torch.rand(IMAGES, *inputs.shape), torch.arange(IMAGES) % num_classes
        uniform = torch.rand(IMAGES, settings.augmentation.num_random)
        shown = tried(
            lambda: settings.shown(pixels, inputs, uniform),
            f"{augmenting} cannot change {described(inputs.shape)}",
        )
        if shown.shape != pixels.shape:
            raise DfkdError(
                f"{augmenting} makes inputs of shape {list(shown.shape[1:])} of {described(inputs.shape)}; an augmentation "
                "leaves their shape as it is"
            )
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise DfkdError(
                f"{name} has no parameter that may be trained: all are frozen (requires_grad=False). If its weights are trained already, "
                "save them, torch.save(network.state_dict(), 'FILE'), and name the file as its checkpoint"
            )
        logits = tried(lambda: network(shown), f"{name} cannot be trained")
        if not logits.requires_grad:
            raise DfkdError(f"{name} {WITHOUT_GRADIENT}, and cannot be trained; take that out of it")
        tried(lambda: F.cross_entropy(logits, labels).backward(), f"{name} cannot be trained")
        tried(optimizer.step, f"{optimizing} cannot make a step for {name}")
        for step in range(1, STEPS):
            tried(schedule.step, f"{scheduling} has no rate for step {step} of {STEPS}")
            rates = [float(group["lr"]) for group in optimizer.param_groups]
            if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
                raise DfkdError(f"{scheduling} sets a rate of {min(rates)} at step {step} of {STEPS}")


def tried(do: Callable[[], T], what: str) -> T:
    """What ``do()`` returns; whatever it raises as a DfkdError that begins with ``what``."""
    try:
        return do()
    except DfkdError:
        raise
    except Exception as error:  # of somebody else's code, any
        raise DfkdError(f"{what}: {in_brief(error)}") from error
