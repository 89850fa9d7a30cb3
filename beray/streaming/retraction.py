"""Retracted events of an answer, and the text that remains without them.

If the answer of a model breaks off and is requested again, the server sends a text chunk that
reports this, with the additional field ``retracts``. It retracts the chunks of the broken attempt:
text chunks and tool call chunks whose ``source`` is ``main`` or ``thinking``. All other events in
the range, such as file changes, remain. In the events of a task ``retracts`` is ``[first_seq,
last_seq]``; on the agent WebSocket and in the output of a program it is the number of preceding
messages. Clients that do not know the field show the text of the chunk.

Source: docs/reference/wire.md, "Retracted text".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

E = TypeVar("E")

_RETRACTABLE_TYPES: Final = frozenset({"AGENT_EVENT_TEXT_CHUNK", "AGENT_EVENT_TOOL_CALL_CHUNK"})
_RETRACTABLE_SOURCES: Final = frozenset({"main", "thinking"})
_BOUNDARIES: Final = frozenset(
    {"AGENT_EVENT_TOOL_RESULT", "AGENT_EVENT_END", "ERROR", "USER_MESSAGE", "TASK_STATUS"}
)
"""Types of events that never occur within an attempt at an answer."""


def retracted_range(event: object) -> tuple[int, int] | None:
    """Return the first and last ``seq`` that an event retracts; ``None`` if it retracts none."""
    match event_field(event, "retracts"):
        case [int(first), int(last)] if 0 < first <= last:
            return first, last
    return None


def retracted_count(event: object) -> int:
    """Return the number of preceding messages that an agent's message retracts; usually 0."""
    count = event_field(event, "retracts")
    return count if type(count) is int and count > 0 else 0  # not a bool


def is_retractable(event: object) -> bool:
    """Return True if the event can be retracted."""
    return (
        event_field(event, "type") in _RETRACTABLE_TYPES
        and event_field(event, "source", "main") in _RETRACTABLE_SOURCES
    )


def ends_attempt(event: object) -> bool:
    """Return True if the events before this one can no longer be retracted."""
    return event_field(event, "type") in _BOUNDARIES


def without_retracted(events: Iterable[E]) -> Iterator[E]:
    """Yield events without the retracted ones and without those that retract them.

    Events are held back until no later event can retract them: until the end of an answer, or
    the result of a tool call.

    Args:
        events: Events of a task as dictionaries, or messages of an agent.
    """
    pending: deque[E] = deque()
    for event in events:
        if (span := retracted_range(event)) is not None:
            first, last = span
            pending = deque(
                earlier
                for earlier in pending
                if not (is_retractable(earlier) and first <= event_field(earlier, "seq", 0) <= last)
            )
        elif count := retracted_count(event):
            kept = len(pending) - count
            pending = deque(
                earlier
                for index, earlier in enumerate(pending)
                if index < kept or not is_retractable(earlier)
            )
        else:
            pending.append(event)
        if ends_attempt(event):
            yield from pending
            pending.clear()
        while pending and not is_retractable(pending[0]):
            yield pending.popleft()
    yield from pending


def answer_text(events: Iterable[object]) -> str:
    """Return the text of an answer without its retracted parts.

    Args:
        events: Events of a task as dictionaries, or messages of an agent.
    """
    return "".join(
        str(event_field(event, "text", ""))
        for event in without_retracted(events)
        if event_field(event, "type") == "AGENT_EVENT_TEXT_CHUNK"
        and event_field(event, "source", "main") == "main"
    )


def event_field(event: object, name: str, default: Any = None) -> Any:
    """Return a field of an event, which is a dictionary or a pydantic model."""
    if isinstance(event, Mapping):
        return event.get(name, default)
    return getattr(event, name, default)
