"""Accuracy is not agreement; logits do not depend on how images are batched or stored."""

import pytest
import torch
from torch import nn

from dfkd_exp.evaluation.metrics import accuracy, agreement, predict_logits
from dfkd_exp.inputs import InputSpec
from tests.toy import INPUTS, toy_images, toy_teacher

TEACHER = torch.tensor([[9.0, 1, 0], [0, 9, 1], [5, 0, 9], [9, 8, 7]])
STUDENT = torch.tensor([[0.2, 0.1, 0], [0.3, 0.2, 0.1], [0, 0, 1], [1, 0, 2]])
LABELS = torch.tensor([0, 0, 0, 2])


def test_accuracy_is_the_share_of_right_labels():
    assert accuracy(TEACHER, LABELS) == 0.25
    assert accuracy(STUDENT, LABELS) == 0.75


def test_agreement_is_the_share_of_equal_answers_right_or_wrong():
    assert agreement(STUDENT, TEACHER) == 0.5
    assert agreement(STUDENT, TEACHER) == agreement(TEACHER, STUDENT)
    assert agreement(TEACHER, TEACHER * 3) == 1


def test_a_student_can_be_better_than_it_agrees():
    assert accuracy(STUDENT, LABELS) > agreement(STUDENT, TEACHER)


def test_logits_do_not_depend_on_the_batch():
    images, _ = toy_images(7)
    whole = predict_logits(toy_teacher(), images, INPUTS)
    torch.testing.assert_close(predict_logits(toy_teacher(), images, INPUTS, batch_size=4), whole)
    assert whole.shape == (21, 3)
    assert not whole.requires_grad


def test_pixels_of_whatever_type_are_brought_into_the_range_of_inputs():
    spec = InputSpec(INPUTS.shape, (-1.0,), (3.0,))
    pixels = (toy_images(3)[0] * 255).to(torch.uint8)
    expected = toy_teacher()(pixels.float() / 255 * 4 - 1)
    torch.testing.assert_close(predict_logits(toy_teacher(), pixels, spec), expected)
    torch.testing.assert_close(predict_logits(toy_teacher(), pixels.float() / 255, spec), expected)
    torch.testing.assert_close(predict_logits(toy_teacher(), pixels.half() / 255, spec), expected, atol=0.01, rtol=0)


def test_dropout_is_off():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 3)).train()
    images, _ = toy_images(3)
    assert torch.equal(predict_logits(network, images, INPUTS), predict_logits(network, images, INPUTS))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_logits_come_back_in_single_precision(dtype):
    images, _ = toy_images(3)
    assert predict_logits(toy_teacher().to(dtype), images.to(dtype), INPUTS).dtype == torch.float32
