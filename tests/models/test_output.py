"""What a network returns becomes logits: those that the same network without its tuple, softmax or single logit puts out."""

import pytest
import torch
from torch import nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.output import FORMS, Output, find_output
from dfkd_exp.models.plain import attach_output, output_of, take_output
from dfkd_exp.models.recording import find_layers
from tests.models.returns import InTraining, Returns
from tests.toy import CLASSES, INPUTS, toy_images, toy_teacher

IMAGES = toy_images(5)[0]


def attached(network, num_classes=CLASSES, **options):
    attach_output(network, INPUTS.shape, num_classes, "teacher Net", say="teacher.output={}", **options)
    return network


@pytest.mark.parametrize(
    ("form", "entry"),
    [
        ("tensor", None), ("tuple", "0"), ("list", "2"), ("dict", "logits"), ("ordered_dict", "logits"), ("named_tuple", "logits"),
        ("dataclass", "logits"), ("nested", "out.1"), ("twice", "0"), ("map", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("num_images", [1, 3, 15])
def test_logits_are_found_in_what_a_network_returns(form, entry, num_images):
    network = attached(Returns(form))
    assert output_of(network) == Output(CLASSES, entry)
    assert torch.equal(network(IMAGES[:num_images]), toy_teacher()(IMAGES[:num_images]))
    [names] = {tuple(net.state_dict()) for net in (network, Returns())}
    assert names[0] == "net.0.weight"


@pytest.mark.parametrize(
    ("form", "kind"), [("log_softmax", "logits"), ("softmax", "probabilities"), ("tuple_of_softmax", "probabilities")]
)
def test_of_probabilities_the_logits_before_the_softmax_are_known_but_for_their_mean(form, kind):
    network = attached(Returns(form))
    assert output_of(network).form == kind
    logits = toy_teacher()(IMAGES)
    wanted = logits.log_softmax(1) if kind == "logits" else logits - logits.mean(1, keepdim=True)
    assert torch.allclose(network(IMAGES), wanted, atol=1e-6)
    assert "probabilities" in "".join(output_of(network).notes) or kind == "logits"


def test_a_probability_of_zero_has_a_finite_logarithm_and_gradient():
    returned = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]], requires_grad=True)
    logits = find_output(returned, 2, 3, None, "").logits(returned, 2)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert returned.grad.isfinite().all()
    assert torch.allclose(logits.softmax(1), returned)


def test_of_sigmoids_the_logits_are_taken():
    network = attached(Returns("sigmoids"))
    assert output_of(network).form == "sigmoids"
    assert torch.allclose(network(IMAGES), toy_teacher()(IMAGES), atol=1e-5)


def test_logits_that_happen_to_lie_between_zero_and_one_are_none_of_sigmoids():
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES), nn.Sigmoid(), nn.Linear(CLASSES, CLASSES))
    nn.init.zeros_(network[3].weight)
    nn.init.constant_(network[3].bias, 0.5)
    assert output_of(attached(network)).form == "logits"


@pytest.mark.parametrize("form", ["logit", "squeezed", "sigmoid", "sigmoid_squeezed", "logit_and_hidden"])
@pytest.mark.parametrize("num_images", [1, 2, 15])
def test_one_number_for_two_classes_becomes_two(form, num_images):
    """Their softmax is the sigmoid of the logit, and both vary alike."""
    network, images = attached(Returns(form), 2), IMAGES[:num_images]
    assert output_of(network).form == ("one_probability" if form.startswith("sigmoid") else "one_logit")
    logits, reference = network(images), toy_teacher()(images)
    z = reference[:, 1] - reference[:, 0]
    assert torch.allclose(logits, torch.stack((-z / 2, z / 2), 1), atol=1e-5)
    assert torch.allclose(logits.softmax(1)[:, 1], z.sigmoid(), atol=1e-6)


def test_a_logit_that_happens_to_lie_between_zero_and_one_is_none_of_a_sigmoid():
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 1))
    nn.init.zeros_(network[1].weight)
    nn.init.constant_(network[1].bias, 0.5)
    assert output_of(attached(network, 2)).form == "one_logit"


@pytest.mark.parametrize("scale", [0.0, 1.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_probabilities_are_known_whatever_they_are(scale, dtype):
    class Net(nn.Sequential):
        def forward(self, images):
            return (super().forward(images) * scale).softmax(1).to(dtype)

    assert output_of(attached(Net(nn.Flatten(), nn.Linear(36, CLASSES)))).form == "probabilities"


@pytest.mark.parametrize("last", [nn.Identity(), nn.LogSoftmax(1), nn.ReLU()])
def test_what_is_no_probability_stays_as_it_is(last):
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES), last)
    wanted = network(IMAGES)
    assert output_of(attached(network)) == Output(CLASSES)
    assert torch.equal(network(IMAGES), wanted)


@pytest.mark.parametrize(
    ("form", "num_classes", "message"),
    [
        ("both", 3, r"returns 0 \[3\], 1 \[3\] for each image: say which are the logits, such as teacher.output=0"),
        (
            "segmentation",
            3,
            r"returns \[3, 6, 6\] for each image: an answer for each place, as segmentation has it.*x.mean\(\(2, 3\)\)",
        ),
        (
            "features",
            3,
            r"must return logits of shape \[N, 3\].*returns \[8\] for each image; change the network's arguments",
        ),
        ("tensor", 10, r"must return logits of shape \[N, 10\].*returns \[3\] for each image"),
        ("one", 3, r"returns one number for each image, which is a logit where there are two classes"),
        ("classes", 3, r"returns int64; return the logits, before they are rounded or compared"),
        ("no_batch", 3, r"returns \[3\] for 3 images: its forward assumes a batch size|one number for each image"),
        ("fixed", 3, r"returns \[32, 3\] for 3 images: its forward assumes a batch size"),
        ("nothing", 3, r"returns no tensor; return the logits"),
        ("tuple", 5, r"returns 0 \[3\], 1 \[8\] for each image"),
    ],
)
def test_what_holds_no_logits_is_refused_with_what_to_do(form, num_classes, message):
    with pytest.raises(DfkdError, match=f"^teacher Net .*{message}") as refused:
        attached(Returns(form), num_classes)
    assert "\n" not in str(refused.value)


def test_an_entry_that_is_said_is_taken():
    assert torch.equal(attached(Returns("both"), entry="1")(IMAGES), 2 * toy_teacher()(IMAGES))
    with pytest.raises(DfkdError, match=r"teacher Net has no teacher.output=logits: it returns 0 \[3\], 1 \[3\]"):
        attached(Returns("both"), entry="logits")
    with pytest.raises(DfkdError, match=r"returns \[8\] for each image"):
        attached(Returns("tuple"), entry="1")
    assert torch.equal(take_output(Returns("both"), 1)(IMAGES), 2 * toy_teacher()(IMAGES))
    with pytest.raises(DfkdError, match="no entry 5; its entries are 0, 1"):
        take_output(Returns("both"), 5)(IMAGES)


def test_in_training_a_network_may_return_more():
    network = attached(InTraining().eval())
    evaluated = network(IMAGES)
    assert torch.equal(network.train()(IMAGES), evaluated)


def test_the_top_layer_is_known_where_the_logits_are_picked_and_not_computed():
    names = {
        form: [layer.name for layer in find_layers(attached(Returns(form)), IMAGES[:2])]
        for form in ("tuple", "softmax")
    }
    assert names["tuple"] == ["net.0", "net.3", "net.5"]
    assert names["softmax"] == ["net.0", "net.3", "net.5", "output"]


@pytest.mark.parametrize("form", FORMS)
def test_it_travels_as_json(form):
    output = Output(2, "out.1", form)
    assert Output.from_json(output.to_json(), 2) == output
    assert Output(3).to_json() is None
    assert Output.from_json(None, 3) == Output(3)


def test_attaching_again_replaces_what_was_found():
    network = attached(attached(Returns("softmax")))
    assert len(network._forward_hooks) == 1
    assert torch.allclose(network(IMAGES).log_softmax(1), toy_teacher()(IMAGES).log_softmax(1), atol=1e-6)


def test_it_is_left_in_the_mode_that_it_was_in():
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Sequential(nn.Linear(36, CLASSES), nn.Dropout()))
    network[1].eval()
    before = network[1].running_mean.clone()
    attached(network)
    assert [module.training for module in network.modules()] == [True, True, False, True, True, True]
    assert torch.equal(network[1].running_mean, before)
