"""Waiting for the end of a task by its event stream."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from beray.event_types import TaskEvent
from beray.exceptions import (
    DeadlineExceeded,
    InvalidArgument,
    StreamInterrupted,
    TaskFailed,
    WaitTimeout,
)
from beray.schema import TERMINAL_STATUSES, Task
from beray.streaming.streams import TaskStream

MIN_REQUEST_SECONDS = 5.0
"""Deadline of a request for the task, even if less than this is left of the timeout."""


def wait_for_task(
    task_id: int | str,
    get_task: Callable[[float], Task],
    open_stream: Callable[[str | None], TaskStream],
    *,
    timeout: float | None,
    until_input: bool,
    after: int | None,
) -> Task:
    """Return the task once it has ended.

    Args:
        task_id: Id of the task.
        get_task: Requests the task within a number of seconds.
        open_stream: Opens its stream after an event id, or from the start.
        timeout: Seconds; None waits without a limit.
        until_input: Also return while the task waits for input (``INPUT_REQUIRED``).
        after: ``seq`` after which the task must have begun to wait for input.

    Raises:
        WaitTimeout: The task did not end in time.
        StreamInterrupted: The server ended the stream, and the task has not ended.
        InvalidArgument: ``timeout`` is negative or not a number.
    """
    deadline = time.monotonic() + _checked_timeout(timeout)
    awaited = TERMINAL_STATUSES | ({"INPUT_REQUIRED"} if until_input else set())

    def request_task() -> Task:
        remaining = max(deadline - time.monotonic(), MIN_REQUEST_SECONDS)
        try:
            return get_task(remaining)
        except DeadlineExceeded as error:
            if timeout is None or time.monotonic() < deadline:
                raise
            raise _timed_out(task_id, timeout) from error

    task = request_task()
    if task["status"] in (awaited if after is None else TERMINAL_STATUSES):
        return task
    # Earlier events are reflected in the task. Other servers do not send last_seq.
    start = task.get("last_seq") if after is None else after
    with (
        open_stream(str(start) if start else None) as stream,
        _closed_at(deadline, stream) as timed_out,
    ):
        for event in stream:
            status = _status(event)
            if status in TERMINAL_STATUSES:
                ended = request_task()
                # The status of the stream is final, even if the requested task is older.
                return ended if ended["status"] in TERMINAL_STATUSES else ended | {"status": status}
            if status in awaited:
                task = request_task()
                if task["status"] in awaited:
                    return task
    # The stream was closed by the timeout, or the server ended it without a terminal status.
    task = request_task()
    if task["status"] in TERMINAL_STATUSES:
        return task
    if timeout is not None and timed_out.is_set():
        raise _timed_out(task_id, timeout)
    raise StreamInterrupted(
        f"the stream of task {task_id} ended, but the task is {task['status']}; it continues to "
        f"run: call wait({task_id!r}) again, or stop_task({task_id!r})",
        path=f"/tasks/{task_id}/stream",
    )


def task_failure(task: Task) -> TaskFailed | None:
    """Return the exception for a task that ended without success; None for ``COMPLETED``."""
    if task["status"] == "COMPLETED":
        return None
    error = next(
        (event["details"] for event in reversed(_events(task)) if event["type"] == "ERROR"), None
    )
    reason = task.get("reason")
    text = f"task {task['id']} ended as {task['status']}"
    text += f" (reason: {reason})" if reason else ""
    if error:
        text += f": {error}"
    elif last_line := task.get("last_line"):
        text += f"; its last line was {last_line!r}"
    return TaskFailed(text, task=task, error=error)


def _events(task: Task) -> list[TaskEvent]:
    """Return the events that have a type; other servers may send events without one."""
    return [event for event in task.get("events") or () if "type" in event]


def _status(event: TaskEvent) -> str:
    # Servers may send a status without a type, as in beray.streaming.reconnect.
    if event.get("type") not in ("TASK_STATUS", None):
        return ""
    return str(event.get("status", ""))


def _checked_timeout(timeout: float | None) -> float:
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise InvalidArgument(
            f"timeout must be a number of seconds of at least 0, or None; got {timeout!r}"
        )
    return timeout


@contextmanager
def _closed_at(deadline: float, stream: TaskStream) -> Iterator[threading.Event]:
    """Close ``stream`` at ``deadline``, which ends its iteration, after setting the event."""
    expired = threading.Event()
    remaining = deadline - time.monotonic()
    if remaining > threading.TIMEOUT_MAX:
        yield expired
        return

    def close() -> None:
        expired.set()
        stream.close()

    timer = threading.Timer(max(remaining, 0.0), close)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


def _timed_out(task_id: int | str, timeout: float) -> WaitTimeout:
    return WaitTimeout(
        f"task {task_id} did not end within {timeout:g} s; it continues to run: "
        f"call wait({task_id!r}) again, or stop_task({task_id!r})",
        task_id=task_id,
    )
