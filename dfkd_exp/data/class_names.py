"""Which class of a data set is which of a release: by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dfkd_exp.data.splits import some_of
from dfkd_exp.errors import DfkdError


@dataclass(frozen=True)
class Numbering:
    """Of each class of a data set its number among a release's, and what people must know of it; empty: nothing."""

    numbers: list[int]
    note: str = ""
    by_order: bool = False
    """Whether none is called as one of the release's, and they are taken in their order."""


def numbering(ours: Sequence[str], theirs: Sequence[str]) -> Numbering:
    """That of a data set's classes ``ours`` among a release's, ``theirs``, whatever the case of their names. Raises DfkdError where some
    have a name of the release's and some have none, or none has and they are not as many."""
    own, known = ([name.strip().lower() for name in names] for names in (ours, theirs))
    numbers = list(range(len(own)))
    if own == known:
        return Numbering(numbers)
    strange = [name for name, key in zip(ours, own, strict=True) if key not in known]
    way_out = (
        f"call the data's classes as the release does ({some_of(theirs)}): data.classes, or the names of the folders"
    )
    if len(strange) == len(own) == len(known):
        note = f"the data's classes ({some_of(ours)}) are taken for the release's ({some_of(theirs)}) in this order"
        return Numbering(numbers, note, by_order=True)
    if len(strange) == len(own):
        raise DfkdError(
            f"the data has {len(own)} classes ({some_of(ours)}), of which none is called as one of the release's {len(known)}; {way_out}"
        )
    if strange:
        raise DfkdError(
            f"the data has classes that the release has not: {some_of(strange)}; leave them out, or {way_out}"
        )
    if len({*own}) < len(own) or len({*known}) < len(known):
        raise DfkdError(f"classes of one name cannot be told apart ({some_of(ours)}); {way_out}")
    numbers = [known.index(name) for name in own]
    some = f"{len(own)} of the release's {len(known)} classes" if len(own) < len(known) else "the release's classes"
    return Numbering(numbers, f"the data has {some}, which are matched by their names")
