"""The names of columns, and what is said where something does not fit."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

_MOST_SAID = 5
_LONGEST_SAID = 40


class BadInput(ValueError):
    """What was given cannot be used; the text says why, to whoever gave it."""


def require(frame: pl.DataFrame, column: str) -> None:
    """Raises: BadInput: there is no such column."""
    if column not in frame.columns:
        there = ", ".join(frame.columns[:30]) + (", …" if frame.width > 30 else "")
        raise BadInput(f"there is no column {column!r}; there are: {there}")


def renamed(given: Sequence[str], names: Sequence[str]) -> list[str]:
    """What is to be said where columns are called otherwise than was given."""
    changed = [
        f"{place} from {before[:_LONGEST_SAID]!r} to {after[:_LONGEST_SAID]!r}"
        for place, (before, after) in enumerate(zip(given, names, strict=False), 1)
        if before != after
    ]
    if not changed:
        return []
    return [f"columns are renamed: {some(changed)}"]


def some(all_of_them: Sequence[str]) -> str:
    """The first few, and how many there are more."""
    more = len(all_of_them) - _MOST_SAID
    said = ", ".join(all_of_them[:_MOST_SAID])
    return f"{said} and {more:,} more" if more > 0 else said


def unique(names: Sequence[str]) -> list[str]:
    """``names``, told apart by numbers; one that is empty is called after its place."""
    taken: set[str] = set()
    result = []
    for place, given in enumerate(names, 1):
        base = given.strip() or f"column_{place}"
        name, number = base, 1
        while name.casefold() in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name.casefold())
        result.append(name)
    return result
