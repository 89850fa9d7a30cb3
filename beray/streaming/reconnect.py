"""The connections of one stream, one after another, as long as the caller allows.

The stream is given up after ``reconnect`` seconds without success. This clock starts at the first
failure: a connection that is refused, an answer with an error status, or a connection that ends
without having brought an event. An event stops it. So does a healthy connection, one that still
received bytes (keep-alives) ``HEALTHY_SECONDS`` after it was accepted: its end is not a failure.
A task that is idle for hours behind a proxy that cuts connections every minute is therefore
never given up, whereas a server that accepts each connection and breaks it at once is.

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
from beray.http.connection import Cancel
from beray.http.errors import FromJson, decoded_event
from beray.http.response_body import Body
from beray.http.transport import Transport
from beray.schema import TERMINAL_STATUSES, Task, TaskEvent
from beray.streaming import sse
from beray.streaming.cursor import Cursor
from beray.streaming.stream_state import StreamState

_LONGEST_DELAY: Final = 15.0
_LONGEST_RETRY: Final = 60.0
_SHORTEST_RETRY: Final = 0.1
HEALTHY_SECONDS: Final = 10.0
"""Age at which a connection that still receives bytes counts as healthy."""
_WORTH_WAITING: Final = frozenset({429, 500, 502, 503, 504})

Failure = ConnectionFailed | APIError


class Connections:
    """Gives the events of a stream, whatever happens to its connections.

    Args:
        get_task: asks for the task whose end is the end; ``None``: there is no end.

    Attributes:
        cursor: where it stands.
        retry_in: seconds that the wait before the next connection takes.
        healthy_at: monotonic time of the last event, or of the last byte of a healthy connection;
            0.0 before there was one.
        first_delay: seconds before the first attempt to come back; the server may say.
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
        self._cancel = Cancel()
        self._ended = False
        # Of the current connection:
        self._began_at = 0.0
        self._accepted_at: float | None = None
        self._heard_at = 0.0
        self._given = 0
        # Of all of them:
        self.healthy_at = 0.0
        self._failing_since: float | None = None
        self._failures = 0
        self._attempt = 0
        self._silent_ends = 0

    @property
    def closed(self) -> bool:
        return self._cancel.cancelled

    def close(self) -> None:
        self._cancel.cancel()

    def events(self) -> Generator[TaskEvent, None, None]:
        """All events, over as many connections as it takes."""
        try:
            while not self.closed:
                failure: Failure | None = None
                try:
                    yield from self._connection()
                except ConnectionFailed as error:
                    failure = error
                except APIError as error:
                    if error.status_code not in _WORTH_WAITING or error.is_permanent:
                        raise
                    failure = error
                if self._ended or self.closed or (failure is None and self._task_knows()):
                    return
                self._come_back(failure)
        finally:
            self._set_state(StreamState.ENDED)

    def _connection(self) -> Generator[TaskEvent, None, None]:
        """The events of one connection that have not been given before."""
        from pydantic_core import from_json  # here, because importing it costs

        self._began_at, self._accepted_at, self._given = time.monotonic(), None, 0
        headers: dict[str, str | bytes] = {
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
            "Cache-Control": "no-store",
        }
        resume_by = self.cursor.connecting()
        if resume_by is not None:
            headers["Last-Event-ID"] = resume_by
        body = self._transport.open_stream(
            self._path, headers=headers, idle=self._idle, cancel=self._cancel
        )
        with closing(body), self._cancel.waking(body.shut):
            body.require_events(self._path)
            self._accepted_at = self._heard_at = time.monotonic()
            self._set_state(StreamState.LIVE)
            try:
                yield from self._new_events(body, from_json)
            except sse.BlockTooLarge as error:
                raise InvalidResponseError(
                    f"{self._path}: {error}", body="", path=self._path
                ) from None

    def _new_events(self, body: Body, from_json: FromJson) -> Generator[TaskEvent, None, None]:
        cursor, parser = self.cursor, sse.Parser()
        expected: int | None = None
        while chunk := body.read():
            self._heard_at = time.monotonic()
            for data, _, event_id in parser.feed_raw(chunk):
                if not data:
                    continue
                event: TaskEvent = decoded_event(data, from_json, self._path)
                del data  # a large event is held once, as what it says
                seq = event.get("seq")
                if seq == expected and seq.__class__ is int:
                    # As the cursor would; a call for each event costs more than all this.
                    cursor.expected = expected = seq + 1
                    cursor.last_event_id = event_id or str(seq)
                elif cursor.take(event, event_id):
                    expected = cursor.expected if seq.__class__ is int else None
                else:
                    continue
                self._given += 1
                ends = "status" in event and self._get_task is not None and _is_end(event)
                yield event
                del event
                if ends:
                    self._ended = True
                    return
            if parser.retry is not None:
                self.first_delay = min(max(parser.retry, _SHORTEST_RETRY), _LONGEST_RETRY)

    def _task_knows(self) -> bool:
        """Behind an orderly close without the end: whether it was the end nevertheless.

        A server that sends no ids cannot be asked for the rest, and one that is silent
        again may never say the end. Then the task itself is asked.
        """
        self._silent_ends = 0 if self._given else self._silent_ends + 1
        no_ids = self._given and not self.cursor.can_resume
        return bool(no_ids or self._silent_ends > 1) and self._task_has_ended()

    def _task_has_ended(self) -> bool:
        if self._get_task is None:
            return False
        try:
            return self._get_task()["status"] in TERMINAL_STATUSES
        except ConnectionFailed:
            return False
        except APIError as error:
            if error.status_code in _WORTH_WAITING and not error.is_permanent:
                return False
            raise

    def _come_back(self, failure: Failure | None) -> None:
        """Wait for the time of the next connection; raise where there must be none."""
        if self._given and not self.cursor.can_resume:
            raise StreamInterrupted(
                f"{self._path}: the stream broke after {self._given} events, before the task "
                "ended; the server sends no ids to resume by",
                path=self._path,
            ) from failure
        now = time.monotonic()
        left = self._seconds_left(now)
        # One that breaks at once, without an event, is not worth hurrying for.
        lived = self._given or now - self._began_at > HEALTHY_SECONDS
        self._attempt = 1 if lived else self._attempt + 1
        if left <= 0:
            raise self._given_up(failure) from failure
        longest = max(self.first_delay, _LONGEST_DELAY)
        delay = retry.backoff(self._attempt, self.first_delay, longest)
        asked = failure.retry_after if isinstance(failure, APIError) else None
        delay = delay if asked is None else max(delay, min(asked, retry.LONGEST_WAIT))
        self.retry_in = min(delay, left)
        self._set_state(StreamState.RECONNECTING)
        if not self._cancel.wait(self.retry_in):
            self._set_state(StreamState.CONNECTING)

    def _seconds_left(self, now: float) -> float:
        """Return for how long to go on, once a connection, or the attempt at one, has ended."""
        accepted_at = self._accepted_at
        is_healthy = accepted_at is not None and self._heard_at - accepted_at >= HEALTHY_SECONDS
        if self._given or is_healthy:
            self.healthy_at = self._heard_at
            self._failing_since, self._failures = None, 0
            return self._reconnect
        self._failures += 1
        if self._failing_since is None:
            self._failing_since = now
        return self._reconnect - (now - self._failing_since)

    def _given_up(self, failure: Failure | None) -> Failure:
        """Return the exception that says why there is no further attempt."""
        if isinstance(failure, APIError):
            return failure
        if self._failures <= 1:
            return failure or self._broken("ended before the task did")
        reason = "the stream ended before its first event" if failure is None else str(failure)
        return self._broken(
            f"failed {self._failures} times in a row, within {self._reconnect:g} s, without an "
            f"event in between. The last failure: {reason}"
        )

    def _broken(self, problem: str) -> ConnectionFailed:
        text = f"{self._path}: the stream from {self._transport.base_url} {problem}"
        return ConnectionFailed(text, path=self._path)

    def _set_state(self, state: StreamState) -> None:
        if state is not self.state:
            self.state = state
            if self._on_state is not None:
                self._on_state(state)


class BoardConnections(Connections):
    """Connections of the stream over all tasks: a ``TASKS`` has all of them.

    The older tasks that a server sends as ``TASKS_MORE`` are added to it. If the connection
    breaks in between, the next one begins with a new ``TASKS``.
    """

    def events(self) -> Generator[TaskEvent, None, None]:
        board: dict[str, Any] | None = None
        for event in super().events():
            update: dict[str, Any] = dict(event)
            kind, more = update.get("type"), update.pop("more", False)
            if kind == "TASKS":
                board = update
            elif kind == "TASKS_MORE" and board is not None:
                board["tasks"] = [*(board.get("tasks") or ()), *(update.get("tasks") or ())]
            else:
                yield event
                continue
            if more is not True:
                yield cast(TaskEvent, board)
                board = None


def _is_end(event: TaskEvent) -> bool:
    """Whether the server has said that this is the end."""
    status = event.get("status")
    if not isinstance(status, str) or status not in TERMINAL_STATUSES:
        return False
    return event.get("type") in ("TASK_STATUS", None)
