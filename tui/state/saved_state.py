"""Saved state of the dashboard as immutable values, with conversion from and to JSON.

This module does no I/O. Functions return new values instead of changing their arguments, so
that a thread may write one value while the next is created.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from tui.state.task_draft import DraftOrigin, TaskDraft

MAX_GOALS: Final = 500
MAX_GOAL_CHARACTERS: Final = 2_000_000
"""Total characters of all goals in the history; the oldest goals are dropped."""
MAX_SEEN_TASKS: Final = 20_000
"""Tasks per account whose last seen event is stored; the newest are kept."""

History = tuple[TaskDraft, ...]
"""Submitted goals without attachments, oldest first."""
Drafts = Mapping[str, TaskDraft]
Seen = Mapping[str, Mapping[int, int]]
"""Last seen ``seq`` by account and task."""
Settings = Mapping[str, str]

T = TypeVar("T")


@dataclass(frozen=True)
class StateFile(Generic[T]):
    """Format of one file of the saved state.

    Attributes:
        name: Name of the file.
        empty: Value of a missing file.
        read: Converts decoded JSON to the value; the flag is True if a part was invalid.
        dump: Converts the value to an object that JSON can represent.
    """

    name: str
    empty: T
    read: Callable[[Any], tuple[T, bool]]
    dump: Callable[[T], Any]


# History


def with_goal(history: History, draft: TaskDraft) -> History:
    """Return ``history`` with one more goal, unless it equals the last one."""
    entry = replace(draft, attachments=(), origin=None)
    if history and history[-1] == entry:
        return history
    longer = (*history, entry)[-MAX_GOALS:]
    excess = sum(len(one.goal) for one in longer) - MAX_GOAL_CHARACTERS
    first = 0
    while excess > 0 and first < len(longer) - 1:
        excess -= len(longer[first].goal)
        first += 1
    return longer[first:]


# Drafts


def with_draft(drafts: Drafts, account: str, draft: TaskDraft) -> Drafts:
    """Return ``drafts`` with another draft for ``account``."""
    return {**drafts, account: draft}


def without_draft(drafts: Drafts, account: str, known: TaskDraft) -> Drafts:
    """Return ``drafts`` without the one of ``account``, unless it differs from ``known``."""
    if drafts.get(account) != known:
        return drafts
    return {name: draft for name, draft in drafts.items() if name != account}


# Seen events


def with_seen(seen: Seen, account: str, task_id: int, seq: int) -> Seen:
    """Return ``seen`` with the events of ``task_id`` up to at least ``seq`` marked as seen."""
    known = seen.get(account, {})
    if known.get(task_id, -1) >= seq:
        return seen
    tasks = {**known, task_id: seq}
    if len(tasks) > MAX_SEEN_TASKS:
        tasks = {task: tasks[task] for task in sorted(tasks)[-MAX_SEEN_TASKS:]}
    return {**seen, account: tasks}


def without_seen(seen: Seen, account: str, task_id: int) -> Seen:
    """Return ``seen`` without ``task_id``."""
    tasks = {task: seq for task, seq in seen.get(account, {}).items() if task != task_id}
    return {**seen, account: tasks}


# JSON


def _parse_draft(data: Any) -> TaskDraft | None:
    """Return a stored draft, or None if ``data`` is invalid."""
    if not isinstance(data, dict) or not isinstance(data.get("goal"), str):
        return None
    tools, attachments = data.get("tools"), data.get("attachments", [])
    if tools is not None and not _are_tools(tools):
        return None
    if not isinstance(attachments, list) or not all(isinstance(one, str) for one in attachments):
        return None
    return TaskDraft(
        data["goal"],
        tools or None,
        tuple(Path(one) for one in attachments),
        origin=_parse_origin(data.get("from")),
    )


def _parse_origin(data: Any) -> DraftOrigin | None:
    match data:
        case {"task": int(task), "checkpoint": str(checkpoint)}:
            return DraftOrigin(task, checkpoint)
    return None


def _are_tools(tools: Any) -> bool:
    return isinstance(tools, list) and all(
        isinstance(tool, dict) and len(tool) == 1 and isinstance(next(iter(tool.values())), dict)
        for tool in tools
    )


def _dump_draft(draft: TaskDraft) -> dict[str, Any]:
    data: dict[str, Any] = {"goal": draft.goal}
    if draft.tools:
        data["tools"] = draft.tools
    if draft.attachments:
        data["attachments"] = [str(path) for path in draft.attachments]
    if draft.origin is not None:
        data["from"] = draft.origin._asdict()
    return data


def _read_history(data: Any) -> tuple[History, bool]:
    if not isinstance(data, list):
        return (), True
    drafts = [_parse_draft(entry) for entry in data]
    return tuple(draft for draft in drafts if draft is not None), None in drafts


def _read_drafts(data: Any) -> tuple[Drafts, bool]:
    if not isinstance(data, dict):
        return {}, True
    drafts = {account: _parse_draft(entry) for account, entry in data.items()}
    good = {account: draft for account, draft in drafts.items() if draft is not None}
    return good, len(good) < len(drafts)


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


HISTORY: Final[StateFile[History]] = StateFile(
    "history.json", (), _read_history, lambda history: [_dump_draft(draft) for draft in history]
)
DRAFTS: Final[StateFile[Drafts]] = StateFile(
    "drafts.json",
    {},
    _read_drafts,
    lambda drafts: {account: _dump_draft(draft) for account, draft in drafts.items()},
)
SEEN: Final[StateFile[Seen]] = StateFile("seen.json", {}, _read_seen, _plain)
SETTINGS: Final[StateFile[Settings]] = StateFile("settings.json", {}, _read_settings, _plain)
