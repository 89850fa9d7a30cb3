"""The names of columns, and what is said where something does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import polars as pl

from beray.prefab import InputError

_MOST_SAID = 5
_MOST_NAMES = 30
_LONGEST_SAID = 40


class BadInput(InputError):
    """A file or a parameter cannot be used. The text is shown to the caller."""


def require(frame: pl.DataFrame, column: str) -> None:
    """Raise BadInput if the table has no such column."""
    if column not in frame.columns:
        hint = suggestion(column, frame.columns, "columns")
        raise BadInput(f"there is no column {column!r}; {hint}")


def suggestion(name: str, names: Sequence[str], kind: str) -> str:
    """Return similar names for one that does not exist, and the first names that do."""
    by_key = {each.casefold(): each for each in names}
    similar = [by_key[key] for key in get_close_matches(name.casefold(), by_key, 3)]
    more = f", … ({len(names):,} in total)" if len(names) > _MOST_NAMES else ""
    shown = ", ".join(each[:_LONGEST_SAID] for each in names[:_MOST_NAMES])
    existing = f"the {kind} are: {shown}{more}"
    return f"did you mean {' or '.join(map(repr, similar))}? {existing}" if similar else existing


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
