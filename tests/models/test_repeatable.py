"""Networks that are more than their weights are refused before anything is made with them, in words that say what to change."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata import AllLayers
from dfkd_exp.models.plain import as_classifier, output_of
from dfkd_exp.models.repeatable import differ, require_repeatable, require_whole
from tests.toy import INPUTS, toy_images

IMAGES = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Dropout at random or as it should be, statistics that it writes or does not, layers that a state_dict has or has not."""

    def __init__(self, how=""):
        super().__init__()
        self.how, self.norm = how, nn.BatchNorm1d(36)
        inner = [nn.Linear(36, 8)]
        self.inner = inner if how == "list" else nn.ModuleList(inner)
        self.head = nn.Linear(8, 3)

    def forward(self, images):
        if self.how == "train":
            self.norm.train()
        values = self.inner[0](self.norm(images.flatten(1)))
        return self.head(functional.dropout(values, 0.5, self.training or self.how == "dropout"))


def test_a_network_that_is_its_weights_answers_the_same():
    network = Net().train()
    assert torch.equal(require_repeatable(network, IMAGES, "teacher Net"), network.eval()(IMAGES))
    require_whole(network, Net(), IMAGES, "teacher Net")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("dropout", r"^teacher Net answers the same images otherwise each time in evaluation mode: .*self\.training"),
        ("train", r"^teacher Net changes norm\.running_mean, .* in evaluation mode.*take \.train\(\)"),
        ("list", r"^teacher Net has layers or numbers that its state_dict\(\) does not have.*nn\.ModuleList"),
    ],
)
def test_one_that_is_more_is_told_what_to_change(how, said):
    with pytest.raises(DfkdError, match=said):
        require_whole(Net(how), Net(how), IMAGES, "teacher Net")


def test_what_it_has_written_is_taken_back():
    network = Net("train")
    before = network.norm.running_mean.clone()
    with pytest.raises(DfkdError):
        require_repeatable(network, IMAGES, "teacher Net")
    assert torch.equal(network.norm.running_mean, before)


def test_rounding_is_no_difference_and_what_is_not_a_number_is():
    wanted = torch.tensor([[0.0, 2.0]])
    assert differ(wanted + 1e-4, wanted) is None
    assert differ(wanted + 0.1, wanted) == pytest.approx(0.05)
    assert differ(wanted * torch.nan, wanted) is not None


def loaded(frozen=False):
    """Somebody's function that gives a network its trained weights, for the digits."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        network[1].weight.copy_(torch.linspace(-1, 1, 640).view(10, 64))
        network[1].bias.zero_()
    return network.requires_grad_(not frozen)


def test_weights_that_somebodys_function_has_loaded_are_not_trained_further_without_a_word(dfkd):
    ran = dfkd("pipeline=release", "release=published", "teacher=custom", f"teacher.target={__name__}.loaded")
    assert ran.code == 0
    assert "teacher loaded has the same weights each time it is made" in " ".join(ran.err.split())
    assert "teacher.checkpoint=FILE" in ran.err
    ran = dfkd("teacher=custom", f"teacher.target={__name__}.loaded", "+teacher.kwargs.frozen=true")
    assert ran.code == 1
    assert "all are frozen (requires_grad=False)" in ran.err


class Standardises(nn.Module):
    """Each image by its own mean and deviation, which a blank one has not."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(36, 8), nn.Linear(8, 3)

    def forward(self, images):
        values = images.flatten(1)
        return self.head(
            self.body((values - values.mean(1, keepdim=True)) / values.std(1, keepdim=True)).relu()
        ).softmax(1)


def test_one_that_divides_by_what_a_blank_image_has_not_is_looked_at_all_the_same():
    teacher = Standardises()
    with as_classifier(teacher, INPUTS.example()) as classifier:
        assert output_of(classifier).form == "probabilities"
        metadata = AllLayers(covariance="diagonal").collect(classifier, [toy_images()], INPUTS)
        metadata.check_teacher(classifier)


@pytest.mark.parametrize("how", ["dropout", "train", "list"])
def test_the_command_says_it_before_anything_is_trained(dfkd, how):
    target = ("tests.models.test_repeatable.Net", f"+KIND.kwargs.how={how}")
    for kind in ("teacher", "student"):
        ran = dfkd(f"{kind}=custom", f"{kind}.target={target[0]}", target[1].replace("KIND", kind))
        assert ran.code == 1
        assert f"{kind} Net" in ran.err
        assert "training the" not in ran.out
