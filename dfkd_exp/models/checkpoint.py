"""Trained weights from a file into a network: in the forms in which people keep them, with a line for what was taken, and one for what does
not fit."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
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
    network's are left out, missing counts of batches are forgiven, other precisions converted. Of several networks, in state_dicts of their
    own or by their prefixes in one, ``choice`` says which to take, by its name or a word of it, such as ``ema``; where it is None it is the
    one that fits and is no moving average. DfkdError names ``flag``, the network by its ``title``, and what to do.
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
    fits = dict(fit for name, tensors in found.items() for fit in _fits(network, name, tensors))
    name = _chosen(fits, choice, source, option, title)
    network.load_state_dict(fits[name].state)
    require_sound(network, source)
    return Loaded([*fits[name].notes, *_averages(fits, name, option)], _claimed_accuracy(content))


def _state_dicts(content: Any, name: str = "", depth: int = 3) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every state_dict within what was read, by where it lies: ``model.state_dict``; at the top it is called the empty string."""
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return
    if content and all(isinstance(value, Tensor) for value in content.values()):
        yield name, dict(content)
    elif depth:
        for key, value in content.items():
            yield from _state_dicts(value, f"{name}.{key}".lstrip("."), depth - 1)


def _chosen(fits: dict[str, _Fit], choice: str | None, source: str, option: str, title: str) -> str:
    """The name of those weights that are meant and fit."""
    if choice is None:
        meant = [name for name in fits if not _is_average(name)] or list(fits)
    elif not (meant := _meant(fits, choice)):
        names = brief(", ".join(filter(None, fits))) or "one state_dict, without a name"
        raise DfkdError(f"{option}={choice}: {source} has {names}")
    fitting = [name for name in meant if not fits[name].misfit]
    if not fitting:
        name = max(meant, key=lambda name: len(fits[name].state))
        why = "; ".join([fits[name].misfit, *_averages(fits, name, option)])
        raise DfkdError(f"{source} does not fit {title}: {name or 'it'} {why}")
    first, *others = fitting
    # A network that a module holds twice, as itself and within a wrapper, is one.
    if any(
        not torch.equal(value, fits[name].state[key]) for name in others for key, value in fits[first].state.items()
    ):
        names = brief(" or ".join(name or "''" for name in fitting))
        raise DfkdError(f"{source} has several state_dicts that fit {title}: say {option}={names}")
    return first


def _meant(names: Iterable[str], choice: str) -> list[str]:
    """The one that is called so; else those of which it is a part, between dots; else those of which it is a word."""
    return (
        [name for name in names if name == choice]
        or [name for name in names if f".{choice}." in f".{name}."]
        or [name for name in names if choice in re.split(r"[._]", name)]
    )


def _is_average(name: str) -> bool:
    return not {"ema", "swa", "averaged", "average"}.isdisjoint(re.split(r"[._]", name.lower()))


def _averages(fits: dict[str, _Fit], taken: str, option: str) -> list[str]:
    """What there is to say of the moving averages that fit and were not ``taken``: the shortest way to choose each."""
    averages = [name for name, fit in fits.items() if _is_average(name) and name != taken and not fit.misfit]
    words = [next((word for word in ("ema", "swa") if _meant(fits, word) == [name]), name) for name in averages]
    return [f"{name} is there too, and {option}={word} takes it" for name, word in zip(averages, words, strict=True)]


def _fits(network: nn.Module, name: str, tensors: dict[str, Tensor]) -> Iterator[tuple[str, _Fit]]:
    """What of the tensors of a state_dict are weights of ``network``, by their names without what wrappers put before or into them; each by
    the ``name`` of the state_dict and the prefix. Where none fits, it is what comes nearest."""
    own = network.state_dict()
    wrapped = [
        part for part in OF_WRAPPERS if any(part in key for key in tensors) and not any(part in key for key in own)
    ]
    renamed = dict(tensors)
    for part in wrapped:
        renamed = {key.replace(part, ""): value for key, value in renamed.items()}
    notes = [f"taken from {name}"] if name else []
    notes += [f"without {part.rstrip('.')} in names" for part in wrapped]
    prefixes = _prefixes(own, renamed)
    for prefix in prefixes:
        within = tuple(other for other in prefixes if other != prefix and other.startswith(prefix))
        theirs = {key for key in renamed if key.startswith(within) or not key.startswith(prefix)}
        yield f"{name}.{prefix}".strip("."), _fit(own, renamed, prefix, theirs, notes)


def _fit(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], prefix: str, theirs: set[str], notes: list[str]
) -> _Fit:
    """The tensors with the prefix, but for ``theirs``, as the weights of a network that has its ``own``; after other ``notes``."""
    within = {key.removeprefix(prefix): value for key, value in tensors.items() if key not in theirs}
    counted = [key for key in within if key not in own and key.rpartition(".")[2] in OF_PROFILERS]
    state = {key: within[key].to_dense() for key in own if key in within}
    uncounted = [key for key in own if key not in within and key.endswith("num_batches_tracked")]
    state |= {key: own[key] for key in uncounted}
    extra = [key for key in within if key not in own and key not in counted]
    left_out = [*theirs, *counted]
    notes = [*notes, f"without the prefix {prefix}"] if prefix else [*notes]
    notes += [f"left out {_some(left_out)}"] if left_out else []
    notes += (
        [f"num_batches_tracked of {len(uncounted)} layers is missing, which changes no answer"] if uncounted else []
    )
    others = {value.dtype for key, value in state.items() if value.dtype != own[key].dtype}
    notes += [f"{', '.join(sorted(str(dtype).removeprefix('torch.') for dtype in others))} converted"] if others else []
    return _Fit(state, notes, _misfit(own, state, extra))


def _prefixes(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    """What stands before the network's own names where the most of them, and of their shapes, are found; the shortest first. There are
    several where several networks fit."""
    found: collections.Counter[str] = collections.Counter()
    for key, value in tensors.items():
        for start in [0, *(dot.end() for dot in re.finditer(r"\.", key))]:
            name = key[start:]
            if name in own and not name.endswith("num_batches_tracked"):  # which may be missing
                found[key[:start]] += 1 + (value.shape == own[name].shape)
    most = max(found.values(), default=0)
    return sorted((prefix for prefix in found if found[prefix] == most), key=len) or [""]


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
