"""What must be exact is so on a GPU that would round: collection, answers to probes, attacks; and the settings are then as they were."""

import pytest
import torch

from dfkd_exp.evaluation.attacks import metadata_scores
from dfkd_exp.evaluation.metrics import predict_logits
from dfkd_exp.metadata import AllLayers
from dfkd_exp.models.float32 import _places, exact, multiplied_as
from dfkd_exp.models.recording import frozen
from tests.tf32 import on_a_gpu_with_tf32
from tests.toy import INPUTS, toy_images, toy_teacher


def collected(teacher):
    return AllLayers(covariance="full").collect(teacher, [toy_images()], INPUTS)


EXACT = {
    "logits": lambda teacher, _: predict_logits(teacher, toy_images()[0], INPUTS),
    "metadata": lambda teacher, _: torch.cat([m.flatten() for m in collected(teacher).statistics[0].summary.tensors().values()]),
    "attack": lambda teacher, kept: metadata_scores(kept.resolved(teacher), teacher, *toy_images()),
}  # fmt: skip


@pytest.mark.parametrize("what", EXACT)
def test_what_must_be_exact_is_so_where_a_gpu_would_round(what):
    teacher = frozen(toy_teacher())
    kept = collected(teacher)
    expected = EXACT[what](teacher, kept)
    with on_a_gpu_with_tf32() as gpu:
        assert torch.equal(EXACT[what](teacher, kept), expected)
        before = gpu.rounded  # networks that are only asked for the shapes of what they put out
        teacher(toy_images()[0])
        assert gpu.rounded == before + 3, "a convolution and two products"


def settings():
    return [place.fp32_precision for place in _places()]


@pytest.fixture
def restored():
    """PyTorch's settings are afterwards as they were."""
    original = settings(), torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(original[1])
    for place, precision in zip(_places(), original[0], strict=True):
        place.fp32_precision = precision


def say_nothing():
    pass


def say_by_the_older():
    torch.set_float32_matmul_precision("high")


def say_by_the_newer():
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "ieee"


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("say", [say_nothing, say_by_the_older, say_by_the_newer])
@pytest.mark.parametrize("tf32", [False, True])
def test_within_it_both_interfaces_agree_and_then_all_is_as_it_was(say, tf32):
    """PyTorch raises an error where they disagree, and its compiler asks."""
    say()
    before = settings()
    with multiplied_as(tf32):
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == tf32
        assert set(settings()[:3]) == {"tf32" if tf32 else "ieee"}
        with exact():
            assert set(settings()[:3]) == {"ieee"}
        assert set(settings()[:3]) == {"tf32" if tf32 else "ieee"}
    assert settings() == before


def test_an_error_within_it_leaves_them_as_they_were():
    before = settings()
    with pytest.raises(KeyError), exact():
        raise KeyError
    assert settings() == before
