"""What a network puts out, as logits: which entry of what it returns they are, and what is done to it.

The answer, an `Output`, is a forward hook of the network: its layers and weights keep their names, and whoever calls it gets logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief

LOGITS, PROBABILITIES, SIGMOIDS, ONE_LOGIT, ONE_PROBABILITY = FORMS = (
    "logits", "probabilities", "sigmoids", "one_logit", "one_probability",
)  # fmt: skip
"""What the entry holds: a number for each class, or one for two classes. Log-probabilities are logits; sigmoids are a probability for
each class by itself, as of networks that were trained by binary cross-entropy."""
NAMED = "logits"
"""The key by which one of several entries of the same shape is chosen."""
DEPTH = 3
"""Of tuples within dicts and their like."""
SMALLEST = 1e-7
"""By how much the probability of one of two classes differs from 0 and 1, at least: what float32 tells apart."""
RESHAPING = (
    "View",
    "Squeeze",
    "Unsqueeze",
    "Reshape",
    "Select",
    "Slice",
    "Alias",
    "Clone",
    "ToCopy",
    "Clamp",
    "Transpose",
)
"""How steps of autograd begin that leave values as they are."""


@dataclass(frozen=True)
class Output:
    """How a network's logits ``[N, num_classes]`` are had from what it returns: the ``entry``, a key or an index, of a tuple or dict (a
    path with dots where they lie within each other; None where a tensor is returned), which holds what ``form`` says.

    Probabilities become their logarithm less its mean over the classes: the logits before the softmax, centred. The logarithm alone has the
    same softmax, but hardly varies where the teacher is sure. Of sigmoids the logits are what they are the sigmoids of. One logit z of two
    classes becomes ``[-z/2, z/2]``, which is centred too; its softmax is the sigmoid of z, as that of ``[0, z]`` is, of which one column
    never varies. By deviations what is matched is divided.
    """

    num_classes: int
    entry: str | None = None
    form: str = LOGITS

    def __call__(self, _network: nn.Module, inputs: tuple[Any, ...], returned: object) -> Tensor:
        """The logits; as a forward hook, in the place of what was ``returned``. Raises DfkdError if it holds none."""
        try:
            return self.logits(returned, len(inputs[0]))
        except DfkdError as error:
            raise DfkdError(f"a network {error}") from error

    def logits(self, returned: object, num_images: int) -> Tensor:
        """The logits ``[N, num_classes]`` in what a network returned for ``num_images``."""
        entries = tensors_of(returned)
        values = entries.get("", entries.get(self.entry or ""))
        if values is None:  # in training a network may return more, or in another form
            values = entries[_entry(entries, num_images, self.num_classes, "output={}")]
        columns = 1 if self.form in (ONE_LOGIT, ONE_PROBABILITY) else self.num_classes
        if values.numel() != num_images * columns or not (num_images == 1 or values.shape[:1] == (num_images,)):
            raise DfkdError(_misfit({self.entry or "": values}, num_images, self.num_classes))
        if self.form == LOGITS:
            shape = (num_images, columns)
            return values if values.shape == shape else values.reshape(shape)
        values = values.reshape(num_images, columns).to(torch.promote_types(values.dtype, torch.float32))
        if self.form == PROBABILITIES:
            logarithms = values.clamp_min(torch.finfo(values.dtype).tiny).log()
            return logarithms - logarithms.mean(1, keepdim=True)
        logit = values if self.form == ONE_LOGIT else values.logit(eps=SMALLEST)
        if self.form == SIGMOIDS:
            return logit
        return torch.cat((-logit / 2, logit / 2), 1)

    @property
    def notes(self) -> list[str]:
        """What there is to say of it, for people."""
        entry = f"entry {brief(self.entry)}" if self.entry is not None else ""
        said = {
            LOGITS: f"{entry} of what it returns is taken as its logits" if entry else "",
            PROBABILITIES: f"{entry or 'what it returns'} is probabilities, and their logarithm, centred, taken as its logits",
            SIGMOIDS: f"{entry or 'what it returns'} is a sigmoid for each class, and what it is the sigmoid of taken as its logits",
            ONE_LOGIT: f"{entry or 'what it returns'} is one logit z, the second class's: taken as the logits -z/2 and z/2",
            ONE_PROBABILITY: f"{entry or 'what it returns'} is one probability, the second class's, whose logit z is taken as -z/2 and z/2",
        }[self.form]
        return [said] if said else []

    def to_json(self) -> dict[str, Any] | None:
        """For a release; None where a tensor of logits is returned, of which there is nothing to say."""
        return {"entry": self.entry, "form": self.form} if self.notes else None

    @classmethod
    def from_json(cls, value: dict[str, Any] | None, num_classes: int) -> Output:
        """That of a release, whose fields follow the schema."""
        return cls(num_classes, **(value or {}))


def find_output(
    returned: object, num_images: int, num_classes: int | None, entry: str | None, say: str, at_least: int | None = None
) -> Output:
    """What is to be done with what a network ``returned`` for images of several kinds, to have ``num_classes`` logits, if it is known how
    many they are. ``entry``: that which was said; else it is the only one of that shape, or is called logits. ``at_least``: how many
    classes were seen, which are probably all.

    Raises DfkdError if there is none, or it cannot be told which: ``say`` is then how a person says it, such as ``teacher.output={}``.
    The message goes on behind the network's name.
    """
    entries = tensors_of(returned)
    if "" not in entries:
        if entry is not None and entry not in entries:
            raise DfkdError(f"has no {say.format(brief(entry))}: it returns {_listed(entries, num_images)}")
        entry = entry if entry is not None else _entry(entries, num_images, num_classes, say, at_least)
    else:
        entry = None
    values = entries[entry or ""]
    if num_classes is None:
        num_classes = _classes(values, num_images)
    if values.is_floating_point() and _per_image(values, num_images):
        count = values.numel() // num_images
        if count == num_classes > 1 and _sum_to_one(values.reshape(num_images, -1)):
            return Output(num_classes, entry, PROBABILITIES)
        if count == num_classes > 1 and values.grad_fn is not None and _is_probability(values):
            return Output(num_classes, entry, SIGMOIDS)
        if count == num_classes:
            return Output(num_classes, entry, LOGITS)
        if count == 1 and num_classes == 2:
            return Output(2, entry, ONE_PROBABILITY if _is_probability(values) else ONE_LOGIT)
    raise DfkdError(_misfit({entry or "": values}, num_images, num_classes))


def tensors_of(returned: object, depth: int = DEPTH) -> dict[str, Tensor]:
    """Every tensor in what a network returns, by where it lies: ``logits``, ``0``, ``hidden.2``; a tensor itself is the empty string."""
    if isinstance(returned, Tensor):
        return {"": returned}
    items: list[tuple[Any, Any]] = []
    if isinstance(returned, Mapping):
        items = list(returned.items())
    elif isinstance(returned, tuple | list):
        items = list(zip(getattr(returned, "_fields", range(len(returned))), returned, strict=True))
    elif returned is not None and (is_dataclass(returned) or hasattr(returned, "__dict__")):
        items = list(vars(returned).items())
    found: dict[str, Tensor] = {}
    for key, value in items if depth else ():
        for path, tensor in tensors_of(value, depth - 1).items():
            found[f"{key}.{path}".removesuffix(".")] = tensor
    return found


def _entry(
    entries: dict[str, Tensor], num_images: int, num_classes: int | None, say: str, at_least: int | None = None
) -> str:
    """The entry that holds the logits, by its shape; of several of one shape the one that is called so."""
    each = {
        path: values.numel() // num_images
        for path, values in entries.items()
        if values.is_floating_point() and _per_image(values, num_images)
    }
    vectors = [path for path in each if entries[path].dim() == 2 and each[path] > 1]
    wanted = num_classes or at_least
    choices = [[path for path in vectors if each[path] == wanted], [path for path in each if each[path] == wanted]]
    if wanted in (1, 2):
        choices.append([path for path in each if each[path] == 1])
    if num_classes is None:
        choices += [vectors, [path for path in each if each[path] == 1]]
    for fitting in choices:
        if named := [path for path in fitting if path.rpartition(".")[2] == NAMED]:
            return named[0]
        if len({id(entries[path]) for path in fitting}) == 1:
            return fitting[0]
        if fitting:
            raise DfkdError(
                f"returns {_listed(entries, num_images)}: say which are the logits, such as {say.format(brief(fitting[0]))}"
            )
    raise DfkdError(_misfit(entries, num_images, num_classes))


def _per_image(values: Tensor, num_images: int) -> bool:
    return values.shape[:1] == (num_images,)


def _classes(values: Tensor, num_images: int) -> int:
    """How many classes a tensor is about, where nobody says it."""
    return max(2, values.numel() // num_images) if values.dim() <= 2 else values.shape[1]


def _sum_to_one(values: Tensor) -> bool:
    return bool((values >= 0).all()) and bool(((values.double().sum(1) - 1).abs() < 1e-2).all())


def _is_probability(values: Tensor) -> bool:
    """Whether numbers are the sigmoids of something; where autograd was off, whether it could be."""
    step = values.grad_fn
    if step is None:
        return bool(((values >= 0) & (values <= 1)).all())
    while step is not None and step.name().startswith(RESHAPING):
        step = step.next_functions[0][0]
    return step is not None and step.name().startswith("Sigmoid")


def _misfit(entries: dict[str, Tensor], num_images: int, num_classes: int | None) -> str:
    """Why what a network returns holds no logits, and what to do."""
    wanted = f"must return logits of shape [N, {num_classes or 'K'}], one per class of the data, but returns "
    if len(entries) != 1:
        return f"{wanted}{_listed(entries, num_images)}; return the logits, alone or as an entry"
    ((_, values),) = entries.items()
    if not values.is_floating_point():
        return f"{wanted}{str(values.dtype).removeprefix('torch.')}; return the logits, before they are rounded or compared"
    if not _per_image(values, num_images):
        return (
            f"{wanted}{list(values.shape)} for {num_images} images: its forward assumes a batch size or sums over the images; "
            "what it returns begins with the images, as that of x.flatten(1) and x.view(len(x), -1) does"
        )
    each = list(values.shape[1:])
    if len(each) > 1:
        return (
            f"{wanted}{each} for each image: an answer for each place, as segmentation has it, or features; reduce it in its "
            "forward to one answer for each image, such as x.mean((2, 3))"
        )
    if each in ([], [1]):
        return f"{wanted}one number for each image, which is a logit where there are two classes; change the network's arguments"
    return f"{wanted}{each} for each image; change the network's arguments, or take the data that it is for"


def _listed(entries: dict[str, Tensor], num_images: int) -> str:
    shapes = [
        f"{path} {list(values.shape[1:]) if _per_image(values, num_images) else list(values.shape)}"
        for path, values in entries.items()
    ]
    return f"{brief(', '.join(shapes))} for each image" if shapes else "no tensor"
