"""Stream reader that can be interrupted and follows the local server to its successor."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from beray.cli.context import ServerConnection
from beray.client import BeRayClient
from beray.exceptions import (
    AuthenticationError,
    BeRayException,
    ConnectionFailed,
    StreamInterrupted,
)
from beray.streaming.streams import (
    RECONNECT_SECONDS,
    EventStream,
    StateCallback,
    StreamState,
)

_POLL_SECONDS: Final = 0.5
_MAX_QUEUED_EVENTS: Final = 256
"""Events that are read ahead. If the queue is full, reading stops until events are shown."""
_LOCAL_RECONNECT_SECONDS: Final = 1.0
"""Time to reconnect to the local server before its successor is used."""
_MAX_FAILED_STARTS: Final = 5
"""Failed starts of the successor in a row; the old server may still be shutting down."""

Item = Mapping[str, Any] | StreamState | BeRayException | None
Opener = Callable[[BeRayClient, str | None, float, StateCallback], EventStream[Any]]
"""Open the stream. Arguments: client, last event id, reconnect time in seconds, state callback."""


class ThreadedStreamReader:
    """Reader of a stream in a daemon thread.

    Reading from a socket cannot be interrupted by Ctrl-C on every platform (Windows); waiting
    for a queue with a timeout can. If the local server ends, the reader continues with its
    successor.
    """

    def __init__(self, server: ServerConnection, opener: Opener) -> None:
        self._server = server
        self._opener = opener
        self._items: queue.Queue[Item] = queue.Queue(_MAX_QUEUED_EVENTS)
        self._closed = threading.Event()
        self._last_received_at = time.monotonic()
        self._failed_starts = 0
        self._stream = self._open_stream(None)
        threading.Thread(target=self._read, name="watch", daemon=True).start()

    def get(self) -> Item:
        """Return the next event, connection state or error; None after the last."""
        while True:
            try:
                return self._items.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue

    def close(self) -> None:
        """Close the stream and end the thread."""
        self._closed.set()
        self._stream.close()

    def _open_stream(self, last_event_id: str | None) -> EventStream[Any]:
        is_local = self._server.target.embedded
        seconds = _LOCAL_RECONNECT_SECONDS if is_local else RECONNECT_SECONDS
        return self._opener(
            self._server.transfer_client, last_event_id, seconds, self._state_changed
        )

    def _read(self) -> None:
        try:
            while not self._read_stream():
                self._stream = self._open_stream(self._stream.last_event_id)
                if self._closed.is_set():
                    self._stream.close()
        except BeRayException as error:
            self._put(error)
        finally:
            self._put(None)

    def _read_stream(self) -> bool:
        """Read until the stream ends, and return True; False if it must be opened again."""
        try:
            for event in self._stream:
                self._put(event)
        except StreamInterrupted:
            raise
        except (ConnectionFailed, AuthenticationError) as error:
            if self._closed.is_set() or not self._server.target.embedded:
                raise
            self._put(StreamState.RECONNECTING)
            self._last_received_at = max(self._last_received_at, self._stream.healthy_at)
            if not self._renew():
                silent = time.monotonic() - self._last_received_at
                if isinstance(error, AuthenticationError) or silent > RECONNECT_SECONDS:
                    raise
            return False
        return True

    def _renew(self) -> bool:
        try:
            renewed = self._server.renew()
        except BeRayException:
            self._failed_starts += 1
            if self._failed_starts == _MAX_FAILED_STARTS:
                raise
            self._closed.wait(_LOCAL_RECONNECT_SECONDS)
            return False
        self._failed_starts = 0
        return renewed

    def _state_changed(self, state: StreamState) -> None:
        self._put(state)

    def _put(self, item: Item) -> None:
        while not self._closed.is_set():
            try:
                self._items.put(item, timeout=_POLL_SECONDS)
                return
            except queue.Full:
                continue
