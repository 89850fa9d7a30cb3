"""Events of a task: a TypedDict for each ``type``, joined in the union ``TaskEvent``.

Events are plain dictionaries. Type checkers narrow them by ``type``::

    for update in client.stream_task_updates(task_id):
        if update["type"] == "AGENT_EVENT_TEXT_CHUNK":
            print(update["text"], end="")

Servers may send types that are newer than this version. For a type checker such an event is an
``OtherEvent``, whose ``type`` has the placeholder ``"(other)"``: a plain ``str`` would prevent
the narrowing of the union. At runtime ``type`` contains the name that the
server sent. To compare it with a name that is not listed here, use
``str(update["type"]) == "NEW_TYPE"``, and read the fields of ``dict(update)``.

The fields are not checked at runtime, so that unusual events reach the caller unchanged. Other
servers may send null for an optional field; it stands for the default.

Source: the agent WebSocket API page; the BeRay API v1 wire page, "The stream".
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic asks for this one below Python 3.12

TaskStatus = Literal["QUEUED", "RUNNING", "INPUT_REQUIRED", "COMPLETED", "FAILED", "STOPPED"]


class EventEnvelope(TypedDict):
    """Fields of every event of a task. Servers of other projects may leave them out."""

    seq: NotRequired[int]
    task_id: NotRequired[int]
    created_at: NotRequired[str]


class TextChunkEvent(EventEnvelope):
    """A piece of the answer (``source`` is ``main``), or of a tool's output."""

    type: Literal["AGENT_EVENT_TEXT_CHUNK"]
    text: str
    source: NotRequired[str | None]
    retracts: NotRequired[list[int]]
    """``[first_seq, last_seq]``: the text and tool call chunks of ``main`` and ``thinking`` in this
    range are withdrawn. See ``beray.answer_text``."""


class ToolCallChunkEvent(EventEnvelope):
    """A piece of a tool call; ``tool_name`` usually comes with the first piece only."""

    type: Literal["AGENT_EVENT_TOOL_CALL_CHUNK"]
    tool_name: NotRequired[str | None]
    args_chunk: NotRequired[str | None]
    source: NotRequired[str | None]


class ToolResultEvent(EventEnvelope):
    """The result of a tool call; ``result`` is any JSON."""

    type: Literal["AGENT_EVENT_TOOL_RESULT"]
    tool_name: str
    result: NotRequired[Any]
    source: NotRequired[str | None]


class CustomUpdateEvent(EventEnvelope):
    """Progress, or other information in ``payload``."""

    type: Literal["AGENT_EVENT_CUSTOM_UPDATE"]
    payload: dict[str, Any]
    source: NotRequired[str | None]


class SendFileEvent(EventEnvelope):
    """A file for the user; ``path`` is relative to the work_dir."""

    type: Literal["AGENT_EVENT_SEND_FILE"]
    path: str


class EndEvent(EventEnvelope):
    """The answer is complete."""

    type: Literal["AGENT_EVENT_END"]
    tokens_used: NotRequired[int | None]


class ErrorEvent(EventEnvelope):
    """An error of the agent."""

    type: Literal["ERROR"]
    code: str
    details: str


class UserMessageEvent(EventEnvelope):
    """A message of the user; ``attachments`` are paths relative to the work_dir."""

    type: Literal["USER_MESSAGE"]
    text: str
    attachments: NotRequired[list[str] | None]


class TaskStatusEvent(EventEnvelope):
    """A new status. A terminal one is the last event of its task."""

    type: Literal["TASK_STATUS"]
    status: TaskStatus | str
    reason: NotRequired[str | None]


class OtherEvent(EventEnvelope):
    """An event of a type that this version does not know."""

    type: Literal["(other)"]


TaskEvent = (
    TextChunkEvent
    | ToolCallChunkEvent
    | ToolResultEvent
    | CustomUpdateEvent
    | SendFileEvent
    | EndEvent
    | ErrorEvent
    | UserMessageEvent
    | TaskStatusEvent
    | OtherEvent
)
"""One event of a task."""
