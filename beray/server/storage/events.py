"""Queries of stored events, each limited by bytes.

Bodies are read as the stored UTF-8 bytes, because they are sent unchanged. Rows are fetched one
by one, so that only the rows that fit into the limit are in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import LargeBinary, case, cast, func, select
from sqlalchemy.orm import Session

from beray.server.storage.tables import StoredEvent

# Columns of the table: their rows are streamed, while objects of a mapped class are all fetched.
_EVENTS: Final = StoredEvent.__table__.c
_BODY: Final = cast(_EVENTS.body, LargeBinary)
_SIZE: Final = func.length(_BODY)


class EventRow(NamedTuple):
    """An event; ``size`` is the number of bytes of its body. The body of a large event is empty."""

    seq: int
    size: int
    body: bytes


@dataclass(frozen=True, slots=True)
class EventRange:
    """Consecutive events from ``first`` to ``last``; empty if ``last`` is less than ``first``."""

    first: int
    last: int

    @property
    def count(self) -> int:
        """Number of events."""
        return self.last - self.first + 1


def page(
    session: Session, task_id: int, after: int, *, max_events: int, max_bytes: int, large: int
) -> tuple[list[EventRow], bool]:
    """Return the events after the ``seq`` ``after`` that fit, and True if there are more.

    At least one event is returned if there is any.

    Args:
        session: Session to read with.
        task_id: Task of the events.
        after: ``seq`` of the event before the first one.
        max_events: Maximum number of events.
        max_bytes: Maximum size of their bodies together.
        large: Size above which an event is returned alone and without its body.
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
    """Return up to ``size`` bytes of a body from byte ``start``; b"" if the event was deleted."""
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
    """Return the events after the ``seq`` ``after`` that fit, at least one.

    Returns:
        The events, and True if ``max_bytes`` excludes some of the next ``max_events`` events.
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
    later = (_EVENTS.task_id == task_id) & (_EVENTS.seq > extent.last)
    return extent, session.scalar(select(_EVENTS.seq).where(later).limit(1)) is not None


def newest_first(session: Session, task_id: int, last: int) -> Iterator[bytes]:
    """Yield the bodies of the events up to ``last``, newest first."""
    descending = (
        select(_BODY)
        .where(_EVENTS.task_id == task_id, _EVENTS.seq <= last)
        .order_by(_EVENTS.seq.desc())
    )
    with session.execute(descending) as found:
        for (body,) in found:
            yield valid_utf8(body)


def _fitting(rows: Iterable[tuple[int, int]], max_bytes: int) -> Iterator[int]:
    """Yield the ``seq`` of each row (seq, size) until ``max_bytes`` is exceeded, at least one."""
    total = 0
    for number, (seq, size) in enumerate(rows):
        total += size + 1  # the comma of the JSON array
        if number and total > max_bytes:
            return
        yield seq


def valid_utf8(body: bytes) -> bytes:
    """Return ``body`` with invalid UTF-8, from a damaged database, replaced by U+FFFD."""
    if body.isascii():
        return body
    try:
        body.decode()
    except UnicodeDecodeError:
        return body.decode("utf-8", "replace").encode()
    return body
