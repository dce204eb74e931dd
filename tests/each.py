"""Checks of many files or names that take no time each: one test, where as many would take a third of a minute to be told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def each(values: Iterable[object]) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """A test that checks every one of ``values``, and says of all that fail what is wrong."""
    values = list(values)

    def decorate(check: Callable[..., None]) -> Callable[[], None]:
        def test() -> None:
            wrong = []
            for value in values:
                try:
                    check(*(value if isinstance(value, tuple) else (value,)))
                except AssertionError as error:
                    wrong.append(f"{value}: {error}")
            assert values
            assert not wrong, "\n".join(wrong)

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return decorate
