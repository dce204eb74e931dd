"""Convolutions with the channels side by side: whoever takes a view of them computes as before, and what is kept lies as it did."""

import pytest
import torch
from torch import nn

from dfkd_exp.distillation.distill import train_on_teacher
from dfkd_exp.distillation.settings import Distillation
from dfkd_exp.errors import DfkdError
from dfkd_exp.evaluation.metrics import predict_logits
from dfkd_exp.inputs import InputSpec
from dfkd_exp.metadata.gaussian import AllLayers
from dfkd_exp.models.channels_last import channels_last, takes_channels_last
from dfkd_exp.models.recording import frozen
from dfkd_exp.reconstruction.engine.choose import engine_in_the_loop
from dfkd_exp.reconstruction.engine.form import formed
from dfkd_exp.reconstruction.engine.measure import _candidates
from dfkd_exp.reconstruction.engine.settings import Engine, ResolvedEngine
from dfkd_exp.reconstruction.moments import Moments
from dfkd_exp.reconstruction.objective import Objective
from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
from dfkd_exp.reconstruction.problem import Problem
from dfkd_exp.training.settings import Training
from dfkd_exp.training.supervised import train_on_labels
from dfkd_exp.training.transfer_set import FixedImages

COLOUR = InputSpec((3, 8, 8), (0.0,), (1.0,))
EXAMPLE = COLOUR.example()


class TakesView(nn.Module):
    """As most code on the web does: `view`, not `flatten`, behind convolutions. ``orders``: how their outputs lay in memory."""

    def __init__(self, flattens=False):
        super().__init__()
        self.convolution, self.dense, self.flattens = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(512, 3), flattens
        self.orders = set()

    def forward(self, images):
        maps = self.convolution(images)
        self.orders.add("channels first" if maps.is_contiguous() else "channels last")
        return self.dense(maps.flatten(1) if self.flattens else maps.view(len(maps), -1))


def network(flattens=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TakesView(flattens)


def images(count=12):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(count) % 3


def problem(teacher):
    metadata = AllLayers(covariance="top_only").collect(teacher, [images()], COLOUR).resolved(teacher)
    return Problem(teacher, metadata, Moments(images_per_class=4, group_size=4), Pixels())


@pytest.mark.parametrize(
    ("asked", "example", "takes"),
    [
        (network(flattens=True), EXAMPLE, True), (network(), EXAMPLE, False), (nn.Flatten(), EXAMPLE, False),
        (nn.Conv1d(3, 4, 3), torch.rand(2, 3, 8), False), (nn.ConvTranspose2d(3, 4, 3), EXAMPLE, False),
    ],
)  # fmt: skip
def test_a_network_that_takes_a_view_does_not_take_it(asked, example, takes):
    modes = [
        (module.training, parameter.requires_grad) for module in asked.modules() for parameter in asked.parameters()
    ]
    assert takes_channels_last(asked, example) is takes
    assert modes == [(m.training, p.requires_grad) for m in asked.modules() for p in asked.parameters()]


def test_within_the_context_it_computes_so_and_afterwards_its_weights_lie_as_before():
    net = network(flattens=True)
    weight, strides = net.convolution.weight.clone(), net.convolution.weight.stride()
    expected = net(EXAMPLE)
    net.orders.clear()
    with channels_last(net, EXAMPLE):
        torch.testing.assert_close(net(EXAMPLE), expected)
        assert net.orders == {"channels last"}
    assert net.convolution.weight.stride() == strides
    assert net.convolution.weight.equal(weight)


@pytest.mark.parametrize("flattens", [True, False])
def test_training_and_predictions_use_it_where_they_can(flattens):
    student, teacher, (pixels, labels) = network(flattens), frozen(network(flattens)), images()
    before = student.convolution.weight.detach().clone()
    train_on_teacher(
        student, teacher, FixedImages.of(pixels), COLOUR, Distillation(1, batch_size=6), 0, label="the student"
    )
    train_on_labels(student, FixedImages.of(pixels, labels), COLOUR, Training(1, batch_size=6), 0, label="the teacher")
    predict_logits(teacher, pixels, COLOUR)
    assert "channels last" in student.orders & teacher.orders
    assert ("channels first" in student.orders) is not flattens
    assert student.convolution.weight.is_contiguous()
    assert not student.convolution.weight.equal(before)


def test_the_engine_offers_it_to_networks_that_take_it():
    forms = {}
    for flattens in (True, False):
        asked = problem(frozen(network(flattens)))
        forms[flattens] = {c.convolutions for c in _candidates(Engine(), ResolvedEngine(), ["fp32"], asked)}
        assert engine_in_the_loop(Engine(precision="fp32"), asked).convolutions in forms[flattens]
    assert "channels_last" in forms[True]
    assert "channels_last" not in forms[False]


def test_who_asks_for_it_where_it_cannot_be_is_told_so():
    with pytest.raises(DfkdError, match=r"engine\.convolutions=channels_last .* leave it out"):
        Objective(problem(frozen(network())), ResolvedEngine(convolutions="channels_last"))


@pytest.mark.parametrize("convolution", [nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, groups=8)])
def test_so_it_does_where_weights_are_of_one_channel(convolution):
    """As those of grey images are, and of each channel by itself: what they put out would else lie as images do, and whatever comes next
    would compute eight times as long."""
    example = torch.rand(2, convolution.in_channels, 8, 8)
    expected = convolution(example)
    with channels_last(convolution, example):
        found = convolution(example)
    assert not found.is_contiguous()
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected)
    form = formed(frozen(convolution), ResolvedEngine(convolutions="channels_last"), example, keep_order=False)
    assert not form.teacher(example).is_contiguous()
    assert convolution(example).is_contiguous(), "the network itself is as it was"
