"""Networks come out of their wrappers with the weights and answers that they had; what cannot be used is refused in one line."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.by_import_path import ByImportPath
from dfkd_exp.models.plain import as_classifier, plain, require_gradient
from dfkd_exp.models.recording import weights_digest
from dfkd_exp.settings import under_flag
from tests.models.returns import Returns, WithoutGradient
from tests.toy import CLASSES, INPUTS, toy_images, toy_teacher

IMAGES = toy_images(5)[0]
HERE = "tests.models.returns"


def compiled(network):
    return torch.compile(network, backend="eager")


def compiled_inside():
    network = toy_teacher()
    network[0] = compiled(network[0])
    return network


@pytest.mark.parametrize(
    ("wrapped", "notes"),
    [
        (toy_teacher, []),
        (lambda: nn.DataParallel(toy_teacher()), ["taken out of DataParallel"]),
        (lambda: compiled(toy_teacher()), ["taken out of torch.compile"]),
        (lambda: nn.DataParallel(compiled(toy_teacher())), ["taken out of DataParallel", "taken out of torch.compile"]),
        (lambda: AveragedModel(toy_teacher()), ["taken out of AveragedModel"]),
        (compiled_inside, ["taken out of torch.compile"]),
        (lambda: toy_teacher().double(), ["float64 converted to float32"]),
    ],
)
def test_what_a_wrapper_holds_is_taken(wrapped, notes):
    network, said = plain(wrapped(), "teacher Net")
    assert said == notes
    assert weights_digest(network) == weights_digest(toy_teacher())
    assert torch.equal(network(IMAGES), toy_teacher()(IMAGES))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_single(dtype):
    network, said = plain(toy_teacher().to(dtype), "teacher Net")
    assert said == [f"{str(dtype).removeprefix('torch.')} converted to float32"]
    assert torch.allclose(network(IMAGES), toy_teacher()(IMAGES), atol=0.05)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_programs_and_quantised_layers_are_refused():
    for program in (torch.jit.script(toy_teacher()), torch.jit.trace(toy_teacher(), IMAGES)):
        with pytest.raises(DfkdError, match=r"^teacher Net is TorchScript.*name the class that it was made from"):
            plain(program, "teacher Net")
    quantised = torch.ao.quantization.quantize_dynamic(toy_teacher(), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(DfkdError, match=r"^teacher Net is quantised \(3: Linear\).*give it as it was before"):
        plain(quantised, "teacher Net")


def pruned():
    network = toy_teacher()
    prune.l1_unstructured(network[3], "weight", 0.5)
    return network


def tied():
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 36), nn.ReLU(), nn.Linear(36, 36), nn.Linear(36, CLASSES))
    network[3].weight = network[1].weight
    return network


def normed():
    network = toy_teacher()
    network[0], network[3] = parametrizations.weight_norm(network[0]), parametrizations.spectral_norm(network[3])
    return network


def build(target, seed=0, **settings):
    with under_flag("teacher"):
        return ByImportPath(target=target, **settings).build(INPUTS, CLASSES, seed)


@pytest.mark.parametrize(
    "target", [f"{HERE}.lazy", f"{HERE}.MakesItsLayer", f"{__name__}.pruned", f"{__name__}.tied", f"{__name__}.normed"]
)
def test_layers_are_there_before_weights_are_read(target):
    """Whatever makes them, and whenever: the seed decides what they begin with, and weights that were kept go into them again."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    network = build(target)
    assert torch.equal(torch.get_rng_state(), before)
    if target.startswith(HERE):
        assert weights_digest(network) == weights_digest(build(target)) != weights_digest(build(target, seed=1))
    state = {name: value + 1 for name, value in network.state_dict().items()}
    with under_flag("teacher"):
        again = ByImportPath(target=target).rebuilt(state, "model.safetensors", INPUTS, CLASSES)
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    assert again(IMAGES).shape == (15, CLASSES)


def test_nothing_is_changed_of_a_network_that_is_borrowed():
    network = nn.DataParallel(Returns("softmax").half()).train()
    before = weights_digest(network)
    with as_classifier(network, IMAGES) as classifier:
        assert torch.allclose(classifier(IMAGES).sum(1), torch.zeros(15), atol=1e-5)
        assert {parameter.dtype for parameter in classifier.parameters()} == {torch.float32}
    assert weights_digest(network) == before
    assert network.training
    assert sum(len(module._forward_hooks) for module in network.modules()) == 0


def test_a_network_without_gradients_is_refused():
    require_gradient(toy_teacher(), IMAGES, "teacher Net")
    refused = pytest.raises(DfkdError, match=r"^teacher Net computes without gradients \(torch.no_grad")
    with as_classifier(WithoutGradient("tuple"), IMAGES, CLASSES) as network, refused:
        require_gradient(network, IMAGES, "teacher Net")


class WithinRange(nn.Sequential):
    def forward(self, images):
        assert images.min() >= 0, "pixels are in [0, 1]"
        return super().forward(images)


def test_a_network_that_refuses_values_beyond_their_range_is_told_why_they_come():
    network = WithinRange(nn.Flatten(), nn.Linear(36, CLASSES))
    with pytest.raises(
        DfkdError, match=r"^teacher Net cannot take images with values beyond their range.*pixels are in \[0, 1\]"
    ):
        require_gradient(network, IMAGES, "teacher Net")


class Rounds(nn.Module):
    def __init__(self, passes_on=False):
        super().__init__()
        self.head, self.passes_on = nn.Linear(36, CLASSES), passes_on
        nn.init.zeros_(self.head.weight)

    def forward(self, images):
        rounded = (255 * images).round() / 255
        return self.head((images + (rounded - images).detach() if self.passes_on else rounded).flatten(1))


def test_a_network_whose_gradient_is_zero_everywhere_is_refused_and_not_one_whose_head_is_zeros_yet():
    require_gradient(Rounds(passes_on=True), IMAGES, "teacher Net")
    with pytest.raises(DfkdError, match=r"^teacher Net has a gradient that is zero everywhere \(torch.round"):
        require_gradient(Rounds(), IMAGES, "teacher Net")


class Fails(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.head, self.words = how, nn.Linear(36, CLASSES), nn.Embedding(4, 2)

    def forward(self, images):
        if self.how == "view":
            images = images.view(32, 1, 6, 6)
        if self.how == "half":
            images = images.half()
        if self.how == "cuda":
            raise AssertionError("Torch not compiled with CUDA enabled")
        if self.how == "alone" and len(images) == 1:
            raise ValueError("expected more than 1 value")
        return self.words(images) if self.how == "tokens" else self.head(images.flatten(1))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("view", "cannot take images of shape .*its forward assumes a batch size"),
        ("half", r"cannot take images of shape .*take .half\(\) and its like out of its forward"),
        ("cuda", r"cannot take images of shape .*take .cuda\(\)"),
        ("alone", "which takes 3 images, cannot take a single one of the images of shape"),
        ("tokens", "cannot take images of shape .*it looks up tokens"),
    ],
)
def test_what_its_forward_raises_is_said_with_what_to_do(how, message):
    with pytest.raises(DfkdError, match=rf"^teacher Fails{'' if how == 'alone' else ' '}.*{message}") as refused:
        build(f"{__name__}.Fails", kwargs={"how": how})
    assert "\n" not in str(refused.value)


def test_arguments_that_are_wanted_are_listed():
    with pytest.raises(
        DfkdError,
        match=r"missing a required argument: 'how'; it takes \(how\); say an argument as \+teacher.kwargs.NAME=VALUE",
    ):
        build(f"{__name__}.Fails")


def test_weight_norm_of_the_old_kind_is_taken():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(36, CLASSES)))
    network(IMAGES)
    with as_classifier(network, IMAGES) as classifier:
        assert torch.equal(classifier(IMAGES), network(IMAGES))


def test_tensors_of_a_module_are_there_though_its_network_is_first_made_without_memory(tmp_path, monkeypatch):
    (tmp_path / "has_tensors_of_its_own.py").write_text(
        "import torch\nfrom torch import nn\nMEAN = torch.tensor([0.5])\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n        super().__init__(nn.Flatten(), nn.Linear(36, 3))\n"
        "    def forward(self, x):\n        return super().forward(x - MEAN)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    state = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).state_dict()
    with under_flag("teacher"):
        network = ByImportPath(target="has_tensors_of_its_own.Net").rebuilt(state, "model.safetensors", INPUTS, CLASSES)
    assert torch.allclose(
        network(IMAGES), nn.functional.linear(IMAGES.flatten(1) - 0.5, state["1.weight"], state["1.bias"]), atol=1e-6
    )


def test_a_network_for_other_channels_is_told_how_images_come_to_have_them():
    grey = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3))
    wrong = pytest.raises(DfkdError, match=r"it takes 1 channels: data.channels=1, or change the network's arguments")
    with wrong, as_classifier(grey, torch.zeros(2, 3, 8, 8)):
        pass
