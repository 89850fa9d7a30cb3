"""Where a stream of events stands: what was given, what comes next, how to ask for the rest.

On our wire every event has a ``seq`` that goes up by one, and its ``id:`` is that number.
Other servers number from 0, or not at all, or repeat themselves when a client comes back.

Source: the BeRay API v1 wire page, "The stream"; WHATWG HTML, 9.2 (last event id).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from beray.exceptions import ConnectionFailed, StreamGapError, StreamInterrupted


class Cursor:
    """What is known across the connections of one stream.

    Attributes:
        last_event_id: of the last event that had one.
        expected: the ``seq`` that comes next; ``None`` where nothing can be said of it. A
            reader may take an event of this ``seq`` by itself, with ``last_event_id``.
    """

    def __init__(self, path: str, last_event_id: str | None) -> None:
        self.last_event_id = last_event_id
        seq = _seq_of(last_event_id)
        self.expected = None if seq is None else seq + 1
        self._path = path
        self._from_the_start = not last_event_id
        self._first_id: str | None = None
        self._first_seq: int | None = None
        self._gap_at: int | None = None
        self._is_numbered = True
        self._without_id = 0  # events given behind the last that had an id
        self._comes_back = False
        self._new = False  # whether this connection has given anything that is new
        self._repeats = False  # whether it gives, from the first one on, what was given

    @property
    def can_resume(self) -> bool:
        """Whether what follows the last event given can be asked for."""
        return bool(self.last_event_id) and not self._without_id

    def connecting(self) -> bytes | None:
        """Begin a connection; the id to resume by, as a header carries it (WHATWG: UTF-8).

        Raises:
            StreamInterrupted: there is an id, and no header can carry it.
        """
        self._new, self._repeats = False, False
        self._comes_back = bool(self.last_event_id)
        if not self.last_event_id:
            return None
        if self.last_event_id == self.last_event_id.strip() and self.last_event_id.isprintable():
            return self.last_event_id.encode()
        if self._first_seq is not None and self.expected is not None:
            return str(self.expected - 1).encode()
        raise StreamInterrupted(
            f"{self._path}: the stream broke behind an id that no header can carry",
            last_event_id=self.last_event_id,
            path=self._path,
        )

    def begin_behind(self, seq: int) -> None:
        """Go on as if the event ``seq`` had been the last one given."""
        self.last_event_id = str(seq)
        self.expected, self._first_seq = seq + 1, seq
        self._gap_at = None

    def take(self, event: Mapping[str, Any], event_id: str) -> bool:
        """Take an event; ``False`` where it was given before.

        Args:
            event_id: the last event id of its connection.

        Raises:
            ConnectionFailed: events are missing before it; a new connection may bring them.
            StreamGapError: it did not.
        """
        seq = event.get("seq")
        numbered = self._is_numbered and seq.__class__ is int
        taken = self._take_numbered(cast(int, seq), event_id) if numbered else None
        if taken is None:
            taken = self._take_by_id(event_id)
        self._new |= taken
        return taken

    def _take_numbered(self, seq: int, event_id: str) -> bool | None:
        """As ``take``; ``None`` where ``seq`` turns out to be no number of events."""
        if self._first_seq is None:
            if self._from_the_start:
                # It may count from 0, or from somewhere below.
                self.expected = min(seq, 1)
            elif event_id not in ("", str(seq)):
                self.expected = None  # the id to begin behind was no seq either
        if self.expected is not None and seq > self.expected:
            self._miss(self.expected, seq)
        if self.expected is not None and seq < self.expected:
            if self._is_repeat(seq, event_id):
                return False
            self._is_numbered, self.expected = False, None
            return None
        if self._first_seq is None:
            self._first_seq = seq
        self.expected = seq + 1
        self.last_event_id = event_id or str(seq)
        self._without_id = 0
        return True

    def _is_repeat(self, seq: int, event_id: str) -> bool:
        """Whether an event of a ``seq`` that was given is the one that was given."""
        if event_id == str(seq) or (self._comes_back and not self._new):
            return True
        assert self.expected is not None
        return self._first_seq is not None and self._first_seq < seq == self.expected - 1

    def _take_by_id(self, event_id: str) -> bool:
        if self._comes_back and not self._new and event_id and event_id == self._first_id:
            self._repeats = True  # it has not understood where to go on
        if self._repeats:
            self._repeats = event_id != self.last_event_id
            return False
        if event_id and event_id != self.last_event_id:
            self.last_event_id = event_id
            self._without_id = 0
        else:
            self._without_id += 1
        if self._first_id is None:
            self._first_id = event_id
        return True

    def _miss(self, expected: int, received: int) -> None:
        if self._gap_at == expected:
            raise StreamGapError(
                f"{self._path}: event {expected} is missing: the server went on with {received}",
                expected=expected,
                received=received,
                path=self._path,
            )
        self._gap_at = expected
        raise ConnectionFailed(f"{self._path}: event {expected} did not come", path=self._path)


class BoardCursor(Cursor):
    """Cursor of the stream over all tasks.

    A message without ``seq`` replaces the one before it. A ``TASKS`` begins anew, so nothing
    is missing before it; if older tasks follow it as ``TASKS_MORE``, the stream can be
    resumed only after the last of those.
    """

    _seq_of_board: int | None = None

    @property
    def can_resume(self) -> bool:
        return True

    def take(self, event: Mapping[str, Any], event_id: str) -> bool:
        seq, kind = event.get("seq"), event.get("type")
        if kind == "TASKS" and isinstance(seq, int):
            self._seq_of_board = seq
        elif kind != "TASKS_MORE" or self._seq_of_board is None:
            return seq is None or super().take(event, event_id)
        if event.get("more") is True:
            self.last_event_id, self.expected = None, None
        else:
            self.begin_behind(self._seq_of_board)
        return True


def _seq_of(event_id: str | None) -> int | None:
    """The ``seq`` that an id is, 0 before any; ``None`` for an id that is no number."""
    if not event_id:
        return 0
    return int(event_id) if event_id.isascii() and event_id.isdigit() else None
