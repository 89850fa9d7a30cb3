"""The updates of a task: every event once, in order, until the server says it is over.

A ``TaskStream`` outlives its connections. When one breaks it comes back with
``Last-Event-ID`` and goes on behind the last event it gave. Only a terminal
``TASK_STATUS`` ends it; where a server does not send one, the task itself is asked.

Source: the BeRay API v1 wire page, "The stream".
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, Self, cast

from beray import retries, sse
from beray.body import Body
from beray.connections import Cancel
from beray.exceptions import (
    APIError,
    ConnectionFailed,
    InvalidResponseError,
    StreamGapError,
    StreamInterrupted,
)
from beray.schema import BODY_EXCERPT, TERMINAL_STATUSES, Task, TaskEvent
from beray.transport import Transport, segment

IDLE_SECONDS: Final = 45.0
"""Silence after which a connection counts as broken: three heartbeats of our server."""
RECONNECT_SECONDS: Final = 300.0
"""How long to try, without a byte received, before giving up."""
_LONGEST_DELAY: Final = 15.0
_LONGEST_RETRY: Final = 60.0
_SHORTEST_RETRY: Final = 0.1
_LIVED_SECONDS: Final = 10.0
_WORTH_WAITING: Final = frozenset({429, 500, 502, 503, 504})


class StreamState(StrEnum):
    """What a stream is doing, for a caller to show."""

    CONNECTING = "connecting"
    LIVE = "live"
    RECONNECTING = "reconnecting"
    ENDED = "ended"


class TaskStream(Iterator[TaskEvent]):
    """Iterate over a task's events; also a context manager.

    ``close()`` may be called from any thread and returns at once; the iteration then
    stops. A loop that is left with ``break`` gives the connection back by itself.

    Raises, while iterating:
        APIError: the server refuses the stream (``NotFoundError``,
            ``AuthenticationError``, …).
        ConnectionFailed: no byte came for ``reconnect`` seconds.
        StreamInterrupted: the stream broke, and has no ids to be resumed by.
        StreamGapError: the server left out events.
        InvalidResponseError: an event is not a JSON object.
    """

    def __init__(
        self,
        transport: Transport,
        task_id: int,
        get_task: Callable[[], Task],
        *,
        last_event_id: str | None = None,
        reconnect: float = RECONNECT_SECONDS,
        idle: float = IDLE_SECONDS,
        on_state: Callable[[StreamState], None] | None = None,
    ) -> None:
        path = f"/tasks/{segment(task_id)}/stream"
        # Apart from this object, so that nothing but its user holds it: when it is
        # dropped, in the middle of a loop for one, it closes.
        self._reader = _Reader(transport, path, get_task, last_event_id, reconnect, idle, on_state)
        self._turn = threading.Lock()  # for one thread that iterates at a time
        self._events = self._reader.events()

    @property
    def last_event_id(self) -> str | None:
        """The id of the last event given: where to go on, in this process or a later one."""
        return self._reader.last_event_id

    @property
    def state(self) -> StreamState:
        return self._reader.state

    @property
    def retry_in(self) -> float:
        """Seconds that the wait before the next connection takes, while reconnecting."""
        return self._reader.retry_in

    def __next__(self) -> TaskEvent:
        with self._turn:
            if self._reader.closed:
                self._events.close()
            return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_events"):
            self.close()

    def close(self) -> None:
        """Stop iterating, wherever the iterating thread is blocked. Idempotent."""
        self._reader.close()
        # Where nobody is iterating, nobody else would give the connection back.
        if self._turn.acquire(blocking=False):
            try:
                self._events.close()
            finally:
                self._turn.release()


class _Reader:
    """The connections of one stream, and what is known across them."""

    def __init__(
        self,
        transport: Transport,
        path: str,
        get_task: Callable[[], Task],
        last_event_id: str | None,
        reconnect: float,
        idle: float,
        on_state: Callable[[StreamState], None] | None,
    ) -> None:
        self.last_event_id = last_event_id
        self.state = StreamState.CONNECTING
        self.retry_in = 0.0
        self._transport = transport
        self._path = path
        self._get_task = get_task
        self._reconnect = reconnect
        self._idle = idle
        self._on_state = on_state
        self._cancel = Cancel()
        self._last_seq = _seq_of(last_event_id)
        self._gap_at: int | None = None
        self._first_delay = 0.25
        self._heard = False

    @property
    def closed(self) -> bool:
        return self._cancel.cancelled

    def close(self) -> None:
        self._cancel.cancel()

    def events(self) -> Generator[TaskEvent, None, None]:
        """All events, over as many connections as it takes."""
        attempt = 0
        silent_ends = 0
        heard_at = time.monotonic()
        try:
            while not self.closed:
                self._heard = False
                began = time.monotonic()
                given = 0
                failure: ConnectionFailed | APIError | None = None
                try:
                    for event in self._connection():
                        given += 1
                        ended = _is_end(event)
                        yield event
                        if ended:
                            return
                        del event
                except ConnectionFailed as error:
                    failure = error
                except APIError as error:
                    if error.status_code not in _WORTH_WAITING:
                        raise
                    failure = error
                if self._cancel.cancelled:
                    return
                if failure is None:
                    # An orderly close without the end. A server that sends no ids cannot
                    # be asked for the rest, and one that is silent again may never say
                    # the end: then the task itself knows.
                    silent_ends = 0 if given else silent_ends + 1
                    no_ids = given and not self.last_event_id
                    if (no_ids or silent_ends > 1) and self._task_has_ended():
                        return
                if given and not self.last_event_id:
                    raise StreamInterrupted(
                        f"{self._path}: the stream broke after {given} events, before the task "
                        "ended; the server sends no ids to resume by",
                        path=self._path,
                    ) from failure
                now = time.monotonic()
                if self._heard:
                    heard_at = now
                # One that breaks at once, without an event, is not worth hurrying for.
                attempt = 1 if given or now - began > _LIVED_SECONDS else attempt + 1
                left = self._reconnect - (now - heard_at)
                if left < 0:
                    raise failure or ConnectionFailed(
                        f"{self._path}: the stream ends early, again and again", path=self._path
                    )
                self._wait(attempt, failure, left)
        finally:
            self._set_state(StreamState.ENDED)

    def _connection(self) -> Generator[TaskEvent, None, None]:
        """The events of one connection that have not been given before."""
        from pydantic_core import from_json  # here, because importing it costs

        headers: dict[str, str | bytes] = {
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
            "Cache-Control": "no-store",
        }
        if self.last_event_id:
            headers["Last-Event-ID"] = self._resume_by(self.last_event_id)
        body = self._transport.open_stream(
            self._path, headers=headers, idle=self._idle, cancel=self._cancel
        )
        with closing(body), self._cancel.waking(body.shut):
            self._require_stream(body)
            self._set_state(StreamState.LIVE)
            yield from self._parsed(body, from_json)

    def _parsed(
        self, body: Body, from_json: Callable[[bytes], Any]
    ) -> Generator[TaskEvent, None, None]:
        try:
            parser = sse.Parser()
            expected = -1 if self._last_seq is None else self._last_seq + 1
            while chunk := body.read():
                self._heard = True
                for data, _, event_id in parser.feed_raw(chunk):
                    if not data:
                        continue
                    event = _decoded(data, from_json, self._path)
                    del data  # a large event is held once, as what it says
                    seq = event.get("seq")
                    if seq.__class__ is int:
                        if seq != expected and self._was_given(seq):
                            continue
                        self._last_seq = seq
                        expected = seq + 1
                    if event_id:
                        self.last_event_id = event_id
                    elif seq.__class__ is int:
                        self.last_event_id = str(seq)
                    yield event
                    del event
                if parser.retry is not None:
                    self._first_delay = min(max(parser.retry, _SHORTEST_RETRY), _LONGEST_RETRY)
        except sse.BlockTooLarge as error:
            raise InvalidResponseError(f"{self._path}: {error}", body="", path=self._path) from None

    def _require_stream(self, body: Body) -> None:
        """Refuse what says of itself that it is something else, such as a login page."""
        kind = body.content_type
        if kind.endswith(("/html", "/json", "/xml", "+xml", "+json")):
            first = body.read()[:BODY_EXCERPT]
            raise InvalidResponseError(
                f"{self._path}: the answer is no event stream ({kind})",
                body=first.decode("utf-8", "replace"),
                path=self._path,
            )

    def _resume_by(self, event_id: str) -> bytes:
        """The id as a header can carry it (WHATWG: UTF-8); else the ``seq``, which is one."""
        if event_id == event_id.strip() and event_id.isprintable():
            return event_id.encode()
        if self._last_seq:
            return str(self._last_seq).encode()
        raise StreamInterrupted(
            f"{self._path}: the stream broke behind an id that no header can carry",
            last_event_id=event_id,
            path=self._path,
        )

    def _was_given(self, seq: int) -> bool:
        """Whether ``seq`` was given before; breaks the connection where one is missing."""
        if self._last_seq is None:
            return False  # begun behind an id that is no number: the first one counts
        expected = self._last_seq + 1
        if seq < expected:
            return True
        if self._gap_at == expected:
            raise StreamGapError(
                f"{self._path}: event {expected} is missing: the server went on with {seq}",
                expected=expected,
                received=seq,
                path=self._path,
            )
        self._gap_at = expected
        raise ConnectionFailed(f"{self._path}: event {expected} did not come", path=self._path)

    def _task_has_ended(self) -> bool:
        try:
            return self._get_task()["status"] in TERMINAL_STATUSES
        except ConnectionFailed:
            return False
        except APIError as error:
            if error.status_code in _WORTH_WAITING:
                return False
            raise

    def _wait(self, attempt: int, failure: ConnectionFailed | APIError | None, left: float) -> None:
        delay = retries.backoff(attempt, self._first_delay, max(self._first_delay, _LONGEST_DELAY))
        asked = failure.retry_after if isinstance(failure, APIError) else None
        delay = delay if asked is None else max(delay, min(asked, retries.LONGEST_WAIT))
        self.retry_in = min(delay, left)
        self._set_state(StreamState.RECONNECTING)
        if not self._cancel.wait(self.retry_in):
            self._set_state(StreamState.CONNECTING)

    def _set_state(self, state: StreamState) -> None:
        if state is not self.state:
            self.state = state
            if self._on_state is not None:
                self._on_state(state)


def _decoded(data: bytes, from_json: Callable[[bytes], Any], path: str) -> TaskEvent:
    try:
        event = from_json(data)
    except ValueError:
        try:
            # It takes what the stricter and faster decoder does not: lone surrogates, and
            # bytes that are not UTF-8, once they are replaced.
            event = json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            event = None
    if event.__class__ is not dict:
        raise InvalidResponseError(
            f"{path}: an event is not a JSON object",
            body=data[:BODY_EXCERPT].decode("utf-8", "replace"),
            path=path,
        )
    return cast(TaskEvent, event)


def _is_end(event: TaskEvent) -> bool:
    """Whether the server has said that this is the end."""
    status = event.get("status")
    if not isinstance(status, str) or status not in TERMINAL_STATUSES:
        return False
    return event.get("type", "TASK_STATUS") == "TASK_STATUS"


def _seq_of(event_id: str | None) -> int | None:
    """The ``seq`` that an id is, 0 before any; ``None`` for an id that is no number."""
    if not event_id:
        return 0
    return int(event_id) if event_id.isascii() and event_id.isdigit() else None
