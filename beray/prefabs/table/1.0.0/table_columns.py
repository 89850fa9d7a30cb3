"""Names of columns, and messages about them."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import polars as pl

from beray.prefab import InputError

_MAX_LISTED = 5
_MAX_NAMES = 30
_MAX_NAME_CHARACTERS = 40


class TableInputError(InputError):
    """A file or a parameter is invalid. The message is shown to the caller."""


def require(frame: pl.DataFrame, column: str) -> None:
    """Raise TableInputError if the table has no such column."""
    if column not in frame.columns:
        hint = suggestion(column, frame.columns, "columns")
        raise TableInputError(f"column {column!r} does not exist; {hint}")


def suggestion(name: str, names: Sequence[str], kind: str) -> str:
    """Return similar names for one that does not exist, and the first names that do."""
    by_key = {each.casefold(): each for each in names}
    similar = [by_key[key] for key in get_close_matches(name.casefold(), by_key, 3)]
    more = f", … ({len(names):,} in total)" if len(names) > _MAX_NAMES else ""
    shown = ", ".join(each[:_MAX_NAME_CHARACTERS] for each in names[:_MAX_NAMES])
    existing = f"the {kind} are: {shown}{more}"
    return f"did you mean {' or '.join(map(repr, similar))}? {existing}" if similar else existing


def rename_messages(original: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return a message about the columns whose names differ from the original ones."""
    changed = [
        f"{number} from {before[:_MAX_NAME_CHARACTERS]!r} to {after[:_MAX_NAME_CHARACTERS]!r}"
        for number, (before, after) in enumerate(zip(original, names, strict=False), 1)
        if before != after
    ]
    if not changed:
        return []
    return [f"columns are renamed: {abbreviated_list(changed)}"]


def abbreviated_list(items: Sequence[str]) -> str:
    """Return the first five items and the number of the others."""
    remaining = len(items) - _MAX_LISTED
    listed = ", ".join(items[:_MAX_LISTED])
    return f"{listed} and {remaining:,} more" if remaining > 0 else listed


def unique_names(names: Sequence[str]) -> list[str]:
    """Make names unique, ignoring case, by appending numbers.

    Surrounding whitespace is removed. An empty name becomes ``column_`` and the column's number.
    """
    used: set[str] = set()
    result = []
    for position, original in enumerate(names, 1):
        base = original.strip() or f"column_{position}"
        name, number = base, 1
        while name.casefold() in used:
            number += 1
            name = f"{base}_{number}"
        used.add(name.casefold())
        result.append(name)
    return result
