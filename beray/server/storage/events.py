"""Repository of events, whose reads are limited by bytes.

Bodies are read as the stored UTF-8 bytes, because they are sent unchanged. Rows are fetched one
by one, so that only the rows that fit into the limit are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from sqlalchemy import LargeBinary, case, delete, func, select
from sqlalchemy.orm import Session

from beray.server.storage.database import Database
from beray.server.storage.log_transaction import LogPosition, LogTransaction, log_position
from beray.server.storage.sqlite.statements import utf8
from beray.server.storage.tables import StoredEvent

T = TypeVar("T")

# Columns of the table: their rows are streamed, while objects of a mapped class are all fetched.
_EVENTS: Final = StoredEvent.__table__.c
_BODY: Final = utf8(_EVENTS.body)
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


class StoredPage(NamedTuple):
    """Consecutive events of a task.

    Attributes:
        position: End of the task's log.
        rows: The events.
        has_more: True if more events follow.
    """

    position: LogPosition
    rows: list[EventRow]
    has_more: bool


class EventRepository:
    """Events of all tasks. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def transact(
        self, work: Callable[[LogTransaction], T], *, wait: float, with_reserve: bool
    ) -> T:
        """Return the result of ``work``, which writes events, in one transaction.

        Args:
            work: Writes to the database only: with the reserve, it is called again if the disk
                was full.
            wait: Maximum seconds to wait for the write lock.
            with_reserve: Whether the transaction may use the reserved disk space.

        Raises:
            StorageError: Nothing was written.
        """

        def run(session: Session) -> T:
            return work(LogTransaction(session=session))

        if with_reserve:
            return self._database.write_with_reserve(run, wait)
        with self._database.writing(wait) as session:
            return run(session)

    def page(
        self, task_id: int, after: int, *, max_events: int, max_bytes: int, large: int
    ) -> StoredPage | None:
        """Return the events after the ``seq`` ``after`` that fit, at least one if there is any.

        Returns:
            ``None`` if the task does not exist.

        Args:
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
        with self._database.reading() as session:
            position = log_position(session, task_id)
            if position is None:
                return None
            with session.execute(following) as found:
                for seq, length, body in found:
                    size += length
                    if rows and (size > max_bytes or length > large or len(rows) == max_events):
                        return StoredPage(position, rows, True)
                    rows.append(EventRow(seq, length, valid_utf8(body)))
        return StoredPage(position, rows, False)

    def body_part(self, task_id: int, seq: int, start: int, size: int) -> bytes:
        """Return up to ``size`` bytes of a body from byte ``start``; b"" if it was deleted."""
        part = func.substr(_BODY, start + 1, size, type_=LargeBinary)
        wanted = select(part).where(_EVENTS.task_id == task_id, _EVENTS.seq == seq)
        with self._database.reading() as session:
            return session.scalar(wanted) or b""

    def newest(self, task_id: int, last: int, *, max_events: int, max_bytes: int) -> EventRange:
        """Return the newest events up to ``last`` that fit, at least one."""
        descending = (
            select(_EVENTS.seq, _SIZE)
            .where(_EVENTS.task_id == task_id, _EVENTS.seq <= last)
            .order_by(_EVENTS.seq.desc())
            .limit(max_events)
        )
        with self._database.reading() as session, session.execute(descending) as found:
            seqs = list(_fitting(found, max_bytes))
        return EventRange(seqs[-1], seqs[0]) if seqs else EventRange(last + 1, last)

    def following(
        self, task_id: int, after: int, *, max_events: int, max_bytes: int
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
        with self._database.reading() as session:
            with session.execute(ascending) as found:
                seqs = list(_fitting(found, max_bytes))
            if not seqs:
                return EventRange(after + 1, after), False
            extent = EventRange(seqs[0], seqs[-1])
            if extent.count == max_events:
                return extent, False
            later = (_EVENTS.task_id == task_id) & (_EVENTS.seq > extent.last)
            return extent, session.scalar(select(_EVENTS.seq).where(later).limit(1)) is not None

    @contextmanager
    def newest_first(self, task_id: int, last: int) -> Iterator[Iterator[bytes]]:
        """Read the bodies of the events up to ``last`` during the block, newest first."""
        descending = (
            select(_BODY)
            .where(_EVENTS.task_id == task_id, _EVENTS.seq <= last)
            .order_by(_EVENTS.seq.desc())
        )
        with self._database.reading() as session, session.execute(descending) as found:
            yield (valid_utf8(body) for (body,) in found)

    def user_messages(self, task_id: int, after: int, last: int) -> list[tuple[int, str]]:
        """Return ``seq`` and stored JSON of the user's messages after ``after``, up to ``last``."""
        wanted = (StoredEvent.task_id == task_id) & StoredEvent.seq.between(after + 1, last)
        messages = (
            select(StoredEvent.seq, StoredEvent.body)
            .where(wanted, StoredEvent.type == "USER_MESSAGE")
            .order_by(StoredEvent.seq)
        )
        with self._database.reading() as session:
            return [(seq, body) for seq, body in session.execute(messages)]

    def count_ends_after(self, task_id: int, seq: int) -> int:
        """Count the events after ``seq`` that report the end of an answer, or an error."""
        ends = StoredEvent.type.in_(("AGENT_EVENT_END", "ERROR"))
        of_answer = (StoredEvent.task_id == task_id) & (StoredEvent.seq > seq)
        with self._database.reading() as session:
            return session.scalar(select(func.count()).where(of_answer, ends)) or 0

    def delete_first(self, task_id: int, limit: int) -> bool:
        """Delete the first ``limit`` events of a deleted task; return whether more may follow."""

        def remove(session: Session) -> bool:
            own = StoredEvent.task_id == task_id
            first = session.scalar(select(func.min(StoredEvent.seq)).where(own))
            if first is not None:
                # Event numbers have no gaps.
                session.execute(delete(StoredEvent).where(own, StoredEvent.seq < first + limit))
            return first is not None

        return self._database.write_with_reserve(remove)


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
