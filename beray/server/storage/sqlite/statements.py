"""Expressions and statements whose SQL differs between databases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, LargeBinary, cast
from sqlalchemy.dialects.sqlite import Insert, insert

from beray.server.storage.tables import Base


def utf8(text: ColumnElement[str]) -> ColumnElement[bytes]:
    """Return the stored UTF-8 bytes of a column of strings."""
    return cast(text, LargeBinary)


def upsert(
    table: type[Base],
    key: Mapping[str, Any],
    values: Mapping[str, Any],
    *,
    changes: Mapping[str, Any] | None = None,
) -> Insert:
    """Return a statement that inserts a row, or updates the row that has its key.

    Args:
        table: Table of the row.
        key: Values of the primary key, by column.
        values: Values of the other columns.
        changes: New values of an existing row, which may refer to its columns; by default
            ``values``.
    """
    row = insert(table).values({**key, **values})
    return row.on_conflict_do_update(index_elements=list(key), set_=dict(changes or values))


def insert_if_missing(
    table: type[Base], key: Mapping[str, Any], values: Mapping[str, Any]
) -> Insert:
    """Return a statement that inserts a row unless there is one with its key."""
    row = insert(table).values({**key, **values})
    return row.on_conflict_do_nothing(index_elements=list(key))


def insert_rows_if_missing(table: type[Base]) -> Insert:
    """Return a statement that inserts the rows of its parameters unless their keys exist."""
    return insert(table.__table__).on_conflict_do_nothing()  # type: ignore[arg-type]


def insert_or_replace(table: type[Base]) -> Insert:
    """Return a statement that inserts the rows of its parameters, or replaces existing ones."""
    row = insert(table.__table__)  # type: ignore[arg-type]
    keys = {column.name for column in table.__table__.primary_key}
    others = {
        column.name: row.excluded[column.name]
        for column in table.__table__.columns
        if column.name not in keys
    }
    return row.on_conflict_do_update(index_elements=sorted(keys), set_=others)
