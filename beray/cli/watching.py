"""Watching a task from the shell: until it ends, or until Ctrl-C."""

from __future__ import annotations

import queue
import threading
import time
from typing import Final

from beray.cli import asking, output
from beray.cli.boundary import DONE, FAILED, INTERRUPTED, words
from beray.cli.connection import Connection
from beray.cli.rendering import View
from beray.exceptions import (
    AuthenticationError,
    BeRayException,
    ConnectionFailed,
    StreamInterrupted,
)
from beray.schema import TERMINAL_STATUSES, TaskEvent
from beray.streaming import RECONNECT_SECONDS, StreamState, TaskStream

_WAKE_SECONDS: Final = 0.5
_AHEAD: Final = 256
"""Events read before they are shown; behind them the server waits."""
_OWN_RECONNECT_SECONDS: Final = 1.0
"""How long the user's own server is tried before its successor is looked for."""
_STARTS: Final = 5
"""How often in a row a start of the successor may fail: the old one may still be leaving."""

_Item = TaskEvent | StreamState | BeRayException | None


class _Reader:
    """Reads a stream in a thread of its own.

    A read from a socket does not notice Ctrl-C everywhere (Windows); a wait with a
    deadline does. The reader never outlives the program. Where the user's own server
    goes, it reads on from the next one.
    """

    def __init__(self, server: Connection, task_id: int) -> None:
        self._server = server
        self._task_id = task_id
        self._items: queue.Queue[_Item] = queue.Queue(_AHEAD)
        self._left = threading.Event()
        self._heard_at = time.monotonic()
        self._failed_starts = 0
        self._stream = self._opened(None)
        threading.Thread(target=self._read, name=f"watch-{task_id}", daemon=True).start()

    def get(self) -> _Item:
        """The next event, change of state or failure; ``None`` behind the last."""
        while True:
            try:
                return self._items.get(timeout=_WAKE_SECONDS)
            except queue.Empty:
                continue

    def close(self) -> None:
        self._left.set()
        self._stream.close()

    def _opened(self, last_event_id: str | None) -> TaskStream:
        own = self._server.target.embedded
        return self._server.patient.stream_task_updates(
            self._task_id,
            last_event_id=last_event_id,
            reconnect=_OWN_RECONNECT_SECONDS if own else RECONNECT_SECONDS,
            on_state=self._state_changed,
        )

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
        if state is StreamState.LIVE:
            self._heard_at = time.monotonic()
        self._put(state)

    def _put(self, item: _Item) -> None:
        while not self._left.is_set():
            try:
                self._items.put(item, timeout=_WAKE_SECONDS)
                return
            except queue.Full:
                continue


def follow(server: Connection, task_id: int, view: View) -> int:
    """Show a task's events until it has ended, and return the exit status.

    Raises:
        BeRayException: what ``TaskStream`` and ``Connection.renew`` raise.
    """
    try:
        return _outcome(server, task_id, _until_the_end(server, task_id, view))
    except KeyboardInterrupt:
        _interrupted(server, task_id, view)
        return INTERRUPTED
    except ConnectionFailed as error:
        error.add_note(f"the task goes on; `beray watch {task_id}` shows the rest")
        raise


def _until_the_end(server: Connection, task_id: int, view: View) -> str | None:
    """Show the events and return the last status that they told."""
    status: str | None = None
    lost = False
    reader = _Reader(server, task_id)
    try:
        while (item := reader.get()) is not None:
            if isinstance(item, BeRayException):
                raise item
            if isinstance(item, StreamState):
                if item is StreamState.RECONNECTING and not lost:
                    lost = True
                    view.note("the connection broke; reconnecting")
                elif item is StreamState.LIVE and lost:
                    lost = False
                    view.note("connected again")
                continue
            view.event(item)
            if item.get("type", "TASK_STATUS") == "TASK_STATUS":
                status = str(item.get("status"))
    finally:
        reader.close()
        view.finish()
    return status


def _outcome(server: Connection, task_id: int, status: str | None) -> int:
    if status not in TERMINAL_STATUSES:
        # A server that closes the stream without a word, because the task has ended.
        status = server.client.get_task(task_id)["status"]
    return DONE if status == "COMPLETED" else FAILED


def _interrupted(server: Connection, task_id: int, view: View) -> None:
    """Ask whether the task is to stop as well. A second Ctrl-C just leaves."""
    goes_on = (
        f"task {task_id} goes on; `beray watch {task_id}` shows it, `beray stop {task_id}` stops it"
    )
    if not output.can_ask():
        view.note(goes_on)
        return
    try:
        output.note("")
        if not asking.confirm(f"Stop task {task_id} as well? Otherwise it goes on."):
            view.note(goes_on)
            return
        server.client.stop_task(task_id)
        view.note(f"task {task_id} is told to stop")
    except KeyboardInterrupt:
        output.note("")
    except BeRayException as error:
        output.problem(words(error))
