"""Classifiers that return their logits in the forms that people's networks have; each has the layers and weights of the toy teacher."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.toy import toy_teacher

Named = namedtuple("Named", "aux_logits logits")


@dataclass
class Record:
    hidden: Tensor
    logits: Tensor


FORMS = {
    "tensor": lambda z, h: z,
    "tuple": lambda z, h: (z, h),
    "list": lambda z, h: [h, None, z],
    "dict": lambda z, h: {"features": h, "logits": z},
    "ordered_dict": lambda z, h: OrderedDict(loss=z.sum(), logits=z),
    "named_tuple": lambda z, h: Named(z * 2, z),
    "dataclass": lambda z, h: Record(h, z),
    "nested": lambda z, h: {"out": (h, z), "name": "net"},
    "twice": lambda z, h: (z, z, h),
    "map": lambda z, h: z[:, :, None, None],
    "log_softmax": lambda z, h: z.log_softmax(1),
    "softmax": lambda z, h: z.softmax(1),
    "sigmoids": lambda z, h: z.sigmoid(),
    "tuple_of_softmax": lambda z, h: (h, z.softmax(1)),
    "both": lambda z, h: (z, z * 2),
    "segmentation": lambda z, h: z[:, :, None, None].expand(-1, -1, 6, 6),
    "features": lambda z, h: h,
    "one": lambda z, h: z[:, :1],
    "classes": lambda z, h: z.argmax(1),
    "no_batch": lambda z, h: z.sum(0),
    "fixed": lambda z, h: z.repeat(32, 1)[:32],
    "nothing": lambda z, h: {"loss": 1.0},
    "logit": lambda z, h: z[:, 1:2] - z[:, :1],
    "squeezed": lambda z, h: (z[:, 1:2] - z[:, :1]).squeeze(),
    "sigmoid": lambda z, h: (z[:, 1:2] - z[:, :1]).sigmoid(),
    "sigmoid_squeezed": lambda z, h: (z[:, 1] - z[:, 0]).sigmoid().view(-1),
    "logit_and_hidden": lambda z, h: {"hidden": h, "logit": z[:, 1] - z[:, 0]},
}


class Returns(nn.Module):
    """Of each image the three logits and eight hidden values of `toy_teacher`, in some form."""

    def __init__(self, form: str = "tensor", seed: int = 0):
        super().__init__()
        self.form, self.net = form, toy_teacher(seed)

    def forward(self, images: Tensor) -> object:
        hidden = self.net[:4](images)
        return FORMS[self.form](self.net[4:](hidden), hidden)


class InTraining(Returns):
    """A tensor, and in training a tuple, as GoogLeNet has it."""

    def forward(self, images: Tensor) -> object:
        self.form = "named_tuple" if self.training else "tensor"
        return super().forward(images)


class MakesItsLayer(nn.Module):
    """A layer is made when it is known how many inputs it has."""

    def __init__(self):
        super().__init__()
        self.head = None

    def forward(self, images: Tensor) -> Tensor:
        if self.head is None:
            self.head = nn.Linear(images[0].numel(), 3)
        return self.head(images.flatten(1))


def lazy() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))


def digits(form: str = "tuple") -> nn.Module:
    """For the digits: returns features beside the logits."""
    return Digits(form)


class Digits(nn.Module):
    def __init__(self, form: str):
        super().__init__()
        self.form, self.body, self.head = form, nn.Linear(64, 12), nn.Linear(12, 10)

    def forward(self, images: Tensor) -> object:
        hidden = self.body(images.flatten(1))
        return FORMS[self.form](self.head(hidden.relu()), hidden)


class WithoutGradient(Returns):
    @torch.no_grad()
    def forward(self, images: Tensor) -> object:
        return super().forward(images)
