"""What was said in a chat so far, as text for an agent that does not remember it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from beray.server.store import Store
from beray.server.tables import Task

LONGEST: Final = 60_000
"""Characters; of a longer one the end counts."""
_PAGE: Final = 1000


def transcript(store: Store, task: Task) -> str:
    """The conversation before the next message; "" where there was none."""
    said: list[tuple[str, str]] = []
    for event in _events(store, task):
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


def _events(store: Store, task: Task) -> Iterator[dict[str, Any]]:
    after = 0
    while rows := store.events_after(task.id, after, _PAGE):
        yield from (json.loads(body) for _, body in rows)
        after = rows[-1][0]
