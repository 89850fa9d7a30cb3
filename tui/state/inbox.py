"""Order of the task list: tasks that need attention first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from beray.schema import Task
from tui import status

FRESH: Final = timedelta(days=1)
"""Time for which a failure that has been read stays near the top."""


class Attention(IntEnum):
    """Groups of the task list, from top to bottom."""

    WAITS = 0
    FAILED = 1
    RUNNING = 2
    UNREAD = 3
    QUEUED = 4
    REST = 5


def unread(task: Task, seen: Mapping[int, int]) -> int:
    """Return the number of events of ``task`` that have not been seen.

    For a server that does not count events, the end of the task counts as one.
    """
    last_seq = task.get("last_seq")
    if last_seq is None:
        last_seq = 1 if status.has_ended(task) else 0
    return max(0, last_seq - seen.get(task["id"], 0))


def attention(task: Task, seen: Mapping[int, int], now: datetime) -> Attention:
    """Return the group of ``task``."""
    status_name, is_unread = task["status"], unread(task, seen) > 0
    if status_name == "INPUT_REQUIRED" and not status.is_chat(task):
        return Attention.WAITS
    if status_name == "FAILED" and (is_unread or _is_fresh(task, now)):
        return Attention.FAILED
    if status_name == "RUNNING":
        return Attention.RUNNING
    if status.is_idle(task):
        return Attention.UNREAD if is_unread else Attention.REST
    return Attention.QUEUED


def ordered(tasks: Iterable[Task], seen: Mapping[int, int], now: datetime) -> list[int]:
    """Return the ids of ``tasks`` by attention, newest first within a group."""
    places = sorted((attention(task, seen, now), -task["id"]) for task in tasks)
    return [-number for _, number in places]


def matches(task: Task, query: str, stopping: Collection[int] = ()) -> bool:
    """Return True if each word of ``query`` occurs in the goal, the status or the id (``#12``)."""
    word = "stopping" if task["id"] in stopping else status.task_display(task).word
    text = f"#{task['id']} {word} {task['status']} {status.title(task)}".casefold()
    return all(word in text for word in query.casefold().split())


def _is_fresh(task: Task, now: datetime) -> bool:
    ended = status.parse_time(task.get("ended_at"))
    return ended is None or now - ended < FRESH
