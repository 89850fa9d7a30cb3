"""What the dashboard remembers, as plain values: read from JSON, changed, written as JSON.

Nothing here touches a file. Values are never changed in place: every function gives a
new one, so that a thread may write the old one while the next comes into being.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from tui.state.task_draft import TaskDraft, Tool

MOST_GOALS: Final = 500
MOST_GOAL_CHARACTERS: Final = 2_000_000
"""How many characters the goals of the history have in all; the oldest go first."""
MOST_SEEN: Final = 20_000
"""Of how many tasks of an account is known what was read; the newest stay."""

History = tuple[TaskDraft, ...]
"""Goals without attachments, the oldest first."""
Drafts = Mapping[str, TaskDraft]
Seen = Mapping[str, Mapping[int, int]]
"""By account and task: the seq that was read to."""
Settings = Mapping[str, str]

T = TypeVar("T")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """One thing that is remembered, in a file of its own.

    Attributes:
        name: the name of the file.
        empty: what there is before anything is remembered.
        read: from decoded JSON, and whether something of it was not as it should be.
        dump: to JSON.
    """

    name: str
    empty: T
    read: Callable[[Any], tuple[T, bool]]
    dump: Callable[[T], Any]


# History


def with_goal(history: History, order: TaskDraft) -> History:
    """``history`` with one more at its end, unless that is what it ends with."""
    entry = replace(order, attachments=())
    if history and history[-1] == entry:
        return history
    longer = (*history, entry)[-MOST_GOALS:]
    excess = sum(len(one.goal) for one in longer) - MOST_GOAL_CHARACTERS
    first = 0
    while excess > 0 and first < len(longer) - 1:
        excess -= len(longer[first].goal)
        first += 1
    return longer[first:]


# Drafts


def with_draft(drafts: Drafts, account: str, order: TaskDraft) -> Drafts:
    return {**drafts, account: order}


def without_draft(drafts: Drafts, account: str, known: TaskDraft) -> Drafts:
    """``drafts`` without that of ``account``, unless it has become another than ``known``."""
    if drafts.get(account) != known:
        return drafts
    return {name: draft for name, draft in drafts.items() if name != account}


# What was read


def with_seen(seen: Seen, account: str, task_id: int, seq: int) -> Seen:
    """``seen`` with ``task_id`` read to ``seq`` at least."""
    known = seen.get(account, {})
    if known.get(task_id, -1) >= seq:
        return seen
    tasks = {**known, task_id: seq}
    if len(tasks) > MOST_SEEN:
        tasks = {task: tasks[task] for task in sorted(tasks)[-MOST_SEEN:]}
    return {**seen, account: tasks}


def without_seen(seen: Seen, account: str, task_id: int) -> Seen:
    tasks = {task: seq for task, seq in seen.get(account, {}).items() if task != task_id}
    return {**seen, account: tasks}


# JSON


def _order(data: Any) -> TaskDraft | None:
    """An order that was stored; ``None`` where it is none."""
    if not isinstance(data, dict) or not isinstance(data.get("goal"), str):
        return None
    tools, attachments = data.get("tools"), data.get("attachments", [])
    if tools is not None and not _are_tools(tools):
        return None
    if not isinstance(attachments, list) or not all(isinstance(one, str) for one in attachments):
        return None
    return TaskDraft(data["goal"], tools or None, tuple(Path(one) for one in attachments))


def _are_tools(tools: Any) -> bool:
    return isinstance(tools, list) and all(
        isinstance(tool, dict) and len(tool) == 1 and isinstance(next(iter(tool.values())), dict)
        for tool in tools
    )


def _dumped(order: TaskDraft) -> dict[str, Any]:
    data: dict[str, str | list[str] | list[Tool]] = {"goal": order.goal}
    if order.tools:
        data["tools"] = order.tools
    if order.attachments:
        data["attachments"] = [str(path) for path in order.attachments]
    return data


def _read_history(data: Any) -> tuple[History, bool]:
    if not isinstance(data, list):
        return (), True
    orders = [_order(entry) for entry in data]
    return tuple(order for order in orders if order is not None), None in orders


def _read_drafts(data: Any) -> tuple[Drafts, bool]:
    if not isinstance(data, dict):
        return {}, True
    orders = {account: _order(entry) for account, entry in data.items()}
    good = {account: order for account, order in orders.items() if order is not None}
    return good, len(good) < len(orders)


def _read_seen(data: Any) -> tuple[Seen, bool]:
    try:
        seen = {
            account: {int(task_id): int(seq) for task_id, seq in tasks.items()}
            for account, tasks in data.items()
        }
    except (AttributeError, TypeError, ValueError, OverflowError):
        return {}, True
    return seen, False


def _read_settings(data: Any) -> tuple[Settings, bool]:
    if not isinstance(data, dict):
        return {}, True
    good = {name: value for name, value in data.items() if isinstance(value, str)}
    return good, len(good) < len(data)


def _plain(value: Any) -> Any:
    return value


HISTORY: Final[Kind[History]] = Kind(
    "history.json", (), _read_history, lambda history: [_dumped(order) for order in history]
)
DRAFTS: Final[Kind[Drafts]] = Kind(
    "drafts.json",
    {},
    _read_drafts,
    lambda drafts: {account: _dumped(order) for account, order in drafts.items()},
)
SEEN: Final[Kind[Seen]] = Kind("seen.json", {}, _read_seen, _plain)
SETTINGS: Final[Kind[Settings]] = Kind("settings.json", {}, _read_settings, _plain)
