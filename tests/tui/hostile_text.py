"""Hostile text and events for tests, and the check that none of it reaches the terminal."""

from __future__ import annotations

import unicodedata
from typing import Any

from tests.tui import dashboard_stub as stub

BIDI = "\u202e\u2066\u2069\u200e\u200f\u061c"
HOSTILE = (
    "A\x1b[2J\x1b]0;title\x07B\x9b31mC\x00\x08\x7f\x85D[/b][b]E[@click=app.quit]F[/][$x]G\\[red]H"
    f"{BIDI}\ud800\udfffI\u2028J\r\nK日本語👩‍👩‍👧e\u0301\u0301{'u' + chr(0x301) * 300}L"
)
BIG = "m" * 1_000_000
KINDS = (
    "AGENT_EVENT_TEXT_CHUNK", "AGENT_EVENT_TOOL_CALL_CHUNK", "AGENT_EVENT_TOOL_RESULT",
    "AGENT_EVENT_CUSTOM_UPDATE", "AGENT_EVENT_SEND_FILE", "AGENT_EVENT_END", "ERROR",
    "TASK_STATUS", "USER_MESSAGE", "SOMETHING_NEW",
)  # fmt: skip
FIELDS = (
    "text", "source", "tool_name", "args_chunk", "result", "payload", "path", "tokens_used",
    "code", "details", "reason", "attachments",
)  # fmt: skip
WRONG: tuple[Any, ...] = (HOSTILE, None, 7, [HOSTILE], {HOSTILE: HOSTILE}, {"message": HOSTILE})


def assert_clean(shown: str) -> None:
    """No character that a terminal obeys or that reorders text; no markup was taken out."""
    for character in shown.replace("\n", ""):
        assert unicodedata.category(character) not in ("Cc", "Cs"), ascii(character)
        assert character not in BIDI, ascii(character)


def every_event() -> list[dict[str, Any]]:
    return [
        stub.event(kind, **dict.fromkeys(FIELDS, wrong)) for kind in KINDS for wrong in WRONG
    ] + [stub.event("TASK_STATUS", status=HOSTILE), stub.event(HOSTILE), {}]
