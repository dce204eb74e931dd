"""The soft cross-entropy against numpy."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from dfkd_exp.distillation.losses import logit_distance, soft_cross_entropy


def logits(seed, count=6, classes=5):
    return 10 * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 8.0])
def test_soft_cross_entropy_is_hintons(temperature):
    """-T^2 sum_k p_k log q_k, mean over images; p and q the softmax of teacher's and student's logits over T."""
    student, teacher = logits(0), logits(1)
    p = softmax(teacher.numpy() / temperature, axis=1)
    log_q = log_softmax(student.numpy() / temperature, axis=1)
    expected = -(temperature**2) * np.mean(np.sum(p * log_q, axis=1))
    np.testing.assert_allclose(soft_cross_entropy(student, teacher, temperature), expected)


def test_the_distance_of_logits_is_the_mean_of_its_sizes():
    student, teacher = logits(0), logits(1)
    np.testing.assert_allclose(logit_distance(student, teacher), np.abs(student.numpy() - teacher.numpy()).mean())


def test_it_is_least_where_the_student_says_what_the_teacher_says_up_to_a_constant():
    teacher = logits(1)
    student = (teacher + 3).requires_grad_(True)
    soft_cross_entropy(student, teacher, 4.0).backward()
    assert student.grad.abs().max() < 1e-12
    assert soft_cross_entropy(teacher, teacher, 4.0) < soft_cross_entropy(teacher + logits(2) / 10, teacher, 4.0)


def test_with_a_sure_teacher_and_no_temperature_it_is_the_usual_cross_entropy():
    student, labels = logits(0), torch.tensor([0, 1, 2, 3, 4, 0])
    sure = 1e4 * torch.nn.functional.one_hot(labels, 5).double()
    torch.testing.assert_close(
        soft_cross_entropy(student, sure, 1.0), torch.nn.functional.cross_entropy(student, labels)
    )


def test_gradients_keep_their_size_at_any_temperature():
    """Hinton et al.: for high temperatures the gradient tends to (z_s - z_t) / K / N, with both of mean zero."""
    student, teacher = (z - z.mean(1, keepdim=True) for z in (logits(0), logits(1)))
    student.requires_grad_(True)
    soft_cross_entropy(student, teacher, 1e4).backward()
    torch.testing.assert_close(student.grad, ((student - teacher) / 5 / 6).detach(), atol=1e-3, rtol=0)


def test_soft_targets_are_told_apart_whatever_the_type_of_the_logits():
    """The loss of a student that equals its teacher cannot be lowered: its gradient is zero, which in bfloat16 it would not be."""
    teacher = (10 * torch.randn(64, 10, generator=torch.Generator().manual_seed(0))).bfloat16()
    student = teacher.clone().requires_grad_(True)
    loss = soft_cross_entropy(student, teacher, 8.0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert student.grad.abs().max() < 1e-6
    exact = soft_cross_entropy(teacher.double() + 1, teacher.double(), 8.0)  # a constant changes nothing
    torch.testing.assert_close(loss.double(), exact.double(), rtol=1e-5, atol=0)
