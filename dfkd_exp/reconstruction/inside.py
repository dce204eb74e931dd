"""What terms of the objective look at within the teacher, beside its answer: the features before its last layer, its BatchNorm layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.models.layers import Layer, first_input
from dfkd_exp.models.recording import borrowed, carries_statistics, inputs_of_batch_norm
from dfkd_exp.reconstruction.terms.term import AtBatchNorm, Term


@dataclass(frozen=True)
class Inside:
    """The ``layers`` that are recorded for terms, of which the first is the last layer's input if there are ``features``; and that layer's
    weights of each class, ``class_weights[K, F]``, in float32, if any term asks for them."""

    layers: tuple[Layer, ...] = ()
    features: bool = False
    class_weights: Tensor | None = None

    @classmethod
    def of(cls, teacher: nn.Module, example: Tensor, terms: Sequence[Term], num_classes: int) -> Inside:
        """What these ``terms`` look at. DfkdError, with the term, if the teacher has no such thing."""
        looking = [term for term in terms if term.of_features]
        weighing = [term for term in terms if term.of_class_weights]
        layers, weights = [], None
        if looking or weighing:
            last = last_layer(teacher, example, [*looking, *weighing][0])
            layers += [last] if looking else []
            weights = _class_weights(teacher, last, num_classes, weighing[0]) if weighing else None
        norms = [term for term in terms if term.of_batch_norms]
        if norms:
            found = inputs_of_batch_norm(teacher, example)
            if not found:
                raise DfkdError(
                    f"{norms[0].flag}: the teacher has no BatchNorm layers with running statistics; leave this term out "
                    "(~terms.batch_norm), or have statistics published that take their place: metadata=channels"
                )
            layers += found
        return cls(tuple(layers), bool(looking), weights)

    @cached_property
    def for_drawing(self) -> Tensor:
        """The class weights on the CPU, for terms that draw; ``[0, 0]`` if none asks for them."""
        return torch.empty(0, 0) if self.class_weights is None else self.class_weights.cpu()

    def seen(self, teacher: nn.Module, recorded: Sequence[Tensor]) -> dict[str, Any]:
        """The fields of `Candidates` that hold what was ``recorded`` of the layers: features in float32."""
        values = [*recorded]
        features = values.pop(0).float().flatten(1) if self.features else None
        norms = [teacher.get_submodule(layer.name) for layer in self.layers[int(self.features) :]]
        found = []
        for value, norm in zip(values, norms, strict=True):
            assert isinstance(norm.running_mean, Tensor)
            assert isinstance(norm.running_var, Tensor)
            found.append(AtBatchNorm(value, norm.running_mean.float(), norm.running_var.float()))
        return {"features": features, "class_weights": self.class_weights, "batch_norms": found}


def _class_weights(teacher: nn.Module, layer: Layer, num_classes: int, term: Term) -> Tensor:
    """A layer's weights, ``[K, F]``, in float32, as those of a convolution in one place are too. DfkdError, with the ``term``, if it has
    none such."""
    weight = getattr(teacher.get_submodule(layer.name), "weight", None)
    weights = weight.detach().float().flatten(1) if isinstance(weight, Tensor) and weight.dim() >= 2 else None
    wanted = (num_classes, layer.num_units)
    if weights is None or weights.shape != wanted:
        raise DfkdError(
            f"{term.flag}: the teacher's last layer, {layer.name}, has no weights of shape {[*wanted]}, one per class and feature; leave "
            "this term out, or choose terms=[label]"
        )
    return weights


def suited(terms: Sequence[Term], teacher: nn.Module, published: bool) -> list[Term]:
    """The ``terms`` but those of BatchNorm layers where the teacher has none and statistics of its layers were ``published``, which are
    matched in their place."""
    stand_in = published and not any(map(carries_statistics, teacher.modules()))
    return [term for term in terms if not (stand_in and term.of_batch_norms)]


def last_layer(teacher: nn.Module, example: Tensor, term: Term) -> Layer:
    """The input of the layer whose output is the teacher's answer, or of the last with weights if none is. DfkdError names the ``term``."""
    applied: list[tuple[str, Tensor, Tensor]] = []
    handles = [
        module.register_forward_hook(
            lambda _module, inputs, named, output, name=name: applied.append(
                (name, first_input(inputs, named), output)
            ),
            with_kwargs=True,
        )
        for name, module in teacher.named_modules()
        if name and any(True for _ in module.parameters(recurse=False))
    ]
    try:
        with borrowed(teacher), torch.no_grad():
            logits = teacher(example.clone())
    finally:
        for handle in handles:
            handle.remove()
    named = [(name, taken) for name, taken, output in applied if output is logits] or [
        (name, taken) for name, taken, _ in applied[-1:]
    ]
    if not named or not isinstance(named[-1][1], Tensor) or len(named[-1][1]) != len(example):
        raise DfkdError(
            f"{term.flag}: the teacher has no last layer whose features could be looked at; leave this term out"
        )
    name, taken = named[-1]
    return Layer(name, tuple(taken.shape[1:]), side="input")
