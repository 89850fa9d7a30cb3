"""Position and state of an event stream: what was yielded, what comes next, how to resume.

In the BeRay API every event has a ``seq`` that increases by one, which is also its ``id:``. Other
servers count from 0, send no numbers, or repeat events when a client reconnects.

Source: the BeRay API v1 wire page, "The stream"; WHATWG HTML, 9.2 (last event id).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, cast

from beray.exceptions import ConnectionFailed, StreamGapError, StreamInterrupted


class StreamState(StrEnum):
    """State of the connection of a stream, for display."""

    CONNECTING = "connecting"
    LIVE = "live"
    RECONNECTING = "reconnecting"
    ENDED = "ended"


class Cursor:
    """Position in a stream, kept across its connections.

    Args:
        path: Path of the stream, for messages.
        last_event_id: Id of the event to start after; ``None`` starts with the first event.

    Attributes:
        last_event_id: Id of the last event that had one.
        next_seq: ``seq`` of the next event; ``None`` if it is unknown. A reader may accept an
            event with this ``seq`` itself, by updating ``next_seq`` and ``last_event_id``.
    """

    def __init__(self, path: str, last_event_id: str | None) -> None:
        self.last_event_id = last_event_id
        seq = _seq_of_id(last_event_id)
        self.next_seq = None if seq is None else seq + 1
        self._path = path
        self._from_start = not last_event_id
        self._first_id: str | None = None
        self._first_seq: int | None = None
        self._gap_at: int | None = None
        self._is_numbered = True
        self._without_id = 0  # number of events since the last one with an id
        self._is_resuming = False
        self._has_new = False  # this connection has brought an event that is new
        self._is_repeating = False  # this connection repeats the stream from its first event

    @property
    def can_resume(self) -> bool:
        """True if the server can be asked for the events after the last one."""
        return bool(self.last_event_id) and not self._without_id

    def start_connection(self) -> bytes | None:
        """Start a new connection.

        Returns:
            The value of its ``Last-Event-ID`` header (UTF-8, as WHATWG HTML requires); ``None``
            to start with the first event.

        Raises:
            StreamInterrupted: The last event id contains characters that no header can carry.
        """
        self._has_new, self._is_repeating = False, False
        self._is_resuming = bool(self.last_event_id)
        if not self.last_event_id:
            return None
        if self.last_event_id == self.last_event_id.strip() and self.last_event_id.isprintable():
            return self.last_event_id.encode()
        if self._first_seq is not None and self.next_seq is not None:
            return str(self.next_seq - 1).encode()
        raise StreamInterrupted.for_request(
            "",
            self._path,
            "the stream broke and cannot be resumed, because the id of the last event contains "
            "characters that a header cannot carry",
            last_event_id=self.last_event_id,
        )

    def resume_after(self, seq: int) -> None:
        """Continue as if the event ``seq`` had been the last one."""
        self.last_event_id = str(seq)
        self.next_seq, self._first_seq = seq + 1, seq
        self._gap_at = None

    def accept(self, event: Mapping[str, Any], event_id: str) -> bool:
        """Advance to an event.

        Args:
            event: The event.
            event_id: Last event id of its connection.

        Returns:
            False if the event was received before.

        Raises:
            ConnectionFailed: Events before it are missing; a new connection may bring them.
            StreamGapError: They are missing on a new connection too.
        """
        seq = event.get("seq")
        is_numbered = self._is_numbered and seq.__class__ is int
        accepted = self._accept_numbered(cast(int, seq), event_id) if is_numbered else None
        if accepted is None:
            accepted = self._accept_by_id(event_id)
        self._has_new |= accepted
        return accepted

    def _accept_numbered(self, seq: int, event_id: str) -> bool | None:
        """As ``accept``; ``None`` if ``seq`` turns out not to number the events."""
        if self._first_seq is None:
            if self._from_start:
                # The server may count from 0 or from a negative number.
                self.next_seq = min(seq, 1)
            elif event_id not in ("", str(seq)):
                self.next_seq = None  # the id to start after was not a seq either
        if self.next_seq is not None and seq > self.next_seq:
            self._report_gap(self.next_seq, seq)
        if self.next_seq is not None and seq < self.next_seq:
            if self._is_repeat(seq, event_id):
                return False
            self._is_numbered, self.next_seq = False, None
            return None
        if self._first_seq is None:
            self._first_seq = seq
        self.next_seq = seq + 1
        self.last_event_id = event_id or str(seq)
        self._without_id = 0
        return True

    def _is_repeat(self, seq: int, event_id: str) -> bool:
        """Return True if an event with an earlier ``seq`` is a repetition."""
        if event_id == str(seq) or (self._is_resuming and not self._has_new):
            return True
        assert self.next_seq is not None
        return self._first_seq is not None and self._first_seq < seq == self.next_seq - 1

    def _accept_by_id(self, event_id: str) -> bool:
        if self._is_resuming and not self._has_new and event_id and event_id == self._first_id:
            self._is_repeating = True  # the server ignored Last-Event-ID
        if self._is_repeating:
            self._is_repeating = event_id != self.last_event_id
            return False
        if event_id and event_id != self.last_event_id:
            self.last_event_id = event_id
            self._without_id = 0
        else:
            self._without_id += 1
        if self._first_id is None:
            self._first_id = event_id
        return True

    def _report_gap(self, expected: int, received: int) -> None:
        if self._gap_at == expected:
            raise StreamGapError.for_request(
                "",
                self._path,
                f"event {expected} is missing: the server continued with {received}",
                expected=expected,
                received=received,
            )
        self._gap_at = expected
        raise ConnectionFailed.for_request("", self._path, f"event {expected} did not arrive")


class UpdateCursor(Cursor):
    """Position in the stream over all tasks.

    A message without ``seq`` replaces the previous one of its kind. ``TASKS`` starts anew, so
    nothing is missing before it; if older tasks follow as ``TASKS_MORE``, the stream can be
    resumed only after the last of those.
    """

    _seq_of_tasks: int | None = None

    @property
    def can_resume(self) -> bool:
        """Always True: a stream that cannot resume starts anew with ``TASKS``."""
        return True

    def accept(self, event: Mapping[str, Any], event_id: str) -> bool:
        """Advance to an update; see ``Cursor.accept``."""
        seq, event_type = event.get("seq"), event.get("type")
        if event_type == "TASKS" and isinstance(seq, int):
            self._seq_of_tasks = seq
        elif event_type != "TASKS_MORE" or self._seq_of_tasks is None:
            return seq is None or super().accept(event, event_id)
        if event.get("more") is True:
            self.last_event_id, self.next_seq = None, None
        else:
            self.resume_after(self._seq_of_tasks)
        return True


def _seq_of_id(event_id: str | None) -> int | None:
    """Return the ``seq`` that an event id stands for: 0 for none, ``None`` if not a number."""
    if not event_id:
        return 0
    return int(event_id) if event_id.isascii() and event_id.isdigit() else None
