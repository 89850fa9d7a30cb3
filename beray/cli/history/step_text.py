"""One line about the step after which a checkpoint was made, from the events before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from beray.cli.render import MAX_SUMMARY_CHARS, describe_call, summarize
from beray.client import BeRayClient
from beray.history_schema import Checkpoint
from beray.sanitize import one_line

_PAGE: Final = 500
"""Number of events per request."""
_BEFORE: Final = 50
"""Number of events before a step in which its tool call is searched."""


class StepTexts:
    """Texts about the steps of one task. Events are requested in pages, which steps share.

    Args:
        client: Client of the server.
        task_id: Id of the task.
    """

    def __init__(self, client: BeRayClient, task_id: int) -> None:
        self._client = client
        self._task_id = task_id
        self._events: Sequence[Mapping[str, Any]] = ()

    def text(self, checkpoint: Checkpoint) -> str:
        """Return one line about the step of a checkpoint, not yet sanitized; "" if unknown."""
        seq = checkpoint["seq"]
        if checkpoint.get("reason") != "step" or seq < 1:
            return ""  # the event before it has nothing to do with it
        index = self._index(seq)
        if index is None:
            after = max(seq - _BEFORE, 0)
            self._events = self._client.list_events(self._task_id, after=after, limit=_PAGE)
            index = self._index(seq)
        if index is None:
            return ""
        event = self._events[index]
        if event.get("type") == "AGENT_EVENT_TOOL_RESULT":
            return _call_text(event, self._events[:index])
        return one_line(summarize(event), MAX_SUMMARY_CHARS)

    def _index(self, seq: int) -> int | None:
        seqs = (number for number, event in enumerate(self._events) if event.get("seq") == seq)
        return next(seqs, None)


def _call_text(result: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> str:
    """Return the tool and the arguments of the call with this result."""
    name, call_id = str(result.get("tool_name")), result.get("call_id")
    pieces: list[str] = []
    for event in reversed(before):
        if event.get("type") != "AGENT_EVENT_TOOL_CALL_CHUNK" or event.get("call_id") != call_id:
            continue
        pieces.append(str(event.get("args_chunk") or ""))
        if event.get("tool_name"):
            break
    return describe_call(name, "".join(reversed(pieces)))
