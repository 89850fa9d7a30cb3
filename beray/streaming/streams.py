"""The updates of a task: every event once, in order, until the server says it is over.

A ``TaskStream`` outlives its connections. When one breaks it comes back with
``Last-Event-ID`` and goes on behind the last event it gave. Only a terminal
``TASK_STATUS`` ends it; where a server does not send one, the task itself is asked.
An ``UpdateStream`` does the same over all tasks, and has no end.

Source: the BeRay API v1 wire page, "The stream".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from beray.http.transport import Transport, segment
from beray.schema import Task, TaskEvent, TaskUpdate
from beray.streaming.closable_iterator import Iteration
from beray.streaming.cursor import BoardCursor, Cursor
from beray.streaming.reconnect import BoardConnections, Connections
from beray.streaming.stream_state import StreamState

__all__ = [
    "IDLE_SECONDS",
    "RECONNECT_SECONDS",
    "EventStream",
    "StreamState",
    "TaskStream",
    "UpdateStream",
]

IDLE_SECONDS: Final = 45.0
"""Silence after which a connection counts as broken: three heartbeats of our server."""
RECONNECT_SECONDS: Final = 300.0
"""Seconds to go on after the first failure, without an event and without a healthy connection in
between, before giving up; see ``beray.streaming.reconnect``."""

OnState = Callable[[StreamState], None]
T = TypeVar("T")


class EventStream(Iteration[T]):
    """Iterate over the events of a stream; also a context manager.

    ``close()`` may be called from any thread and returns at once; the iteration then
    stops. A loop that is left with ``break`` gives the connection back by itself.

    Raises, while iterating:
        APIError: the server refuses the stream (``NotFoundError``,
            ``AuthenticationError``, …).
        ConnectionFailed: connections failed for ``reconnect`` seconds, without an event in between.
        StreamInterrupted: the stream broke, and has no ids to be resumed by.
        StreamGapError: the server left out events.
        InvalidResponseError: an event is not a JSON object.
    """

    def __init__(self, connections: Connections) -> None:
        super().__init__(connections)
        self._connections = connections

    @property
    def last_event_id(self) -> str | None:
        """The id of the last event given: where to go on, in this process or a later one."""
        return self._connections.cursor.last_event_id

    @property
    def healthy_at(self) -> float:
        """Monotonic time of the last sign that the server works; 0.0 if there was none yet."""
        return self._connections.healthy_at

    @property
    def state(self) -> StreamState:
        return self._connections.state

    @property
    def retry_in(self) -> float:
        """Seconds that the wait before the next connection takes, while reconnecting."""
        return self._connections.retry_in


class TaskStream(EventStream[TaskEvent]):
    """The events of one task, until it has ended; see :class:`EventStream`."""

    def __init__(
        self,
        transport: Transport,
        task_id: int | str,
        get_task: Callable[[], Task],
        *,
        last_event_id: str | None = None,
        reconnect: float = RECONNECT_SECONDS,
        idle: float = IDLE_SECONDS,
        on_state: OnState | None = None,
    ) -> None:
        path = f"/tasks/{segment(task_id)}/stream"
        cursor = Cursor(path, last_event_id)
        super().__init__(Connections(transport, path, cursor, get_task, reconnect, idle, on_state))


class UpdateStream(EventStream[TaskUpdate]):
    """What happens to all of the caller's tasks, without an end; see :class:`EventStream`.

    A stream that comes back after so long that the server no longer knows what happened
    since begins anew, with a ``TASKS``.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        last_event_id: str | None = None,
        reconnect: float = RECONNECT_SECONDS,
        idle: float = IDLE_SECONDS,
        on_state: OnState | None = None,
    ) -> None:
        cursor = BoardCursor("/tasks/stream", last_event_id)
        super().__init__(
            BoardConnections(transport, "/tasks/stream", cursor, None, reconnect, idle, on_state)
        )
