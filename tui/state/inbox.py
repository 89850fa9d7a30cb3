"""The order of the list of tasks: what needs attention first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from beray.schema import Task
from tui import status

FRESH: Final = timedelta(days=1)
"""How long a failure that has been read stays near the top."""


class Attention(IntEnum):
    """The groups of the list, from its top."""

    WAITS = 0
    FAILED = 1
    RUNNING = 2
    UNREAD = 3
    QUEUED = 4
    REST = 5


def unread(task: Task, seen: Mapping[int, int]) -> int:
    """How many events of ``task`` have not been looked at.

    A server that does not count them has one news of a task: that it has ended.
    """
    last_seq = task.get("last_seq")
    if last_seq is None:
        last_seq = 1 if status.has_ended(task) else 0
    return max(0, last_seq - seen.get(task["id"], 0))


def attention(task: Task, seen: Mapping[int, int], now: datetime) -> Attention:
    said, is_unread = task["status"], unread(task, seen) > 0
    if said == "INPUT_REQUIRED" and not status.is_chat(task):
        return Attention.WAITS
    if said == "FAILED" and (is_unread or _is_fresh(task, now)):
        return Attention.FAILED
    if said == "RUNNING":
        return Attention.RUNNING
    if status.at_rest(task):
        return Attention.UNREAD if is_unread else Attention.REST
    return Attention.QUEUED


def ordered(tasks: Iterable[Task], seen: Mapping[int, int], now: datetime) -> list[int]:
    """The ids of ``tasks`` by attention, in each group the newest first."""
    places = sorted((attention(task, seen, now), -task["id"]) for task in tasks)
    return [-number for _, number in places]


def matches(task: Task, query: str, stopping: Collection[int] = ()) -> bool:
    """Whether every word of ``query`` is in the goal, the state or the id (``#12`` or ``12``)."""
    word = "stopping" if task["id"] in stopping else status.look(task).word
    text = f"#{task['id']} {word} {task['status']} {status.title(task)}".casefold()
    return all(part in text for part in query.casefold().split())


def _is_fresh(task: Task, now: datetime) -> bool:
    ended = status.moment(task.get("ended_at"))
    return ended is None or now - ended < FRESH
