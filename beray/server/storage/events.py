"""Reads of the event log in the database, each limited by bytes.

Bodies are read as the UTF-8 bytes that are stored, because they are sent unchanged.
Rows are fetched one by one, so that no more than the rows that fit is ever in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import LargeBinary, case, cast, func, select
from sqlalchemy.orm import Session

from beray.server.storage.tables import StoredEvent

# The table's columns: rows of those are not fetched all at once, as those of a mapped class.
_EVENTS: Final = StoredEvent.__table__.c
_BODY: Final = cast(_EVENTS.body, LargeBinary)
_SIZE: Final = func.length(_BODY)


class EventRow(NamedTuple):
    """An event; ``body`` is empty if it is large, and ``size`` the bytes that it has."""

    seq: int
    size: int
    body: bytes


@dataclass(frozen=True, slots=True)
class EventRange:
    """Consecutive events: those from ``first`` to ``last``, or none if ``last`` is less."""

    first: int
    last: int

    @property
    def count(self) -> int:
        return self.last - self.first + 1


def page(
    session: Session, task_id: int, after: int, *, max_events: int, max_bytes: int, large: int
) -> tuple[list[EventRow], bool]:
    """Return the events after ``after`` that fit, at least one, and whether there are more.

    Args:
        large: An event of more bytes is returned alone, without its body.
    """
    following = (
        select(_EVENTS.seq, _SIZE, case((large >= _SIZE, _BODY), else_=b""))
        .where(_EVENTS.task_id == task_id, _EVENTS.seq > after)
        .order_by(_EVENTS.seq)
    )
    rows: list[EventRow] = []
    size = 0
    with session.execute(following) as found:
        for seq, length, body in found:
            size += length
            if rows and (size > max_bytes or length > large or len(rows) == max_events):
                return rows, True
            rows.append(EventRow(seq, length, valid_utf8(body)))
    return rows, False


def body_part(session: Session, task_id: int, seq: int, start: int, size: int) -> bytes:
    """Return up to ``size`` bytes of a body from byte ``start`` on; b"" after it was deleted."""
    part = func.substr(_BODY, start + 1, size, type_=LargeBinary)
    wanted = select(part).where(_EVENTS.task_id == task_id, _EVENTS.seq == seq)
    return session.scalar(wanted) or b""


def newest(
    session: Session, task_id: int, last: int, *, max_events: int, max_bytes: int
) -> EventRange:
    """Return the newest events up to ``last`` that fit, at least one."""
    descending = (
        select(_EVENTS.seq, _SIZE)
        .where(_EVENTS.task_id == task_id, _EVENTS.seq <= last)
        .order_by(_EVENTS.seq.desc())
        .limit(max_events)
    )
    with session.execute(descending) as found:
        seqs = list(_fitting(found, max_bytes))
    return EventRange(seqs[-1], seqs[0]) if seqs else EventRange(last + 1, last)


def following(
    session: Session, task_id: int, after: int, *, max_events: int, max_bytes: int
) -> tuple[EventRange, bool]:
    """Return the events after ``after`` that fit, at least one.

    Returns:
        The events, and whether ``max_bytes`` cut off some of the next ``max_events``.
    """
    ascending = (
        select(_EVENTS.seq, _SIZE)
        .where(_EVENTS.task_id == task_id, _EVENTS.seq > after)
        .order_by(_EVENTS.seq)
        .limit(max_events)
    )
    with session.execute(ascending) as found:
        seqs = list(_fitting(found, max_bytes))
        if not seqs:
            return EventRange(after + 1, after), False
        extent = EventRange(seqs[0], seqs[-1])
    if extent.count == max_events:
        return extent, False
    behind = (_EVENTS.task_id == task_id) & (_EVENTS.seq > extent.last)
    return extent, session.scalar(select(_EVENTS.seq).where(behind).limit(1)) is not None


def newest_first(session: Session, task_id: int, last: int) -> Iterator[bytes]:
    """Yield the bodies of the events up to ``last``, the newest first."""
    descending = (
        select(_BODY)
        .where(_EVENTS.task_id == task_id, _EVENTS.seq <= last)
        .order_by(_EVENTS.seq.desc())
    )
    with session.execute(descending) as found:
        for (body,) in found:
            yield valid_utf8(body)


def _fitting(rows: Iterable[tuple[int, int]], max_bytes: int) -> Iterator[int]:
    """Yield the ``seq`` of the first rows of (seq, size) that fit, at least of one."""
    total = 0
    for number, (seq, size) in enumerate(rows):
        total += size + 1  # with the comma after it
        if number and total > max_bytes:
            return
        yield seq


def valid_utf8(body: bytes) -> bytes:
    """Return ``body`` with U+FFFD in the place of what a damaged database has of it."""
    if body.isascii():
        return body
    try:
        body.decode()
    except UnicodeDecodeError:
        return body.decode("utf-8", "replace").encode()
    return body
