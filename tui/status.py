"""Display of a task's status, times and usage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from beray.sanitize import one_line
from beray.schema import TERMINAL_STATUSES, Task, Usage, goal_of


class StatusDisplay(NamedTuple):
    """Glyph, word and component class that show a status."""

    glyph: str
    word: str
    style: str
    """Component class; ``app.tcss`` defines its colour."""


_DISPLAYS: Final = {
    "QUEUED": StatusDisplay("○", "queued", "status--queued"),
    "RUNNING": StatusDisplay("●", "running", "status--running"),
    "INPUT_REQUIRED": StatusDisplay("◆", "needs input", "status--input"),
    "COMPLETED": StatusDisplay("✓", "completed", "status--completed"),
    "FAILED": StatusDisplay("✗", "failed", "status--failed"),
    "STOPPED": StatusDisplay("■", "stopped", "status--stopped"),
}
_HELD: Final = StatusDisplay("‖", "held", "status--queued")
_IDLE: Final = StatusDisplay("◇", "idle", "status--queued")
_ANSWERING: Final = StatusDisplay("●", "answering", "status--running")
_STOPPING: Final = StatusDisplay("◧", "stopping", "status--stopped")
STYLES: Final = frozenset(task_display.style for task_display in _DISPLAYS.values()) | {
    "status--other"
}
WORD_CELLS: Final = max(len(task_display.word) for task_display in _DISPLAYS.values())


def status_display(status: str) -> StatusDisplay:
    """Return the display of a status name, including unknown ones."""
    known = _DISPLAYS.get(status)
    return known or StatusDisplay("·", one_line(status, WORD_CELLS).lower(), "status--other")


def task_display(task: Task, *, stopping: bool = False) -> StatusDisplay:
    """Return the display of a task.

    Args:
        task: Task of the server.
        stopping: Whether the task was asked to stop and has not ended yet.
    """
    if stopping and not is_idle(task):
        return _STOPPING
    if is_chat(task) and task["status"] in ("INPUT_REQUIRED", "RUNNING"):
        return _IDLE if is_idle(task) else _ANSWERING
    return (
        _HELD if task.get("held") and task["status"] == "QUEUED" else status_display(task["status"])
    )


def has_ended(task: Task) -> bool:
    """Return True if the status is terminal."""
    return task["status"] in TERMINAL_STATUSES


def is_chat(task: Task) -> bool:
    """Return True if the task is a chat."""
    return task.get("chat") is not None


def is_idle(task: Task) -> bool:
    """Return True if the task has ended, or is a chat that waits for its user."""
    return has_ended(task) or (is_chat(task) and task["status"] == "INPUT_REQUIRED")


def title(task: Task) -> str:
    """Return the goal of a task, or the name of a chat."""
    name = task.get("chat")
    if name is None:
        return goal_of(task)
    return name if name.casefold().startswith("chat") else f"chat {name}"


def origin_text(task: Task) -> str:
    """Return the checkpoint that a task continues as ``12@c3``; "" if it continues none."""
    origin = task.get("from")
    if not origin:
        return ""
    checkpoint = origin.get("checkpoint")
    return f"{origin['task']}@{one_line(checkpoint, 20)}" if checkpoint else f"{origin['task']}"


def elapsed(task: Task, now: datetime) -> str:
    """Return the run time of the task as ``42s``, ``3m``, ``2h`` or ``5d``; "" if unknown."""
    started, ended = parse_time(task.get("started_at")), parse_time(task.get("ended_at"))
    if started is None or (ended is None and is_idle(task)):
        return ""
    return duration((ended or now) - started)


def usage_text(task: Task) -> str:
    """Return usage and limits of the task, such as ``749 of 10,000 tokens, $0.0021``."""
    usage: Usage | dict[str, Any] = task.get("usage") or {}
    limits = task.get("limits") or {}
    about = "≈" if usage.get("estimated") else ""
    tokens = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
    cost = usage.get("cost_usd")
    parts = []
    if usage or "tokens" in limits:
        parts.append(f"{about}{tokens:,}{_of(limits.get('tokens'))} tokens")
    if cost is not None or "cost_usd" in limits:
        parts.append(f"${cost or 0:.4f}{_of(limits.get('cost_usd'), '$')}")
    if "requests" in limits:
        parts.append(f"{usage.get('requests', 0):,}{_of(limits['requests'])} requests")
    if "seconds" in limits:
        parts.append(f"at most {limits['seconds']:g}s")
    return ", ".join(parts)


def _of(limit: float | None, unit: str = "") -> str:
    return "" if limit is None else f" of {unit}{limit:,}"


def duration(span: timedelta) -> str:
    """Return a duration as ``42s``, ``3m``, ``2h`` or ``5d``."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 100:
        return f"{seconds}s"
    if seconds < 100 * 60:
        return f"{seconds // 60}m"
    if seconds < 48 * 3600:
        return f"{seconds // 3600}h"
    return f"{seconds // 86400}d"


def size(count: int) -> str:
    """Return a number of bytes in at most six cells: ``812 B``, ``1.4 K``, ``36 M``."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in "KMGTP":
        value /= 1024
        if value < 9.95:
            return f"{value:.1f} {unit}"
        if value < 999.5:
            return f"{value:.0f} {unit}"
    return "huge"


def parse_time(text: object) -> datetime | None:
    """Parse a timestamp of the wire (UTC if it has no zone); return None if it is invalid."""
    try:
        parse_time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if parse_time is not None and parse_time.tzinfo is None:
        parse_time = parse_time.replace(tzinfo=UTC)
    return parse_time
