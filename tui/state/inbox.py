"""Order of the task list: tasks that need attention first, related tasks together."""

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
    """Return the ids of ``tasks`` by attention, newest first within a group.

    Tasks of a group that continue each other follow each other, the oldest first. They take the
    place of the newest one.
    """
    tasks = list(tasks)
    roots = thread_roots(tasks)
    threads: dict[tuple[Attention, int], list[int]] = {}
    for task in tasks:
        group = attention(task, seen, now), roots[task["id"]]
        threads.setdefault(group, []).append(task["id"])
    places = sorted((group, -max(ids), sorted(ids)) for (group, _), ids in threads.items())
    return [task_id for _, _, ids in places for task_id in ids]


def thread_roots(tasks: Iterable[Task]) -> dict[int, int]:
    """Return for each task the id of the first task that it continues, directly or indirectly.

    It is the task itself if it continues none. The first task may have been deleted.
    """
    roots: dict[int, int] = {}
    for task in sorted(tasks, key=lambda task: task["id"]):
        task_id, origin = task["id"], task.get("from")
        before = origin["task"] if origin else task_id
        # An origin is older than its continuation.
        roots[task_id] = roots.get(before, before) if before < task_id else task_id
    return roots


def matches(task: Task, query: str, stopping: Collection[int] = ()) -> bool:
    """Return True if each word of ``query`` occurs in the goal, the status or an id (``#12``).

    The ids are those of the task and of the task that it continues.
    """
    word = "stopping" if task["id"] in stopping else status.task_display(task).word
    origin = status.origin_text(task)
    ids = f"#{task['id']} from #{origin}" if origin else f"#{task['id']}"
    text = f"{ids} {word} {task['status']} {status.title(task)}".casefold()
    return all(word in text for word in query.casefold().split())


def _is_fresh(task: Task, now: datetime) -> bool:
    ended = status.parse_time(task.get("ended_at"))
    return ended is None or now - ended < FRESH
