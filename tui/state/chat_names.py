"""Names of chats."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from beray.schema import MAX_CHAT_NAME_CHARS, Task


def unused_chat_name(tasks: Iterable[Task]) -> str:
    """Return a default name that no chat in ``tasks`` has."""
    used_names = {task.get("chat") for task in tasks}
    return next(
        name for name in (f"chat {number}" for number in count(1)) if name not in used_names
    )


def chat_name_problem(name: str) -> str | None:
    """Return the reason why ``name`` is not a valid name for a chat, or ``None``."""
    if not name:
        return "The name is empty. Enter a name."
    if len(name) > MAX_CHAT_NAME_CHARS:
        return f"The name has {len(name)} characters; the maximum is {MAX_CHAT_NAME_CHARS}."
    if "/" in name or name in (".", "..") or not name.isprintable():
        return "The name must be printable, must not contain / and must not be . or .."
    return None
