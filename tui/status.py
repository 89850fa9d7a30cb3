"""How a task's status looks: a glyph, a word and the name of a style."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from beray.sanitize import one_line
from beray.schema import TERMINAL_STATUSES, Task, Usage, goal_of


class Look(NamedTuple):
    glyph: str
    word: str
    style: str
    """A component class; ``app.tcss`` gives it its colour."""


_LOOKS: Final = {
    "QUEUED": Look("○", "queued", "status--queued"),
    "RUNNING": Look("●", "running", "status--running"),
    "INPUT_REQUIRED": Look("◆", "needs input", "status--input"),
    "COMPLETED": Look("✓", "completed", "status--completed"),
    "FAILED": Look("✗", "failed", "status--failed"),
    "STOPPED": Look("■", "stopped", "status--stopped"),
}
_HELD: Final = Look("‖", "held", "status--queued")
_IDLE: Final = Look("◇", "idle", "status--queued")
_ANSWERING: Final = Look("●", "answering", "status--running")
_STOPPING: Final = Look("◧", "stopping", "status--stopped")
STYLES: Final = frozenset(look.style for look in _LOOKS.values()) | {"status--other"}
WORD_CELLS: Final = max(len(look.word) for look in _LOOKS.values())


def look_of(status: str) -> Look:
    """The look of a status, an unknown one included."""
    known = _LOOKS.get(status)
    return known or Look("·", one_line(status, WORD_CELLS).lower(), "status--other")


def look(task: Task, *, stopping: bool = False) -> Look:
    """The look of a task; ``stopping``: it was asked to stop, and has not ended yet."""
    if stopping and not at_rest(task):
        return _STOPPING
    if is_chat(task) and task["status"] in ("INPUT_REQUIRED", "RUNNING"):
        return _IDLE if at_rest(task) else _ANSWERING
    return _HELD if task.get("held") and task["status"] == "QUEUED" else look_of(task["status"])


def has_ended(task: Task) -> bool:
    return task["status"] in TERMINAL_STATUSES


def is_chat(task: Task) -> bool:
    return task.get("chat") is not None


def at_rest(task: Task) -> bool:
    """Whether nothing is being done: it has ended, or is a chat whose user has the word."""
    return has_ended(task) or (is_chat(task) and task["status"] == "INPUT_REQUIRED")


def title(task: Task) -> str:
    """What a task is called: by its goal, and a chat by its name."""
    name = task.get("chat")
    if name is None:
        return goal_of(task)
    return name if name.casefold().startswith("chat") else f"chat {name}"


def elapsed(task: Task, now: datetime) -> str:
    """How long the task has run, or ran: ``42s``, ``3m``, ``2h``, ``5d``; "" where unknown."""
    started, ended = moment(task.get("started_at")), moment(task.get("ended_at"))
    if started is None or (ended is None and at_rest(task)):
        return ""
    return duration((ended or now) - started)


def used(task: Task) -> str:
    """What the task has taken, and what it may: ``749 of 10,000 tokens, $0.0021``."""
    usage: Usage | dict[str, Any] = task.get("usage") or {}
    limits = task.get("limits") or {}
    about = "≈" if usage.get("estimated") else ""
    tokens = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
    cost = usage.get("cost_usd")
    said = []
    if usage or "tokens" in limits:
        said.append(f"{about}{tokens:,}{_of(limits.get('tokens'))} tokens")
    if cost is not None or "cost_usd" in limits:
        said.append(f"${cost or 0:.4f}{_of(limits.get('cost_usd'), '$')}")
    if "requests" in limits:
        said.append(f"{usage.get('requests', 0):,}{_of(limits['requests'])} requests")
    if "seconds" in limits:
        said.append(f"at most {limits['seconds']:g}s")
    return ", ".join(said)


def _of(limit: float | None, unit: str = "") -> str:
    return "" if limit is None else f" of {unit}{limit:,}"


def duration(span: timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    if seconds < 100:
        return f"{seconds}s"
    if seconds < 100 * 60:
        return f"{seconds // 60}m"
    if seconds < 48 * 3600:
        return f"{seconds // 3600}h"
    return f"{seconds // 86400}d"


def size(count: int) -> str:
    """A number of bytes in at most six cells: ``812 B``, ``1.4 K``, ``36 M``."""
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


def moment(text: object) -> datetime | None:
    """A wire timestamp as a time (UTC where it names no zone), or ``None``."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if moment is not None and moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment
