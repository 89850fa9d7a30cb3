"""The names of columns, and what is said where something does not fit."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl


class Unreadable(ValueError):
    """The table cannot be read or written; the text says why, to whoever gave it."""


def require(frame: pl.DataFrame, column: str) -> None:
    """Raises: Unreadable: there is no such column."""
    if column not in frame.columns:
        there = ", ".join(frame.columns[:30]) + (", …" if frame.width > 30 else "")
        raise Unreadable(f"there is no column {column!r}; there are: {there}")


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
