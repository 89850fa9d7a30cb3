"""What an event says, in words of one line. Source of the event types: :mod:`beray.events`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from beray.sanitize import one_line, printable
from beray.schema import MOST_ATTACHMENTS, from_workspace
from tui import status

LIMIT: Final = 600
"""Characters of a value that are shown on one line."""
UNFOLDED_LIMIT: Final = 32_000
MESSAGE_LIMIT: Final = 200_000
"""As long as a message to a chat may be."""


class Said(NamedTuple):
    text: str
    style: str
    mark: str
    failed: bool = False


def words(value: object) -> str:
    """A field of an event as text, whatever came in its place."""
    if value is None:
        return ""
    return value if isinstance(value, str) else as_json(value)


def is_plain(source: str) -> bool:
    """Whether text of this source is shown as it is, and not as Markdown."""
    return source.startswith("tools:") or source in ("thinking", "stderr")


def as_json(value: object, indent: int | None = None) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent)
    except RecursionError:
        return "(nested too deeply to show)"


def pretty(text: str) -> str:
    """JSON in lines of its own, anything else as it is; safe, and of bounded length."""
    if len(text) <= UNFOLDED_LIMIT:
        with contextlib.suppress(ValueError, RecursionError):  # shown as it came
            text = as_json(json.loads(text), indent=2)
    shown = printable(text[:UNFOLDED_LIMIT]).expandtabs(8)
    more = len(text) - UNFOLDED_LIMIT
    return f"{shown}\n… {more:,} more characters" if more > 0 else shown


def result(value: object) -> Said:
    """A tool's answer: ``exit 0``, or the beginning of what it is."""
    code = value.get("exit_code") if isinstance(value, dict) else None
    if isinstance(code, int) and not isinstance(code, bool):
        failed = code != 0
        said = f"exit {code}"
        if isinstance(value, dict) and len(value) > 1:
            rest = {key: one for key, one in value.items() if key != "exit_code"}
            said += f"  {one_line(as_json(rest), LIMIT)}"
    else:
        failed = isinstance(value, dict) and bool(value.get("error") or value.get("isError"))
        said = one_line(words(value), LIMIT)
    if failed:
        return Said(said, "event--failure", "✗", True)
    return Said(said, "event--result", "✓")


def status_of(event: Mapping[str, Any]) -> Said:
    look = status.status_display(words(event.get("status")))
    reason = one_line(words(event.get("reason")), 200)
    said = f"{look.word} ({reason})" if reason else look.word
    return Said(said, look.style, look.glyph, event.get("status") == "FAILED")


def error(event: Mapping[str, Any]) -> Said:
    said = f"{words(event.get('code'))}: {words(event.get('details'))}"
    return Said(said, "event--failure", "!", True)


def end(event: Mapping[str, Any]) -> Said:
    tokens = event.get("tokens_used")
    used = f", {tokens:,} tokens" if isinstance(tokens, int) and tokens else ""
    return Said(f"answer complete{used}", "event--note", "·")


def note(payload: object) -> Said:
    message = payload.get("message") if isinstance(payload, dict) else None
    said = message if isinstance(message, str) else one_line(words(payload), LIMIT)
    return Said(said, "event--note", "·")


def unknown(event: Mapping[str, Any]) -> Said:
    return Said(one_line(as_json(dict(event)), LIMIT), "event--note", "·")


def user(text: object) -> Said:
    """What a user says, in the lines in which it was written."""
    whole = words(text)
    more = len(whole) - MESSAGE_LIMIT
    shown = printable(whole[:MESSAGE_LIMIT]).strip("\n")
    return Said(f"{shown}\n… {more:,} more characters" if more > 0 else shown, "event--user", "›")


def attachments(paths: object) -> tuple[str, ...]:
    """The files of a message, as the work_dir knows them."""
    if not isinstance(paths, list):
        return ()
    named = (from_workspace(path) for path in paths if isinstance(path, str))
    return tuple(filter(None, named))[:MOST_ATTACHMENTS]


def file(path: str, mark: str) -> Said:
    return Said(one_line(path), "event--file", mark)


def changed_file(payload: object) -> str | None:
    """The path that a custom update tells the change of."""
    if not isinstance(payload, dict) or payload.get("kind") != "file_changed":
        return None
    path = payload.get("path")
    return path if isinstance(path, str) and path else None
