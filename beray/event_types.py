"""TypedDicts of the events of a task, one for each ``type``, and their union ``TaskEvent``.

Events are plain dictionaries. Type checkers narrow them by ``type``::

    for update in client.stream_task_updates(task_id):
        if update["type"] == "AGENT_EVENT_TEXT_CHUNK":
            print(update["text"], end="")

Servers may send types that this version does not know. For a type checker such an event is an
``OtherEvent``, whose ``type`` is the placeholder ``"(other)"``, because a plain ``str`` would
prevent narrowing. At runtime ``type`` is the value that the server sent. To compare it with a type
that is not listed here, use ``str(update["type"]) == "NEW_TYPE"``, and read the fields of
``dict(update)``.

The fields are not validated at runtime, so that unusual events reach the caller unchanged. Null in
an optional field, which other servers may send, stands for the default.

Source: the agent WebSocket API page; the BeRay API v1 wire page, "The stream".
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # required by pydantic before Python 3.12

TaskStatus = Literal["QUEUED", "RUNNING", "INPUT_REQUIRED", "COMPLETED", "FAILED", "STOPPED"]


class EventEnvelope(TypedDict):
    """Fields of all events of a task. Other servers may omit them."""

    seq: NotRequired[int]
    """Position in the task: starts at 1, without gaps."""
    task_id: NotRequired[int]
    """Id of the task."""
    created_at: NotRequired[str]
    """Time, UTC, ISO 8601."""


class TextChunkEvent(EventEnvelope):
    """Part of the answer (``source`` is ``main``), or of the output of a tool."""

    type: Literal["AGENT_EVENT_TEXT_CHUNK"]
    text: str
    """Text, to be appended to the previous text of the same source."""
    source: NotRequired[str | None]
    """Origin: the answer (``main``), ``thinking``, or a tool. Default: ``main``."""
    call_id: NotRequired[str]
    """Id of the tool call whose output this is. BeRay extension."""
    retracts: NotRequired[list[int]]
    """``[first_seq, last_seq]``: range in which the text and tool call chunks of ``main`` and
    ``thinking`` are retracted. See ``beray.answer_text``. BeRay extension."""


class ToolCallChunkEvent(EventEnvelope):
    """Part of a tool call; ``tool_name`` is usually set only in the first one."""

    type: Literal["AGENT_EVENT_TOOL_CALL_CHUNK"]
    tool_name: NotRequired[str | None]
    """Name of the tool; usually only in the first chunk of a call."""
    args_chunk: NotRequired[str | None]
    """Part of the arguments; all chunks of a call together are JSON."""
    source: NotRequired[str | None]
    """Origin. Default: ``main``."""
    call_id: NotRequired[str]
    """Id of the tool call; distinguishes calls that run concurrently. BeRay extension."""


class ToolResultEvent(EventEnvelope):
    """Result of a tool call; ``result`` is any JSON."""

    type: Literal["AGENT_EVENT_TOOL_RESULT"]
    tool_name: str
    """Name of the tool."""
    result: NotRequired[Any]
    """Any JSON; ``{"error": "…"}`` if the tool failed."""
    source: NotRequired[str | None]
    """Origin. Default: ``main``."""
    call_id: NotRequired[str]
    """Id of the tool call; distinguishes calls that run concurrently. BeRay extension."""


class CustomUpdateEvent(EventEnvelope):
    """Progress or other information in ``payload``."""

    type: Literal["AGENT_EVENT_CUSTOM_UPDATE"]
    payload: dict[str, Any]
    """Object with the fields of its ``kind``."""
    source: NotRequired[str | None]
    """Origin. Default: ``main``."""


class SendFileEvent(EventEnvelope):
    """File for the user; ``path`` is relative to the work_dir."""

    type: Literal["AGENT_EVENT_SEND_FILE"]
    path: str
    """Path relative to the work_dir."""


class EndEvent(EventEnvelope):
    """End of the answer."""

    type: Literal["AGENT_EVENT_END"]
    tokens_used: NotRequired[int | None]
    """Tokens of the answer. Default: 0."""


class ErrorEvent(EventEnvelope):
    """Error of the agent."""

    type: Literal["ERROR"]
    code: str
    """Short name of the error."""
    details: str
    """Description."""


class UserMessageEvent(EventEnvelope):
    """Message of the user; ``attachments`` are paths relative to the work_dir."""

    type: Literal["USER_MESSAGE"]
    text: str
    """The message."""
    attachments: NotRequired[list[str] | None]
    """Paths relative to the work_dir."""


class TaskStatusEvent(EventEnvelope):
    """New status of the task. A terminal status is the last event of its task."""

    type: Literal["TASK_STATUS"]
    status: TaskStatus | str
    """New status."""
    reason: NotRequired[str | None]
    """Reason of the status, such as ``exit_code`` of ``FAILED``."""


class OtherEvent(EventEnvelope):
    """Event of a type that this version does not know."""

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
"""Event of a task."""


def is_verbatim_source(source: str) -> bool:
    """Return True if text of this source is shown verbatim: thoughts, stderr, and tool output.

    Other text is that of the agent, and may be Markdown.
    """
    return source.startswith("tools:") or source in ("thinking", "stderr")
