"""What is recorded, in which order, and that nothing is left behind."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dfkd_exp import AllLayers, distill, reconstruct
from dfkd_exp.errors import DfkdError
from dfkd_exp.evaluation.attacks import metadata_scores
from dfkd_exp.evaluation.metrics import predict_logits
from dfkd_exp.models.networks import HintonNet, LeNet5
from dfkd_exp.models.recording import OUTPUT, Layer, find_layers, frozen, recording, weights_digest
from dfkd_exp.reconstruction.engine.settings import PLAIN
from tests.toy import INPUTS, normalised_teacher, toy_images, toy_teacher

EXAMPLE = torch.rand(2, *INPUTS.shape, generator=torch.Generator().manual_seed(0))


def names(network, which="all", example=EXAMPLE):
    return [layer.name for layer in find_layers(network.eval(), example, which)]


class OutOfOrder(nn.Module):
    """Defined last to first; a block within a block; one layer applied twice; one never."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.unused = nn.Linear(5, 5)
        self.shared = nn.Linear(5, 5)
        self.body = nn.ModuleDict({"inner": nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU())})

    def forward(self, x):
        x = self.body["inner"](x)
        return self.head(self.shared(self.shared(x).relu()).relu())


def test_layers_are_found_in_the_order_of_the_forward_pass():
    assert names(OutOfOrder()) == ["body.inner.1", "shared", "head"]
    assert names(toy_teacher()) == ["0", "3", "5"]
    lenet = ["features.0", "features.3", "classifier.1", "classifier.3", "classifier.5"]
    assert names(LeNet5(), example=torch.zeros(2, 1, 32, 32)) == lenet
    assert names(HintonNet(), example=torch.zeros(2, 1, 28, 28)) == ["hidden1", "hidden2", "logits"]


def test_shapes_are_those_of_one_image():
    assert find_layers(toy_teacher(), EXAMPLE) == [Layer("0", (4, 4, 4)), Layer("3", (8,)), Layer("5", (3,))]
    assert [layer.num_units for layer in find_layers(toy_teacher(), EXAMPLE)] == [64, 8, 3]


def test_the_logits_come_last_whatever_is_named():
    assert names(OutOfOrder(), "top") == ["head"]
    assert names(OutOfOrder(), ["shared", "body.inner.1"]) == ["body.inner.1", "shared", "head"]
    assert names(OutOfOrder(), ["head", "shared"]) == ["shared", "head"]
    assert names(OutOfOrder(), []) == ["head"]


def test_layers_without_weights_may_be_named():
    assert names(OutOfOrder(), ["body.inner.2"]) == ["body.inner.2", "head"]


def test_normalisation_has_weights_and_activations_have_none():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.PReLU(), nn.Flatten(), nn.Linear(32, 3)
    )
    assert names(network) == ["0", "1", "2", "4"]


def test_an_output_that_no_layer_puts_out_is_recorded_by_itself():
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.Tanh())
    assert names(network) == ["1", OUTPUT]
    with recording(network, ["1", OUTPUT]) as recorder:
        before, after = recorder(EXAMPLE)
    torch.testing.assert_close(before.tanh(), after)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (["body.inner.7"], r"no layer 'body.inner.7'; its layers with weights are: .*body.inner.1"),
        (["unused"], "unused does not put out one tensor per image"),
        ("bottom", "must be all, dense, top or a list of module paths, got 'bottom'"),
    ],
)
def test_what_cannot_be_recorded_is_refused(which, message):
    with pytest.raises(DfkdError, match=message):
        find_layers(OutOfOrder(), EXAMPLE, which)


def test_recording_gives_what_the_layers_put_out():
    network = OutOfOrder()
    with recording(network, ["head", "shared", "body.inner.1"]) as recorder:
        head, shared, first = recorder(EXAMPLE)
    torch.testing.assert_close(first, network.body["inner"][1](EXAMPLE.flatten(1)))
    once = network.shared(first.relu())
    torch.testing.assert_close(shared, network.shared(once.relu()))  # applied twice: the last time counts
    torch.testing.assert_close(head, network(EXAMPLE))


def test_an_activation_in_place_does_not_overwrite_what_is_recorded():
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU(inplace=True), nn.Linear(5, 3))
    with recording(network, ["1"]) as recorder:
        [before] = recorder(EXAMPLE)
    torch.testing.assert_close(before, network[1](EXAMPLE.flatten(1)))
    assert (before < 0).any()


class InPlace(nn.Module):
    """What residual networks do, and no module says: each of ``ways`` once, or the same function without."""

    def __init__(self, in_place: bool):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head, self.in_place = nn.Linear(4, 3), in_place

    def forward(self, x):
        if self.in_place:
            x -= 0.25
            x.mul_(2)
        else:
            x = (x - 0.25) * 2
        shortcut = F.relu(self.norm1(self.conv1(x)), inplace=self.in_place)
        out = self.norm2(self.conv2(shortcut))
        if self.in_place:
            out += shortcut
            out[:, 0] *= -2
            torch.relu_(out)
        else:
            out = F.relu((out + shortcut) * torch.tensor([-2.0, 1, 1, 1])[:, None, None])
        logits = self.head(out.mean((2, 3)))
        return logits.mul_(3) if self.in_place else logits * 3


@pytest.fixture
def both_spellings():
    torch.manual_seed(0)  # so that every layer puts out something negative
    networks = [frozen(InPlace(in_place)) for in_place in (True, False)]
    networks[1].load_state_dict(networks[0].state_dict())
    return networks


def test_nothing_in_place_overwrites_what_is_recorded(both_spellings):
    layers, recorded, images = [], [], EXAMPLE.clone()
    for network in both_spellings:
        layers.append(find_layers(network, images))
        with recording(network, layers[-1]) as recorder:
            recorded.append(recorder(images))
            torch.testing.assert_close(recorder.output, network(images.clone()))
    assert layers[0] == layers[1]
    assert layers[0][-1].name == OUTPUT, "the last layer's own output is not what the network puts out"
    assert torch.equal(images, EXAMPLE)
    for one, other in zip(*recorded, strict=True):
        torch.testing.assert_close(one, other)
    assert all((values < 0).any() for values in recorded[0])


def test_metadata_and_images_do_not_depend_on_the_spelling(both_spellings):
    shown = torch.rand(30, *INPUTS.shape, generator=torch.Generator().manual_seed(0))
    labels, found = torch.arange(30) % 3, []
    for network in both_spellings:
        metadata = AllLayers(covariance="top_only").collect(network, [(shown, labels)], INPUTS)
        made = reconstruct(network, metadata, 4, steps=3, engine=PLAIN)
        student = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
        nn.init.zeros_(student[1].weight)
        nn.init.zeros_(student[1].bias)
        distill(student, network, made, epochs=1)
        found.append(
            [*(block.summary.tensors()["mean"] for block in metadata.statistics), made.pixels, student[1].weight]
        )
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("fails", [False, True])
def test_a_teacher_that_is_given_is_as_it_was(fails):
    """Mode, gradients, hooks and weights, also when something fails."""

    def state(network):
        modules = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()]
        return modules, [(p.requires_grad, p.device, p.grad) for p in network.parameters()], weights_digest(network)

    teacher = normalised_teacher().train()
    teacher[1].eval()
    teacher[0].weight.requires_grad_(False)
    before, (images, labels) = state(teacher), toy_images()
    metadata = AllLayers(covariance="top_only").collect(teacher, [(images, labels)], INPUTS)
    assert state(teacher) == before
    wrong, student = images[:, :, :4], nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    uses = {
        "collect": lambda: AllLayers().collect(teacher, [(wrong if fails else images, labels)], INPUTS),
        "reconstruct": lambda: reconstruct(
            teacher, metadata, 4, steps=1, engine=PLAIN, terms=[None] if fails else (), group_size=2
        ),
        "distill": lambda: distill(student, teacher, wrong if fails else images, epochs=1),
        "predict": lambda: predict_logits(teacher, wrong if fails else images, INPUTS),
        "score": lambda: metadata_scores(metadata.resolved(teacher), teacher, wrong if fails else images, labels),
    }
    for name, use in uses.items():
        if fails:
            with pytest.raises((RuntimeError, AttributeError, DfkdError)):
                use()
        else:
            use()
        assert state(teacher) == before, name


def test_gradients_reach_the_images_through_what_is_recorded():
    images = EXAMPLE.clone().requires_grad_(True)
    with recording(frozen(toy_teacher()), ["0", "5"]) as recorder:
        sum(values.square().sum() for values in recorder(images)).backward()
    assert images.grad.abs().min() > 0


def test_recording_an_unknown_layer_is_refused_with_the_names_there_are():
    with (
        pytest.raises(DfkdError, match=r"the teacher has no layer 'x'; its layers are: head, unused"),
        recording(OutOfOrder(), ["x"]),
    ):
        pass


@pytest.mark.parametrize("fails", [False, True])
def test_no_hook_is_left_behind(fails):
    network = toy_teacher()
    images = EXAMPLE[:, :, :4] if fails else EXAMPLE
    for use in (lambda: find_layers(network, images), lambda: record(network, images)):
        if fails:
            with pytest.raises(RuntimeError):
                use()
        else:
            use()
        assert sum(len(module._forward_hooks) for module in network.modules()) == 0


def record(network, images):
    with recording(network, ["0"]) as recorder:
        return recorder(images)


def test_finding_layers_leaves_the_mode_as_it_was():
    for training in (True, False):
        network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.BatchNorm1d(3)).train(training)
        before = weights_digest(network)
        find_layers(network, EXAMPLE)
        assert network.training is training
        assert weights_digest(network) == before


def test_the_digest_depends_on_names_types_shapes_and_values():
    one, two = nn.Linear(2, 2), nn.Linear(2, 2)
    two.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(two)
    others = [nn.Sequential(two), nn.Linear(2, 2), nn.Linear(2, 2).double()]
    others[2].load_state_dict(one.state_dict())
    assert len({weights_digest(network) for network in (one, *others)}) == 4


def test_a_scalar_in_the_state_has_a_digest_too():
    network = nn.BatchNorm1d(2)
    before = weights_digest(network)
    network.num_batches_tracked += 1
    assert weights_digest(network) != before


def test_frozen_asks_for_no_gradients_and_stands_in_evaluation_mode():
    network = frozen(toy_teacher().train())
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_dense_layers_are_those_that_put_out_a_vector():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 5), nn.ReLU(), nn.Linear(5, 3))
    assert [layer.name for layer in find_layers(network, torch.zeros(2, 1, 6, 6), "dense")] == ["2", "4"]
