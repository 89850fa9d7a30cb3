"""Waiting for the end of a task, on top of its stream."""

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

MIN_CALL_SECONDS = 5.0
"""Time for a call that reads the task, even if less is left of the timeout."""


def wait(
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
        get_task: reads the task within a number of seconds.
        open_stream: opens its stream after an event id, or from the start.
        timeout: seconds; None waits without a limit.
        until_input: also return while the task waits for input (``INPUT_REQUIRED``).
        after: seq after which it has to begin to wait for input.

    Raises:
        WaitTimeout: the task did not end in time.
        StreamInterrupted: the server ended the stream, and the task has not ended.
        InvalidArgument: ``timeout`` is not a number of seconds of at least 0.
    """
    deadline = time.monotonic() + _checked(timeout)
    awaited = TERMINAL_STATUSES | ({"INPUT_REQUIRED"} if until_input else set())

    def read() -> Task:
        left = max(deadline - time.monotonic(), MIN_CALL_SECONDS)
        try:
            return get_task(left)
        except DeadlineExceeded as error:
            if timeout is None or time.monotonic() < deadline:
                raise
            raise _timed_out(task_id, timeout) from error

    task = read()
    if task["status"] in (awaited if after is None else TERMINAL_STATUSES):
        return task
    # Events up to here have been taken into account; other servers do not have last_seq.
    begin = task.get("last_seq") if after is None else after
    with (
        open_stream(str(begin) if begin else None) as stream,
        _closed_at(deadline, stream) as timed_out,
    ):
        for event in stream:
            status = _status(event)
            if status in TERMINAL_STATUSES:
                ended = read()
                # The status of the stream is final, even if the server's answer is older.
                return ended if ended["status"] in TERMINAL_STATUSES else ended | {"status": status}
            if status in awaited:
                task = read()
                if task["status"] in awaited:
                    return task
    # The stream was closed by the timeout, or the server ended it without a terminal status.
    task = read()
    if task["status"] in TERMINAL_STATUSES:
        return task
    if timeout is not None and timed_out.is_set():
        raise _timed_out(task_id, timeout)
    raise StreamInterrupted(
        f"the stream of task {task_id} ended, but the task is {task['status']}; it continues to "
        f"run: call wait({task_id!r}) again, or stop_task({task_id!r})",
        path=f"/tasks/{task_id}/stream",
    )


def failure(task: Task) -> TaskFailed | None:
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
    """Return the events of a task that have a type, as other servers may send others."""
    return [event for event in task.get("events") or () if "type" in event]


def _status(event: TaskEvent) -> str:
    # Servers may send a status without a type; see beray.streaming.reconnect.
    if event.get("type") not in ("TASK_STATUS", None):
        return ""
    return str(event.get("status", ""))


def _checked(timeout: float | None) -> float:
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise InvalidArgument(
            f"timeout must be a number of seconds of at least 0, or None; got {timeout!r}"
        )
    return timeout


@contextmanager
def _closed_at(deadline: float, stream: TaskStream) -> Iterator[threading.Event]:
    """Close ``stream`` at ``deadline``, which ends its iteration; the event is set before."""
    passed = threading.Event()
    left = deadline - time.monotonic()
    if left > threading.TIMEOUT_MAX:
        yield passed
        return

    def close() -> None:
        passed.set()
        stream.close()

    timer = threading.Timer(max(left, 0.0), close)
    timer.daemon = True
    timer.start()
    try:
        yield passed
    finally:
        timer.cancel()


def _timed_out(task_id: int | str, timeout: float) -> WaitTimeout:
    return WaitTimeout(
        f"task {task_id} did not end within {timeout:g} s; it continues to run: "
        f"call wait({task_id!r}) again, or stop_task({task_id!r})",
        task_id=task_id,
    )
