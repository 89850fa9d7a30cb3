"""Watching a task from the shell: until it ends, or until Ctrl-C."""

from __future__ import annotations

import queue
import threading
from typing import Final

from beray.cli import asking, output
from beray.cli.boundary import DONE, FAILED, INTERRUPTED, words
from beray.cli.rendering import View
from beray.client import BeRayClient
from beray.exceptions import BeRayException, ConnectionFailed
from beray.schema import TERMINAL_STATUSES, TaskEvent
from beray.streaming import StreamState, TaskStream

_WAKE_SECONDS: Final = 0.5
_AHEAD: Final = 256
"""Events read before they are shown; behind them the server waits."""

_Item = TaskEvent | StreamState | BeRayException | None


class _Reader:
    """Reads a stream in a thread of its own.

    A read from a socket does not notice Ctrl-C everywhere (Windows); a wait with a
    deadline does. The reader never outlives the program.
    """

    def __init__(self, client: BeRayClient, task_id: int) -> None:
        self._items: queue.Queue[_Item] = queue.Queue(_AHEAD)
        self._left = threading.Event()
        self._stream: TaskStream = client.stream_task_updates(task_id, on_state=self._put)
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

    def _read(self) -> None:
        try:
            for event in self._stream:
                self._put(event)
        except BeRayException as error:
            self._put(error)
        finally:
            self._put(None)

    def _put(self, item: _Item) -> None:
        while not self._left.is_set():
            try:
                self._items.put(item, timeout=_WAKE_SECONDS)
                return
            except queue.Full:
                continue


def follow(client: BeRayClient, task_id: int, view: View) -> int:
    """Show a task's events until it has ended, and return the exit status.

    Raises:
        BeRayException: what ``TaskStream`` raises.
    """
    try:
        return _outcome(client, task_id, _until_the_end(client, task_id, view))
    except KeyboardInterrupt:
        _interrupted(client, task_id, view)
        return INTERRUPTED
    except ConnectionFailed as error:
        error.add_note(f"the task goes on; `beray watch {task_id}` shows the rest")
        raise


def _until_the_end(client: BeRayClient, task_id: int, view: View) -> str | None:
    """Show the events and return the last status that they told."""
    status: str | None = None
    lost = False
    reader = _Reader(client, task_id)
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


def _outcome(client: BeRayClient, task_id: int, status: str | None) -> int:
    if status not in TERMINAL_STATUSES:
        # A server that closes the stream without a word, because the task has ended.
        status = client.get_task(task_id)["status"]
    return DONE if status == "COMPLETED" else FAILED


def _interrupted(client: BeRayClient, task_id: int, view: View) -> None:
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
        client.stop_task(task_id)
        view.note(f"task {task_id} is told to stop")
    except KeyboardInterrupt:
        output.note("")
    except BeRayException as error:
        output.problem(words(error))
