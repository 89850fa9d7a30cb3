"""Retraction of pieces of an answer, and the text that remains.

When a model's answer breaks off and is requested again, the server sends a text chunk that states
this, with the additional field ``retracts``. The pieces of the broken attempt are withdrawn: text
chunks and tool call chunks whose ``source`` is ``main`` or ``thinking``. Everything else in the
range, such as changes of files, stays. In the events of a task ``retracts`` is ``[first_seq,
last_seq]``; on the agent WebSocket and in the output of a program it is the number of preceding
messages. Clients that do not know the field show the text of the chunk.

Source: docs/wire.md, "Retracted text".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

E = TypeVar("E")

_PIECES: Final = frozenset({"AGENT_EVENT_TEXT_CHUNK", "AGENT_EVENT_TOOL_CALL_CHUNK"})
_SOURCES: Final = frozenset({"main", "thinking"})
_BOUNDARIES: Final = frozenset(
    {"AGENT_EVENT_TOOL_RESULT", "AGENT_EVENT_END", "ERROR", "USER_MESSAGE", "TASK_STATUS"}
)
"""Events that no attempt at an answer contains."""


def retracted_range(event: object) -> tuple[int, int] | None:
    """Return the first and the last ``seq`` that an event of a task retracts, if it does."""
    match field(event, "retracts"):
        case [int(first), int(last)] if 0 < first <= last:
            return first, last
    return None


def retracted_count(event: object) -> int:
    """Return how many of the messages before it an agent's message retracts; 0 for none."""
    count = field(event, "retracts")
    return count if type(count) is int and count > 0 else 0  # not a bool


def is_piece(event: object) -> bool:
    """Return whether an event is one that can be retracted."""
    return field(event, "type") in _PIECES and field(event, "source", "main") in _SOURCES


def ends_attempt(event: object) -> bool:
    """Return whether nothing before an event can be retracted after it."""
    return field(event, "type") in _BOUNDARIES


def without_retracted(events: Iterable[E]) -> Iterator[E]:
    """Yield events without the retracted ones, and without those that retract them.

    Events are yielded when nothing that follows can retract them: at the end of an answer, or
    at the result of a tool.

    Args:
        events: Events of a task as dictionaries, or messages of an agent.
    """
    waiting: deque[E] = deque()
    for event in events:
        if (span := retracted_range(event)) is not None:
            first, last = span
            waiting = deque(
                one
                for one in waiting
                if not (is_piece(one) and first <= field(one, "seq", 0) <= last)
            )
        elif count := retracted_count(event):
            kept = len(waiting) - count
            waiting = deque(
                one for index, one in enumerate(waiting) if index < kept or not is_piece(one)
            )
        else:
            waiting.append(event)
        if ends_attempt(event):
            yield from waiting
            waiting.clear()
        while waiting and not is_piece(waiting[0]):
            yield waiting.popleft()
    yield from waiting


def answer_text(events: Iterable[object]) -> str:
    """Return the text of an answer, without what was retracted.

    Args:
        events: Events of a task as dictionaries, or messages of an agent.
    """
    return "".join(
        str(field(event, "text", ""))
        for event in without_retracted(events)
        if field(event, "type") == "AGENT_EVENT_TEXT_CHUNK"
        and field(event, "source", "main") == "main"
    )


def field(event: object, name: str, default: Any = None) -> Any:
    """Return a field of an event, which is a dictionary or a model with additional fields."""
    if isinstance(event, Mapping):
        return event.get(name, default)
    return getattr(event, name, default)
