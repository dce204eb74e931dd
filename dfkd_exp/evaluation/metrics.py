"""Accuracy is against the labels, agreement against the teacher; one is never reported for the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dfkd_exp.data.labelled import class_numbers
from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.channels_last import channels_last
from dfkd_exp.models.float32 import exact
from dfkd_exp.models.output import find_output, tensors_of
from dfkd_exp.models.plain import as_classifier
from dfkd_exp.models.recording import borrowed


@torch.no_grad()
@exact()
def predict_logits(network: nn.Module, pixels: Tensor, inputs: InputSpec, batch_size: int | None = None) -> Tensor:
    """Logits ``[N, K]`` of a network in evaluation mode for images whose ``pixels[N, *shape]`` are uint8, or floating in [0, 1].

    The images go to the network's device a batch at a time (left out: as many as `InputSpec.images_at_once` says); the logits
    come back to the CPU.
    """
    parts = pixels.split(batch_size or inputs.images_at_once)
    with as_classifier(network, inputs.example(), name="the network") as network, borrowed(network):
        real = (parameter for parameter in network.parameters() if parameter.is_floating_point())  # and not complex
        like = next(real, torch.empty(0, device=pixels.device))
        with channels_last(network, inputs.example().to(like)):
            logits = [network(inputs.from_pixels(part.to(like.device)).to(like.dtype)).float().cpu() for part in parts]
    return torch.cat(logits)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of ``logits[N, K]``, or what else `predicted` reads, whose class is the label's, in [0, 1]."""
    found = predicted(logits)
    wanted = labels if labels.dim() == 1 and labels.dtype == torch.int64 else _classes(labels)
    if len(found) != len(wanted):
        raise DfkdError(f"there are {len(found)} answers for {len(wanted)} images; give both of the same images")
    return int((found == wanted).sum()) / len(wanted)


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Share of images that student and teacher put into the same class, in [0, 1]; what `predicted` reads, of each."""
    return accuracy(student_logits, predicted(teacher_logits))


def predicted(returned: Any) -> Tensor:
    """The classes ``[N]`` of what a network returned: logits or probabilities ``[N, K]``, alone or as the only such entry of a tuple or
    dict, or one logit of two classes, ``[N]`` or ``[N, 1]``. DfkdError where one number might be a probability."""
    if isinstance(returned, Tensor) and returned.dim() == 2 and returned.shape[1] > 1:
        return returned.argmax(1)
    tensors = [value for value in tensors_of(returned).values() if value.dim()]
    count = len(tensors[0]) if tensors else 0
    output = find_output(returned, count, None, None, "the entry {!r} of it")
    [values] = [value for path, value in tensors_of(returned).items() if path == (output.entry or "")]
    if values.numel() == count and bool(((values >= 0) & (values <= 1)).all()):
        raise DfkdError(
            "one number for each image, all in [0, 1], may be probabilities or logits; give what predict_logits makes of the network"
        )
    return output.logits(returned, count).argmax(1)


def _classes(labels: Tensor) -> Tensor:
    return class_numbers(
        labels, labels.shape[1] if labels.dim() == 2 and labels.shape[1] > 1 else int(labels.max()) + 1
    )
