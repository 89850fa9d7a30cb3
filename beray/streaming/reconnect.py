"""Reconnection of event streams.

A stream is given up after ``reconnect`` seconds without success. This clock starts at the first
failure: a rejected connection, an error response, or a connection that ended without an event.
An event stops it. A healthy connection, which still received bytes (keep-alives)
``HEALTHY_SECONDS`` after it was accepted, stops it too: its end is not a failure. A task that is
idle for hours, with a proxy that cuts connections every minute, is therefore never given up,
whereas a server that accepts each connection and breaks it immediately is.

Source: the BeRay API v1 wire page, "The stream"; WHATWG HTML, 9.2.3 (retry).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, Final, cast

from beray.exceptions import (
    APIError,
    ConnectionFailed,
    InvalidResponseError,
    StreamInterrupted,
)
from beray.http import retry
from beray.http.connection import CancelToken
from beray.http.errors import JsonDecoder, decode_event
from beray.http.response_body import ResponseBody
from beray.http.transport import Transport
from beray.schema import TERMINAL_STATUSES, Task, TaskEvent
from beray.streaming import sse
from beray.streaming.cursor import Cursor, StreamState

_MAX_DELAY_SECONDS: Final = 15.0
_MAX_SSE_RETRY_SECONDS: Final = 60.0
_MIN_SSE_RETRY_SECONDS: Final = 0.1
HEALTHY_SECONDS: Final = 10.0
"""Age at which a connection that still receives bytes counts as healthy."""
_TRANSIENT_STATUSES: Final = frozenset({429, 500, 502, 503, 504})

StreamFailure = ConnectionFailed | APIError


class ReconnectingStream:
    """Events of one stream over as many connections as necessary.

    Only ``close`` may be called from a thread other than the iterating one.

    Args:
        transport: Transport of the server.
        path: Path of the stream.
        cursor: Position to start at.
        get_task: Returns the task whose end is the end of the stream; ``None`` for a stream
            without an end.
        reconnect: Seconds to continue after the first failure.
        idle: Seconds of silence after which a connection counts as broken.
        on_state: Called in the iterating thread when ``state`` changes.

    Attributes:
        cursor: Current position.
        state: State of the connection.
        retry_in: Duration of the wait before the next connection, in seconds.
        healthy_at: Monotonic time of the last event, or of the last byte of a healthy connection;
            0.0 before there was one.
        first_delay: Seconds before the first reconnection; the server's ``retry`` field sets it.
    """

    def __init__(
        self,
        transport: Transport,
        path: str,
        cursor: Cursor,
        get_task: Callable[[], Task] | None,
        reconnect: float,
        idle: float,
        on_state: Callable[[StreamState], None] | None,
    ) -> None:
        self.cursor = cursor
        self.state = StreamState.CONNECTING
        self.retry_in = 0.0
        self.first_delay = 0.25
        self._transport = transport
        self._path = path
        self._get_task = get_task
        self._reconnect = reconnect
        self._idle = idle
        self._on_state = on_state
        self._cancel = CancelToken()
        self._has_ended = False
        # Of the current connection:
        self._started_at = 0.0
        self._accepted_at: float | None = None
        self._received_at = 0.0
        self._yielded = 0
        # Of all connections:
        self.healthy_at = 0.0
        self._failing_since: float | None = None
        self._failures = 0
        self._attempt = 0
        self._empty_connections = 0

    @property
    def closed(self) -> bool:
        """True once ``close`` has been called."""
        return self._cancel.cancelled

    def close(self) -> None:
        """End the stream and wake the iterating thread. Thread-safe."""
        self._cancel.cancel()

    def events(self) -> Generator[TaskEvent, None, None]:
        """Yield all events, reconnecting as often as necessary.

        Raises:
            BeRayException: As documented for :class:`beray.streaming.streams.EventStream`.
        """
        try:
            while not self.closed:
                failure: StreamFailure | None = None
                try:
                    yield from self._connect()
                except ConnectionFailed as error:
                    failure = error
                except APIError as error:
                    if error.status_code not in _TRANSIENT_STATUSES or error.is_permanent:
                        raise
                    failure = error
                if self._has_ended or self.closed or (failure is None and self._is_end_of_task()):
                    return
                self._wait_for_reconnection(failure)
        finally:
            self._set_state(StreamState.ENDED)

    def _connect(self) -> Generator[TaskEvent, None, None]:
        """Yield the new events of one connection."""
        from pydantic_core import from_json  # imported late because it takes time

        self._started_at, self._accepted_at, self._yielded = time.monotonic(), None, 0
        headers: dict[str, str | bytes] = {
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
            "Cache-Control": "no-store",
        }
        last_event_id = self.cursor.start_connection()
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        body = self._transport.open_stream(
            self._path, headers=headers, idle=self._idle, cancel=self._cancel
        )
        with closing(body), self._cancel.on_cancel(body.shut_down):
            body.require_event_stream(self._path)
            self._accepted_at = self._received_at = time.monotonic()
            self._set_state(StreamState.LIVE)
            try:
                yield from self._new_events(body, from_json)
            except sse.BlockTooLarge as error:
                raise InvalidResponseError.for_request(
                    "", self._path, str(error), body=""
                ) from None

    def _new_events(
        self, body: ResponseBody, from_json: JsonDecoder
    ) -> Generator[TaskEvent, None, None]:
        cursor, parser = self.cursor, sse.Parser()
        next_seq: int | None = None
        while chunk := body.read():
            self._received_at = time.monotonic()
            for data, _, event_id in parser.feed_raw(chunk):
                if not data:
                    continue
                event: TaskEvent = decode_event(data, from_json, self._path)
                del data  # so that a large event is in memory only once
                seq = event.get("seq")
                if seq == next_seq and seq.__class__ is int:
                    # Inlined from Cursor.accept: a call for each event would dominate this loop.
                    cursor.next_seq = next_seq = seq + 1
                    cursor.last_event_id = event_id or str(seq)
                elif cursor.accept(event, event_id):
                    next_seq = cursor.next_seq if seq.__class__ is int else None
                else:
                    continue
                self._yielded += 1
                is_last = "status" in event and self._get_task is not None and _is_end(event)
                yield event
                del event
                if is_last:
                    self._has_ended = True
                    return
            if parser.retry is not None:
                retry_seconds = max(parser.retry, _MIN_SSE_RETRY_SECONDS)
                self.first_delay = min(retry_seconds, _MAX_SSE_RETRY_SECONDS)

    def _is_end_of_task(self) -> bool:
        """Return True if the task ended, after a connection that ended without its last event.

        A server that sends no ids cannot be asked for further events, and a server that closed
        two connections without an event may never send the end. The task is then requested.
        """
        self._empty_connections = 0 if self._yielded else self._empty_connections + 1
        has_no_ids = self._yielded and not self.cursor.can_resume
        return bool(has_no_ids or self._empty_connections > 1) and self._task_has_ended()

    def _task_has_ended(self) -> bool:
        if self._get_task is None:
            return False
        try:
            return self._get_task()["status"] in TERMINAL_STATUSES
        except ConnectionFailed:
            return False
        except APIError as error:
            if error.status_code in _TRANSIENT_STATUSES and not error.is_permanent:
                return False
            raise

    def _wait_for_reconnection(self, failure: StreamFailure | None) -> None:
        """Wait until the next connection is due.

        Raises:
            StreamInterrupted: The stream cannot be resumed without losing events.
            ConnectionFailed: Connections failed for ``reconnect`` seconds.
            APIError: The same, and the last failure was an error response.
        """
        if self._yielded and not self.cursor.can_resume:
            raise StreamInterrupted.for_request(
                "",
                self._path,
                f"the stream broke after {self._yielded} events, before the task ended; the "
                "server sends no ids to resume by",
            ) from failure
        now = time.monotonic()
        remaining = self._remaining_seconds(now)
        # A connection that breaks immediately, without an event, continues the backoff.
        was_useful = self._yielded or now - self._started_at > HEALTHY_SECONDS
        self._attempt = 1 if was_useful else self._attempt + 1
        if remaining <= 0:
            raise self._final_error(failure) from failure
        maximum = max(self.first_delay, _MAX_DELAY_SECONDS)
        delay = retry.backoff(self._attempt, self.first_delay, maximum)
        retry_after = failure.retry_after if isinstance(failure, APIError) else None
        if retry_after is not None:
            delay = max(delay, min(retry_after, retry.MAX_RETRY_AFTER_SECONDS))
        self.retry_in = min(delay, remaining)
        self._set_state(StreamState.RECONNECTING)
        if not self._cancel.wait(self.retry_in):
            self._set_state(StreamState.CONNECTING)

    def _remaining_seconds(self, now: float) -> float:
        """Return how long to continue, after a connection or the attempt at one has ended."""
        accepted_at = self._accepted_at
        is_healthy = accepted_at is not None and self._received_at - accepted_at >= HEALTHY_SECONDS
        if self._yielded or is_healthy:
            self.healthy_at = self._received_at
            self._failing_since, self._failures = None, 0
            return self._reconnect
        self._failures += 1
        if self._failing_since is None:
            self._failing_since = now
        return self._reconnect - (now - self._failing_since)

    def _final_error(self, failure: StreamFailure | None) -> StreamFailure:
        """Return the exception that ends the stream."""
        if isinstance(failure, APIError):
            return failure
        if self._failures <= 1:
            return failure or self._connection_error("ended before the task did")
        reason = "the stream ended before its first event" if failure is None else str(failure)
        return self._connection_error(
            f"failed {self._failures} times in a row, within {self._reconnect:g} s, without an "
            f"event in between. The last failure: {reason}"
        )

    def _connection_error(self, problem: str) -> ConnectionFailed:
        reason = f"the stream from {self._transport.base_url} {problem}"
        return ConnectionFailed.for_request("", self._path, reason)

    def _set_state(self, state: StreamState) -> None:
        if state is not self.state:
            self.state = state
            if self._on_state is not None:
                self._on_state(state)


class ReconnectingUpdateStream(ReconnectingStream):
    """Updates of the stream over all tasks, in which each ``TASKS`` is complete.

    A server may send the older tasks as ``TASKS_MORE``; they are added to their ``TASKS``. If the
    connection breaks in between, the next one starts with a new ``TASKS``.
    """

    def events(self) -> Generator[TaskEvent, None, None]:
        """Yield all updates; see ``ReconnectingStream.events``."""
        all_tasks: dict[str, Any] | None = None
        for event in super().events():
            update: dict[str, Any] = dict(event)
            update_type, more = update.get("type"), update.pop("more", False)
            if update_type == "TASKS":
                all_tasks = update
            elif update_type == "TASKS_MORE" and all_tasks is not None:
                earlier = all_tasks.get("tasks") or ()
                all_tasks["tasks"] = [*earlier, *(update.get("tasks") or ())]
            else:
                yield event
                continue
            if more is not True:
                yield cast(TaskEvent, all_tasks)
                all_tasks = None


def _is_end(event: TaskEvent) -> bool:
    """Return True if the event is a terminal status, the last event of a task."""
    status = event.get("status")
    if not isinstance(status, str) or status not in TERMINAL_STATUSES:
        return False
    return event.get("type") in ("TASK_STATUS", None)
