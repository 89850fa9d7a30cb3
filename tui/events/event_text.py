"""Text of events for the log. The event types are those of :mod:`beray.events`."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from beray.sanitize import one_line, printable
from beray.schema import MAX_ATTACHMENTS, MAX_MESSAGE_CHARS, from_workspace
from tui import status

MAX_LINE_CHARS: Final = 600
"""Maximum length of a value that is shown on one line."""
MAX_UNFOLDED_CHARS: Final = 32_000
"""Maximum length of the arguments or the result of an unfolded tool call."""
_SHOWN_PATHS: Final = 3
"""Number of paths that a warning names."""
_CHECKPOINT: Final = re.compile(r"c[1-9][0-9]{0,17}")


class EventText(NamedTuple):
    """Text of an event, with its component class and its symbol in the gutter."""

    text: str
    style: str
    symbol: str
    failed: bool = False


def to_text(value: object) -> str:
    """Return a field of an event as a string; a value of another type is shown as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else to_json(value)


def to_json(value: object, indent: int | None = None) -> str:
    """Return ``value`` as JSON, or a placeholder if it is nested too deeply."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent)
    except RecursionError:
        return "(nested too deeply to show)"


def format_json(text: str) -> str:
    """Return sanitized text of bounded length, indented if it is JSON."""
    if len(text) <= MAX_UNFOLDED_CHARS:
        with contextlib.suppress(ValueError, RecursionError):  # not JSON: shown unchanged
            text = to_json(json.loads(text), indent=2)
    shown = printable(text[:MAX_UNFOLDED_CHARS]).expandtabs(8)
    omitted = len(text) - MAX_UNFOLDED_CHARS
    return f"{shown}\n… {omitted:,} more characters" if omitted > 0 else shown


def describe_result(value: object) -> EventText:
    """Return the text of a tool's result: ``exit 0``, or the start of its value."""
    code = value.get("exit_code") if isinstance(value, dict) else None
    if isinstance(code, int) and not isinstance(code, bool):
        failed = code != 0
        text = f"exit {code}"
        if isinstance(value, dict) and len(value) > 1:
            rest = {key: item for key, item in value.items() if key != "exit_code"}
            text += f"  {one_line(to_json(rest), MAX_LINE_CHARS)}"
    else:
        failed = isinstance(value, dict) and bool(value.get("error") or value.get("isError"))
        text = one_line(to_text(value), MAX_LINE_CHARS)
    if failed:
        return EventText(text, "event--failure", "✗", True)
    return EventText(text, "event--result", "✓")


def describe_status(event: Mapping[str, Any]) -> EventText:
    """Return the text of a ``TASK_STATUS`` event."""
    appearance = status.status_display(to_text(event.get("status")))
    reason = one_line(to_text(event.get("reason")), 200)
    text = f"{appearance.word} ({reason})" if reason else appearance.word
    return EventText(text, appearance.style, appearance.glyph, event.get("status") == "FAILED")


def describe_error(event: Mapping[str, Any]) -> EventText:
    """Return the text of an ``ERROR`` event."""
    text = f"{to_text(event.get('code'))}: {to_text(event.get('details'))}"
    return EventText(text, "event--failure", "!", True)


def describe_end(event: Mapping[str, Any]) -> EventText:
    """Return the text of an ``AGENT_EVENT_END`` event."""
    tokens = event.get("tokens_used")
    used = f", {tokens:,} tokens" if isinstance(tokens, int) and tokens else ""
    return EventText(f"answer complete{used}", "event--note", "·")


def describe_update(payload: object) -> EventText:
    """Return the text of the payload of an ``AGENT_EVENT_CUSTOM_UPDATE`` event."""
    if (path := changed_file_path(payload)) is not None:
        return describe_file(path, "✎")
    if (checkpoint := checkpoint_text(payload)) is not None:
        return EventText(" ".join(filter(None, checkpoint[1:])), "event--note", "±")
    if isinstance(payload, dict) and payload.get("kind") == "not_stored":
        return _describe_not_stored(payload)
    message = payload.get("message") if isinstance(payload, dict) else None
    text = message if isinstance(message, str) else one_line(to_text(payload), MAX_LINE_CHARS)
    return EventText(text, "event--note", "·")


class CheckpointText(NamedTuple):
    """Text of a ``checkpoint`` update.

    Attributes:
        name: Name of the checkpoint, such as ``c4``.
        text: Name and number of changed files.
        added: Number of added lines, such as ``+12``; "" if it is 0 or unknown.
        deleted: Number of deleted lines, such as ``−3``; "" if it is 0 or unknown.
    """

    name: str
    text: str
    added: str
    deleted: str


def checkpoint_text(payload: object) -> CheckpointText | None:
    """Return the text of a ``checkpoint`` update, or ``None`` for other updates."""
    if not isinstance(payload, dict) or payload.get("kind") != "checkpoint":
        return None
    name = payload.get("checkpoint")
    if not isinstance(name, str) or _CHECKPOINT.fullmatch(name) is None:
        return None
    files = sum(_count(payload.get(change)) for change in ("added", "modified", "deleted"))
    changed = f"{files:,} {'file' if files == 1 else 'files'} changed"
    added, deleted = _count(payload.get("lines_added")), _count(payload.get("lines_deleted"))
    return CheckpointText(
        name,
        f"{name} · {changed}",
        f"+{added:,}" if added else "",
        f"−{deleted:,}" if deleted else "",
    )


def _count(value: object) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return value if is_count else 0  # type: ignore[return-value]


def _describe_not_stored(payload: Mapping[str, Any]) -> EventText:
    message, paths = payload.get("message"), payload.get("paths")
    text = one_line(message, MAX_LINE_CHARS) if isinstance(message, str) else "Content not stored"
    known = [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []
    shown = [one_line(path, 200) for path in known[:_SHOWN_PATHS]]
    if shown:
        more = max(_count(payload.get("count")), len(known)) - len(shown)
        text += f": {', '.join(shown)}{f' and {more:,} more' if more > 0 else ''}"
    return EventText(text, "event--warning", "!")


def describe_unknown(event: Mapping[str, Any]) -> EventText:
    """Return an event of an unknown type as JSON."""
    return EventText(one_line(to_json(dict(event)), MAX_LINE_CHARS), "event--note", "·")


def describe_user_message(text: object) -> EventText:
    """Return the text of a ``USER_MESSAGE`` event, with its line breaks."""
    whole = to_text(text)
    omitted = len(whole) - MAX_MESSAGE_CHARS
    shown = printable(whole[:MAX_MESSAGE_CHARS]).strip("\n")
    return EventText(
        f"{shown}\n… {omitted:,} more characters" if omitted > 0 else shown, "event--user", "›"
    )


def attachment_paths(paths: object) -> tuple[str, ...]:
    """Return the attachments of a message as paths in the work_dir."""
    if not isinstance(paths, list):
        return ()
    named = (from_workspace(path) for path in paths if isinstance(path, str))
    return tuple(filter(None, named))[:MAX_ATTACHMENTS]


def describe_file(path: str, symbol: str) -> EventText:
    """Return the text of an event that names a file."""
    return EventText(one_line(path), "event--file", symbol)


def changed_file_path(payload: object) -> str | None:
    """Return the path in a ``file_changed`` update, or ``None`` for other updates."""
    if not isinstance(payload, dict) or payload.get("kind") != "file_changed":
        return None
    path = payload.get("path")
    return path if isinstance(path, str) and path else None
