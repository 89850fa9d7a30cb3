"""Reading a stream so that Ctrl-C is noticed, and a server that moves is found again."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from beray.cli.context import Connection
from beray.client import BeRayClient
from beray.exceptions import (
    AuthenticationError,
    BeRayException,
    ConnectionFailed,
    StreamInterrupted,
)
from beray.streaming.streams import RECONNECT_SECONDS, EventStream, StateCallback, StreamState

_WAKE_SECONDS: Final = 0.5
_AHEAD: Final = 256
"""Events read before they are shown; behind them the server waits."""
_OWN_RECONNECT_SECONDS: Final = 1.0
"""How long the user's own server is tried before its successor is looked for."""
_STARTS: Final = 5
"""How often in a row a start of the successor may fail: the old one may still be leaving."""

Item = Mapping[str, Any] | StreamState | BeRayException | None
Opener = Callable[[BeRayClient, str | None, float, StateCallback], EventStream[Any]]
"""Opens the stream: with which client, behind which id, trying for how many seconds."""


class StreamReader:
    """Reads a stream in a thread of its own.

    A read from a socket does not notice Ctrl-C everywhere (Windows); a wait with a
    deadline does. The reader never outlives the program. Where the user's own server
    goes, it reads on from the next one.
    """

    def __init__(self, server: Connection, opener: Opener) -> None:
        self._server = server
        self._opener = opener
        self._items: queue.Queue[Item] = queue.Queue(_AHEAD)
        self._left = threading.Event()
        self._heard_at = time.monotonic()
        self._failed_starts = 0
        self._stream = self._opened(None)
        threading.Thread(target=self._read, name="watch", daemon=True).start()

    def get(self) -> Item:
        """The next event, change of state or failure; ``None`` behind the last."""
        while True:
            try:
                return self._items.get(timeout=_WAKE_SECONDS)
            except queue.Empty:
                continue

    def close(self) -> None:
        self._left.set()
        self._stream.close()

    def _opened(self, last_event_id: str | None) -> EventStream[Any]:
        own = self._server.target.embedded
        seconds = _OWN_RECONNECT_SECONDS if own else RECONNECT_SECONDS
        return self._opener(self._server.patient, last_event_id, seconds, self._state_changed)

    def _read(self) -> None:
        try:
            while not self._read_to_the_end():
                self._stream = self._opened(self._stream.last_event_id)
                if self._left.is_set():
                    self._stream.close()
        except BeRayException as error:
            self._put(error)
        finally:
            self._put(None)

    def _read_to_the_end(self) -> bool:
        """Whether the stream ended; ``False`` where another one is to go on behind it."""
        try:
            for event in self._stream:
                self._put(event)
        except StreamInterrupted:
            raise
        except (ConnectionFailed, AuthenticationError) as error:
            if self._left.is_set() or not self._server.target.embedded:
                raise
            self._put(StreamState.RECONNECTING)
            self._heard_at = max(self._heard_at, self._stream.healthy_at)
            if not self._renewed():
                silent = time.monotonic() - self._heard_at
                if isinstance(error, AuthenticationError) or silent > RECONNECT_SECONDS:
                    raise
            return False
        return True

    def _renewed(self) -> bool:
        try:
            renewed = self._server.renew()
        except BeRayException:
            self._failed_starts += 1
            if self._failed_starts == _STARTS:
                raise
            self._left.wait(_OWN_RECONNECT_SECONDS)
            return False
        self._failed_starts = 0
        return renewed

    def _state_changed(self, state: StreamState) -> None:
        self._put(state)

    def _put(self, item: Item) -> None:
        while not self._left.is_set():
            try:
                self._items.put(item, timeout=_WAKE_SECONDS)
                return
            except queue.Full:
                continue
