"""The updates of a task: every event once, in order, until the server says it is over.

A ``TaskStream`` outlives its connections. When one breaks it comes back with
``Last-Event-ID`` and goes on behind the last event it gave. Only a terminal
``TASK_STATUS`` ends it; where a server does not send one, the task itself is asked.

Source: the BeRay API v1 wire page, "The stream".
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

import requests
import urllib3

from beray import sse
from beray.exceptions import (
    APIError,
    ConnectionFailed,
    InvalidResponseError,
    StreamGapError,
    StreamInterrupted,
)
from beray.schema import BODY_EXCERPT, TERMINAL_STATUSES, Task, TaskEvent
from beray.transport import Transport, segment

READ_BYTES: Final = 64 * 1024
IDLE_SECONDS: Final = 45.0
"""Silence after which a connection counts as broken: three heartbeats of our server."""
RECONNECT_SECONDS: Final = 300.0
"""How long to try, without a byte received, before giving up."""
_FIRST_DELAY: Final = 0.25
_LONGEST_DELAY: Final = 15.0
_WORTH_WAITING: Final = frozenset({429, 502, 503, 504})


class StreamState(StrEnum):
    """What a stream is doing, for a caller to show."""

    CONNECTING = "connecting"
    LIVE = "live"
    RECONNECTING = "reconnecting"
    ENDED = "ended"


class TaskStream(Iterator[TaskEvent]):
    """Iterate over a task's events; also a context manager.

    ``close()`` may be called from any thread and returns at once; the iteration
    then stops. ``state`` and ``retry_in`` (seconds, while reconnecting) can be read
    at any time; ``on_state`` is called in the iterating thread when they change.

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
        self.last_event_id = last_event_id
        self.state = StreamState.CONNECTING
        self.retry_in = 0.0
        self._transport = transport
        self._path = f"/tasks/{segment(task_id)}/stream"
        self._get_task = get_task
        self._reconnect = reconnect
        self._idle = idle
        self._on_state = on_state
        self._closed = threading.Event()
        self._response: requests.Response | None = None
        self._lock = threading.Lock()
        self._last_seq = int(last_event_id) if last_event_id and last_event_id.isdigit() else 0
        self._gap_at: int | None = None
        self._retry = _FIRST_DELAY
        self._heard_at = time.monotonic()
        self._events: Generator[TaskEvent, None, None] = self._run()

    def __next__(self) -> TaskEvent:
        if self._closed.is_set():
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
        # A loop that was left with ``break`` gives the connection back here.
        if hasattr(self, "_lock"):
            self.close()

    def close(self) -> None:
        """Stop iterating, wherever the iterating thread is blocked. Idempotent."""
        self._closed.set()
        with self._lock:
            response, self._response = self._response, None
        if response is None:
            return
        try:
            # Closing a socket does not wake a thread that reads from it; this does.
            response.raw.shutdown()
        except (ValueError, RuntimeError, OSError):
            response.close()

    def _run(self) -> Generator[TaskEvent, None, None]:
        attempt = 0
        fruitless_ends = 0
        while not self._closed.is_set():
            heard = self._heard_at
            given = 0
            failure: Exception | None = None
            try:
                for event in self._connection():
                    given += 1
                    yield event
                    if _is_end(event):
                        self._set_state(StreamState.ENDED)
                        return
            except ConnectionFailed as error:
                failure = error
            except APIError as error:
                if error.status_code not in _WORTH_WAITING:
                    self._set_state(StreamState.ENDED)
                    raise
                failure = error
            if self._closed.is_set():
                break
            if failure is None:
                # An orderly close without the end. A server that sends no ids cannot be
                # asked for the rest, and one that is silent again may never say the end:
                # then the task itself knows.
                fruitless_ends = 0 if given else fruitless_ends + 1
                no_ids = given and not self.last_event_id
                if (no_ids or fruitless_ends > 1) and self._task_has_ended():
                    break
            self._resumable_or_raise(failure, given)
            if time.monotonic() - self._heard_at > self._reconnect:
                self._set_state(StreamState.ENDED)
                raise failure or ConnectionFailed(
                    f"the stream of {self._path} ended early, again and again"
                )
            attempt = 1 if self._heard_at != heard else attempt + 1
            self._wait(attempt, failure)
        self._set_state(StreamState.ENDED)

    def _connection(self) -> Iterator[TaskEvent]:
        """The events of one connection that have not been given before."""
        headers = {
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
            "Cache-Control": "no-store",
        }
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        response = self._transport.request(
            "GET",
            self._path,
            headers=headers,
            stream=True,
            timeout=(self._transport.timeout[0], self._idle),
        )
        with response:
            with self._lock:
                self._response = response
            if self._closed.is_set():
                return
            self._set_state(StreamState.LIVE)
            parser = sse.Parser()
            for chunk in self._chunks(response):
                self._heard_at = time.monotonic()
                for message in self._parsed(parser, chunk):
                    if not message.data:
                        continue
                    event = _decoded(message, self._path)
                    if self._is_new(event, message.id):
                        yield event
        with self._lock:
            self._response = None

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        """Pieces of the body as they arrive; nothing is held back."""
        while not self._closed.is_set():
            try:
                chunk = response.raw.read1(READ_BYTES, decode_content=True)
            except urllib3.exceptions.ReadTimeoutError:
                raise ConnectionFailed(
                    f"{self._path}: no sign of life for {self._idle:g} s"
                ) from None
            except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError) as error:
                if self._closed.is_set():
                    return
                raise ConnectionFailed(f"{self._path}: the connection broke") from error
            if not chunk:
                return
            yield chunk

    def _parsed(self, parser: sse.Parser, chunk: bytes) -> Iterator[sse.ServerSentEvent]:
        try:
            for message in parser.feed(chunk):
                self._retry = _FIRST_DELAY if parser.retry is None else parser.retry
                yield message
        except sse.BlockTooLarge as error:
            raise InvalidResponseError(f"{self._path}: {error}", body="") from None

    def _is_new(self, event: TaskEvent, event_id: str) -> bool:
        """Whether to give ``event``, which is then counted as given."""
        seq = event.get("seq")
        if not isinstance(seq, int):
            self.last_event_id = event_id or self.last_event_id
            return True
        expected = self._last_seq + 1
        if seq < expected:
            return False
        if seq > expected:
            if self._gap_at == expected:
                raise StreamGapError(
                    f"{self._path}: event {expected} is missing: the server went on with {seq}",
                    expected=expected,
                    received=seq,
                )
            self._gap_at = expected
            raise ConnectionFailed(f"{self._path}: event {expected} did not come")
        self._last_seq = seq
        self.last_event_id = event_id or str(seq)
        return True

    def _resumable_or_raise(self, failure: Exception | None, given: int) -> None:
        if given and not self.last_event_id:
            self._set_state(StreamState.ENDED)
            raise StreamInterrupted(
                f"{self._path}: the stream broke after {given} events, before the task ended; "
                "the server sends no ids to resume by"
            ) from failure

    def _task_has_ended(self) -> bool:
        try:
            return self._get_task()["status"] in TERMINAL_STATUSES
        except ConnectionFailed:
            return False

    def _wait(self, attempt: int, failure: Exception | None) -> None:
        delay = min(self._retry * 2.0 ** min(attempt - 1, 16), _LONGEST_DELAY)
        delay *= random.uniform(0.5, 1.0)
        asked = getattr(failure, "retry_after", None)
        if asked is not None:
            delay = max(delay, min(asked, 60.0))
        self.retry_in = delay
        self._set_state(StreamState.RECONNECTING)
        self._closed.wait(delay)
        self._set_state(StreamState.CONNECTING)

    def _set_state(self, state: StreamState) -> None:
        if state is not self.state:
            self.state = state
            if self._on_state is not None:
                self._on_state(state)


def _decoded(message: sse.ServerSentEvent, path: str) -> TaskEvent:
    try:
        event = json.loads(message.data)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise InvalidResponseError(
            f"{path}: an event is not a JSON object", body=message.data[:BODY_EXCERPT]
        )
    result: TaskEvent = event  # type: ignore[assignment]
    return result


def _is_end(event: TaskEvent) -> bool:
    """Whether the server has said that this is the end."""
    kind = event.get("type", "TASK_STATUS")
    return kind == "TASK_STATUS" and event.get("status") in TERMINAL_STATUSES
