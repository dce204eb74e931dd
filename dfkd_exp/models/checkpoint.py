"""Trained weights from a file into a network: in the forms in which people keep them, with a line for what was taken, and one for what does
not fit."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from torch import Tensor, nn

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief
from dfkd_exp.models.read_weights import read_weights
from dfkd_exp.models.weight_files import Loaded

OF_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile and wrappers for large networks put into the names of weights."""
OF_PROFILERS = ("total_ops", "total_params")
"""What counters of operations leave among the weights."""
ACCURACY = re.compile(r"(best_|test_|val_|valid_)*(acc|accuracy|prec|precision|top)_?(at_?)?1?", re.IGNORECASE)
"""How a checkpoint calls its accuracy: best_acc1, best_prec1, test_acc, top1."""

PACKED = "_packed_params"
"""In which layers that are quantised keep their weights."""
QUANTISED = (
    "the weights of a quantised network, through which no gradient flows; save those from before it was quantised"
)


@dataclass(frozen=True)
class _Fit:
    """Some tensors of a file as a network's weights: what it gets, what was done, and what hinders, if something does."""

    state: dict[str, Tensor]
    notes: list[str]
    misfit: str


def load_checkpoint(network: nn.Module, path: Path, flag: str, title: str, choice: str | None = None) -> Loaded:
    """Put the weights of a file into ``network``, in place.

    It may be in any form that `read_weights` reads: a state_dict, or one within other things. Prefixes of wrappers go, entries beside the
    network's are left out, missing counts of batches are forgiven, other precisions converted. ``choice`` says which of several
    state_dicts to take, by its name or a word of it, such as ``ema``; where it is None it is the one that fits and is no moving average.
    DfkdError names ``flag``, the network by its ``title``, and what to do.
    """
    source = f"{flag}={path}"
    content = read_weights(path, source)
    found = dict(_state_dicts(content))
    if not found:
        entries = ", ".join(map(str, content)) if isinstance(content, Mapping) else ""
        if PACKED in entries:
            raise DfkdError(f"{source} holds {QUANTISED}")
        entries = entries and f"; its entries are {brief(entries)}"
        raise DfkdError(f"{source} holds no state_dict{entries}; save one with torch.save(model.state_dict(), …)")
    option = f"{flag.rpartition('.')[0]}.weights".lstrip(".")
    name, fit = _chosen(
        {name: _fit(network, tensors) for name, tensors in found.items()}, choice, source, option, title
    )
    network.load_state_dict(fit.state)
    require_sound(network, source)
    averages = [other for other in found if _is_average(other) and other != name]
    told = [f"taken from {name}"] if name else []
    return Loaded(
        [*told, *fit.notes, *(f"{other} is there too, and {option}={_word(other)} takes it" for other in averages)],
        _claimed_accuracy(content),
    )


def _state_dicts(content: Any, name: str = "", depth: int = 3) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every state_dict within what was read, by where it lies: ``model.state_dict``; at the top it is called the empty string."""
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return
    if content and all(isinstance(value, Tensor) for value in content.values()):
        yield name, dict(content)
    elif depth:
        for key, value in content.items():
            yield from _state_dicts(value, f"{name}.{key}".lstrip("."), depth - 1)


def _chosen(fits: dict[str, _Fit], choice: str | None, source: str, option: str, title: str) -> tuple[str, _Fit]:
    names = list(fits)
    if choice is not None:
        names = [choice] if choice in fits else [name for name in fits if choice in re.split(r"[._]", name)]
        if not names:
            raise DfkdError(
                f"{option}={choice}: {source} has {brief(', '.join(fits)) or 'one state_dict, without a name'}"
            )
    else:
        names = [name for name in names if not _is_average(name)] or names
    fitting = [name for name in names if not fits[name].misfit]
    if len(fitting) == 1:
        return fitting[0], fits[fitting[0]]
    if fitting:
        raise DfkdError(f"{source} has several state_dicts that fit {title}: say {option}={' or '.join(fitting)}")
    name = max(names, key=lambda name: len(fits[name].state))
    raise DfkdError(f"{source} does not fit {title}: {name or 'it'} {fits[name].misfit}")


def _is_average(name: str) -> bool:
    return not {"ema", "swa", "averaged", "average"}.isdisjoint(re.split(r"[._]", name.lower()))


def _word(name: str) -> str:
    """The shortest way to choose a moving average."""
    return next((word for word in ("ema", "swa") if word in re.split(r"[._]", name)), name)


def _fit(network: nn.Module, tensors: dict[str, Tensor]) -> _Fit:
    """The tensors as the weights of ``network``, by their names without what wrappers put before or into them."""
    own = network.state_dict()
    wrapped = [
        part for part in OF_WRAPPERS if any(part in key for key in tensors) and not any(part in key for key in own)
    ]
    renamed = dict(tensors)
    for part in wrapped:
        renamed = {key.replace(part, ""): value for key, value in renamed.items()}
    prefix = _prefix(own, renamed)
    within = {key.removeprefix(prefix): value for key, value in renamed.items() if key.startswith(prefix)}
    counted = [key for key in within if key not in own and key.rpartition(".")[2] in OF_PROFILERS]
    state = {key: within[key].to_dense() for key in own if key in within}
    uncounted = [key for key in own if key not in within and key.endswith("num_batches_tracked")]
    state |= {key: own[key] for key in uncounted}
    outside = [key for key in renamed if not key.startswith(prefix)]
    extra = [key for key in within if key not in own and key not in counted]
    notes = [f"without {part.rstrip('.')} in names" for part in wrapped]
    notes += [f"without the prefix {prefix}"] if prefix else []
    notes += [f"left out {_some(outside + counted)}"] if outside + counted else []
    notes += (
        [f"num_batches_tracked of {len(uncounted)} layers is missing, which changes no answer"] if uncounted else []
    )
    others = {value.dtype for key, value in state.items() if value.dtype != own[key].dtype}
    notes += [f"{', '.join(sorted(str(dtype).removeprefix('torch.') for dtype in others))} converted"] if others else []
    return _Fit(state, notes, _misfit(own, state, extra))


def _prefix(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """What stands before the network's own names where most of them are found; as little as possible."""
    found: collections.Counter[str] = collections.Counter()
    for key in tensors:
        for name in own:
            if key == name or key.endswith(f".{name}"):
                found[key.removesuffix(name)] += 1
    return max(sorted(found, key=len), key=lambda prefix: found[prefix], default="")


def _claimed_accuracy(content: Any) -> float | None:
    """What a checkpoint says of its accuracy, in 0 to 1."""
    if not isinstance(content, Mapping):
        return None
    for key, value in content.items():
        if not isinstance(key, str) or not ACCURACY.fullmatch(key):
            continue
        if isinstance(value, Tensor):
            value = value.item() if value.numel() == 1 else None
        if isinstance(value, int | float | numpy.number) and math.isfinite(value) and 0 < value <= 100:
            return float(value) / (1 if value <= 1 else 100)
    return None


def load_weights(network: nn.Module, state: dict[str, Tensor], source: str, title: str) -> None:
    """``load_state_dict``, after `require_fit`."""
    require_fit(network, state, source, title)
    network.load_state_dict(state)


def require_fit(network: nn.Module, state: dict[str, Tensor], source: str, title: str) -> None:
    """DfkdError says which entries of ``source`` do not fit the network called ``title``, which may be on the device ``meta``."""
    own = network.state_dict()
    if what := _misfit(own, state, [key for key in state if key not in own]):
        raise DfkdError(f"{source} does not fit {title}: it {what}")


def _misfit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], extra: list[str]) -> str:
    """What hinders ``state`` to be weights with the names and shapes of ``own``; empty if nothing does."""
    missing = [key for key in own if key not in state]
    wrong = [key for key in own if key in state and own[key].shape != state[key].shape]
    shapes = [f"{key} ({[*state[key].shape]}, and not {[*own[key].shape]})" for key in wrong]
    if quantised := [key for key in own if key in state and _is_quantised(own[key], state[key])]:
        return f"holds {QUANTISED} ({_some(quantised)}: {str(state[quantised[0]].dtype).removeprefix('torch.')})"
    imaginary = [key for key in own if key in state and state[key].is_complex() and not own[key].is_complex()]
    problems = [
        ("lacks", missing), ("has unknown", extra), ("has other shapes for", shapes), ("has complex numbers for", imaginary),
    ]  # fmt: skip
    return "; ".join(f"{verb} {_some(keys)}" for verb, keys in problems if keys)


def _is_quantised(own: Tensor, value: Tensor) -> bool:
    """Whether whole numbers stand where the network has others: what they are multiples of is not said."""
    return value.is_quantized or (own.is_floating_point() and not (value.is_floating_point() or value.is_complex()))


def _some(keys: list[str]) -> str:
    return brief(", ".join(sorted(keys)[:3])) + ("…" if len(keys) > 3 else "")


def require_sound(network: nn.Module, source: str) -> None:
    """DfkdError names a weight of ``source`` that is NaN or infinite, or a variance that BatchNorm carries and that is negative."""
    carried = {name: value for name, value in network.named_buffers() if name.endswith(("running_mean", "running_var"))}
    for name, value in {**dict(network.named_parameters()), **carried}.items():
        if not value.isfinite().all():
            raise DfkdError(f"{source}: {name} holds NaN or infinite values; no network works with them")
        if name.endswith("running_var") and (value < 0).any():
            raise DfkdError(
                f"{source}: {name} is negative somewhere, and no variance is; train or fetch the network again"
            )
