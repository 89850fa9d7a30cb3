"""The conversation of a chat so far, as text for an agent that does not remember it."""

from __future__ import annotations

import json
from typing import Final

from beray.retraction import is_piece, retracted_range
from beray.server import stored_events
from beray.server.store import Store
from beray.server.tables import Task

MAX_BYTES: Final = 60_000
"""Bytes of a transcript in UTF-8; of a longer conversation it has the end. With a message, it
has to fit into one argument of a program, which Linux limits to 131,071 bytes."""


def transcript(store: Store, task: Task) -> str:
    """Return the conversation before the next message, or "" if there was none.

    The log is read backwards, one event at a time, until the text is long enough.
    """
    parts: list[str] = []
    speaker = ""
    length = 0
    retracted: tuple[int, int] | None = None
    with store.reading() as session:
        for body in stored_events.newest_first(session, task.id, task.last_seq):
            event = json.loads(body)
            if (span := retracted_range(event)) is not None:
                retracted = span
                continue
            if retracted is not None and is_piece(event):
                first, last = retracted
                if first <= event["seq"] <= last:
                    continue
            if event["type"] == "USER_MESSAGE":
                said_by = "User"
            elif event["type"] == "AGENT_EVENT_TEXT_CHUNK" and event.get("source") == "main":
                said_by = "You"
            else:
                continue
            if speaker and (said_by != speaker or said_by == "User"):
                parts.append(f"\n\n{speaker}: ")
            speaker = said_by
            parts.append(event["text"])
            length += len(event["text"].encode(errors="replace"))
            if length > MAX_BYTES:
                break
    if not speaker:
        return ""
    parts.append(f"{speaker}: ")
    end = "".join(reversed(parts)).encode(errors="replace")[-MAX_BYTES:]
    # The cut may be in the middle of a character.
    text = end.decode(errors="ignore")
    return f"The conversation so far:\n\n{text}\n\nThe user says now:"
