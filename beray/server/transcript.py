"""What was said in a chat so far, as text for an agent that does not remember it."""

from __future__ import annotations

import json
from typing import Final

from beray.server.event_log import PAGE_EVENTS
from beray.server.store import Store
from beray.server.tables import Task

LONGEST: Final = 60_000
"""Characters; of a longer one the end counts."""


def transcript(store: Store, task: Task) -> str:
    """The conversation before the next message; "" where there was none."""
    said: list[tuple[str, str]] = []
    rows = (row for page in store.pages(task, PAGE_EVENTS) for row in page)
    for _, body in rows:
        event = json.loads(body)
        if event["type"] == "USER_MESSAGE":
            said.append(("User", event["text"]))
        elif event["type"] == "AGENT_EVENT_TEXT_CHUNK" and event.get("source") == "main":
            if said and said[-1][0] == "You":
                said[-1] = ("You", said[-1][1] + event["text"])
            else:
                said.append(("You", event["text"]))
    if not said:
        return ""
    text = "\n\n".join(f"{who}: {what}" for who, what in said)
    return f"The conversation so far:\n\n{text[-LONGEST:]}\n\nThe user says now:"
