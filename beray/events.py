"""The one event vocabulary: what agents say, what tasks record, what watchers read.

Each model is the body of one event ``type``. An event of a task is such a body in
an envelope of ``seq``, ``task_id`` and ``created_at``. Unknown fields are kept, so
that an older reader hands on what a newer writer said. Other servers send null for
optional fields; null stands for the default.

Source: the agent WebSocket API page; ``TASK_STATUS`` is this project's own.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    TypeAdapter,
    model_validator,
)


class EServerMessage(StrEnum):
    """Types of messages of an agent's server. The names are published."""

    STATUS = "STATUS"
    ERROR = "ERROR"
    GRACEFUL_DISCONNECT = "GRACEFUL_DISCONNECT"
    AGENT_EVENT_TEXT_CHUNK = "AGENT_EVENT_TEXT_CHUNK"
    AGENT_EVENT_TOOL_CALL_CHUNK = "AGENT_EVENT_TOOL_CALL_CHUNK"
    AGENT_EVENT_TOOL_RESULT = "AGENT_EVENT_TOOL_RESULT"
    AGENT_EVENT_CUSTOM_UPDATE = "AGENT_EVENT_CUSTOM_UPDATE"
    AGENT_EVENT_SEND_FILE = "AGENT_EVENT_SEND_FILE"
    AGENT_EVENT_END = "AGENT_EVENT_END"


class EClientMessage(StrEnum):
    """Types of messages of an agent's client. The name is published."""

    USER_MESSAGE = "USER_MESSAGE"


class _Event(BaseModel):
    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _replace_null_by_the_default(cls, data: Any) -> Any:
        if not isinstance(data, dict) or None not in data.values():
            return data
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {
            name: value for name, value in data.items() if value is not None or name not in optional
        }


class _Sourced(_Event):
    source: str = "main"


class MsgEventTextChunk(_Sourced):
    """A piece of the answer, or of a tool's output."""

    type: Literal[EServerMessage.AGENT_EVENT_TEXT_CHUNK] = EServerMessage.AGENT_EVENT_TEXT_CHUNK
    text: str


class MsgEventToolCallChunk(_Sourced):
    """The agent is calling a tool; ``tool_name`` usually comes in the first chunk only."""

    type: Literal[EServerMessage.AGENT_EVENT_TOOL_CALL_CHUNK] = (
        EServerMessage.AGENT_EVENT_TOOL_CALL_CHUNK
    )
    tool_name: str | None = None
    args_chunk: str = ""


class MsgEventToolResult(_Sourced):
    """A tool answered; ``result`` is any JSON."""

    type: Literal[EServerMessage.AGENT_EVENT_TOOL_RESULT] = EServerMessage.AGENT_EVENT_TOOL_RESULT
    tool_name: str = ""
    result: JsonValue = None


class MsgEventCustomUpdate(_Sourced):
    """Progress, or anything else."""

    type: Literal[EServerMessage.AGENT_EVENT_CUSTOM_UPDATE] = (
        EServerMessage.AGENT_EVENT_CUSTOM_UPDATE
    )
    payload: dict[str, Any] = Field(default_factory=dict)


class MsgEventSendFile(_Event):
    """The agent hands a file to the user; ``path`` is relative to the work_dir."""

    type: Literal[EServerMessage.AGENT_EVENT_SEND_FILE] = EServerMessage.AGENT_EVENT_SEND_FILE
    path: str


class MsgEventEnd(_Event):
    """The answer is complete."""

    type: Literal[EServerMessage.AGENT_EVENT_END] = EServerMessage.AGENT_EVENT_END
    tokens_used: int = 0


class MsgError(_Event):
    """The request failed."""

    type: Literal[EServerMessage.ERROR] = EServerMessage.ERROR
    code: str
    details: str = ""


class TaskStatusChanged(_Event):
    """The task has a new status. A terminal one is the last event of its task."""

    type: Literal["TASK_STATUS"] = "TASK_STATUS"
    status: str
    reason: str | None = None


class MsgUserMessage(_Event):
    """What a user says to an agent; attachments are paths relative to ``/workspace``."""

    type: Literal[EClientMessage.USER_MESSAGE] = EClientMessage.USER_MESSAGE
    text: str
    attachments: list[str] = Field(default_factory=list)


Event = Annotated[
    MsgEventTextChunk
    | MsgEventToolCallChunk
    | MsgEventToolResult
    | MsgEventCustomUpdate
    | MsgEventSendFile
    | MsgEventEnd
    | MsgError
    | MsgUserMessage
    | TaskStatusChanged,
    Field(discriminator="type"),
]

EVENT: TypeAdapter[Event] = TypeAdapter(Event)


AgentEventUnion = (
    MsgEventTextChunk
    | MsgEventToolCallChunk
    | MsgEventToolResult
    | MsgEventCustomUpdate
    | MsgEventSendFile
    | MsgEventEnd
)
"""The events of an answer, up to its end."""


class MsgStatus(_Event):
    """The first frame of a WebSocket with an agent: it is there."""

    type: Literal[EServerMessage.STATUS] = EServerMessage.STATUS


class MsgGracefulDisconnect(_Event):
    """The agent's server is going away."""

    type: Literal[EServerMessage.GRACEFUL_DISCONNECT] = EServerMessage.GRACEFUL_DISCONNECT


class MsgUnknown(_Event):
    """A message of a type that this version does not know, with all its fields."""

    type: str


_KNOWN: frozenset[str] = frozenset(EServerMessage)


def _kind(message: object) -> str | None:
    said = message.get("type") if isinstance(message, dict) else getattr(message, "type", None)
    if not isinstance(said, str):
        return None
    return said if said in _KNOWN else "unknown"


AnyServerMessage = Annotated[
    Annotated[MsgStatus, Tag("STATUS")]
    | Annotated[MsgGracefulDisconnect, Tag("GRACEFUL_DISCONNECT")]
    | Annotated[MsgEventTextChunk, Tag("AGENT_EVENT_TEXT_CHUNK")]
    | Annotated[MsgEventToolCallChunk, Tag("AGENT_EVENT_TOOL_CALL_CHUNK")]
    | Annotated[MsgEventToolResult, Tag("AGENT_EVENT_TOOL_RESULT")]
    | Annotated[MsgEventCustomUpdate, Tag("AGENT_EVENT_CUSTOM_UPDATE")]
    | Annotated[MsgEventSendFile, Tag("AGENT_EVENT_SEND_FILE")]
    | Annotated[MsgEventEnd, Tag("AGENT_EVENT_END")]
    | Annotated[MsgError, Tag("ERROR")]
    | Annotated[MsgUnknown, Tag("unknown")],
    Discriminator(_kind),
]
ServerMessage: TypeAdapter[AnyServerMessage] = TypeAdapter(AnyServerMessage)
"""Whatever an agent's server sends; ``ServerMessage.validate_json(frame)``."""

ClientMessage: TypeAdapter[MsgUserMessage] = TypeAdapter(MsgUserMessage)
"""Whatever a client of an agent sends."""
