"""What a student minimises."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``-T^2 sum_k softmax(z_t/T)_k log softmax(z_s/T)_k``, mean over the batch; logits ``[N, K]``, a scalar.

    Source: Hinton, Vinyals and Dean (2015), Sec. 2; the factor T^2 keeps gradients of one size at every temperature. At least in
    float32: at a temperature all probabilities are nearly alike, and bfloat16 cannot tell what they differ by, so that a student that
    is close to its teacher drifts away from it.
    """
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    log_probabilities = F.log_softmax(student_logits.to(dtype) / temperature, dim=1)
    probabilities = F.softmax(teacher_logits.to(dtype) / temperature, dim=1)
    return -(temperature**2) * (probabilities * log_probabilities).sum(1).mean()


def logit_distance(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """The mean absolute difference of logits ``[N, K]``, a scalar, at least in float32. Source: Fang et al. (2019), DFAD, eq. 4."""
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    return (student_logits.to(dtype) - teacher_logits.to(dtype)).abs().mean()
