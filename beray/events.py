"""Models of the events of agents and tasks, and of the messages of the agent WebSocket.

Each model is the body of one event ``type``. The events of a task have the additional fields
``seq``, ``task_id`` and ``created_at``. Unknown fields are kept, so that older readers pass on the
fields of newer writers. Null in an optional field, which other servers send, stands for the
default.

Source: the agent WebSocket API page; ``TASK_STATUS`` is a BeRay extension.
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
    """Types of the messages that a server sends on the agent WebSocket. The names are published."""

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
    """Types of the messages that a client sends on the agent WebSocket. The name is published."""

    USER_MESSAGE = "USER_MESSAGE"


class _Event(BaseModel):
    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _replace_null_with_default(cls, data: Any) -> Any:
        if not isinstance(data, dict) or None not in data.values():
            return data
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {
            name: value for name, value in data.items() if value is not None or name not in optional
        }


class _EventWithSource(_Event):
    source: str = "main"


class MsgEventTextChunk(_EventWithSource):
    """Part of the answer, or of the output of a tool."""

    type: Literal[EServerMessage.AGENT_EVENT_TEXT_CHUNK] = EServerMessage.AGENT_EVENT_TEXT_CHUNK
    text: str


class MsgEventToolCallChunk(_EventWithSource):
    """Part of a tool call; ``tool_name`` is usually set only in the first one."""

    type: Literal[EServerMessage.AGENT_EVENT_TOOL_CALL_CHUNK] = (
        EServerMessage.AGENT_EVENT_TOOL_CALL_CHUNK
    )
    tool_name: str | None = None
    args_chunk: str = ""


class MsgEventToolResult(_EventWithSource):
    """Result of a tool call; ``result`` is any JSON."""

    type: Literal[EServerMessage.AGENT_EVENT_TOOL_RESULT] = EServerMessage.AGENT_EVENT_TOOL_RESULT
    tool_name: str = ""
    result: JsonValue = None


class MsgEventCustomUpdate(_EventWithSource):
    """Progress or other information in ``payload``."""

    type: Literal[EServerMessage.AGENT_EVENT_CUSTOM_UPDATE] = (
        EServerMessage.AGENT_EVENT_CUSTOM_UPDATE
    )
    payload: dict[str, Any] = Field(default_factory=dict)


class MsgEventSendFile(_Event):
    """File that the agent sends to the user; ``path`` is relative to the work_dir."""

    type: Literal[EServerMessage.AGENT_EVENT_SEND_FILE] = EServerMessage.AGENT_EVENT_SEND_FILE
    path: str


class MsgEventEnd(_Event):
    """End of the answer."""

    type: Literal[EServerMessage.AGENT_EVENT_END] = EServerMessage.AGENT_EVENT_END
    tokens_used: int = 0


class MsgError(_Event):
    """Error of the agent or of a request."""

    type: Literal[EServerMessage.ERROR] = EServerMessage.ERROR
    code: str
    details: str = ""


class TaskStatusChanged(_Event):
    """New status of a task. A terminal status is the last event of its task."""

    type: Literal["TASK_STATUS"] = "TASK_STATUS"
    status: str
    reason: str | None = None


class MsgUserMessage(_Event):
    """Message of a user to an agent; attachments are paths relative to ``/workspace``."""

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
"""Validator of events."""


AgentEventUnion = (
    MsgEventTextChunk
    | MsgEventToolCallChunk
    | MsgEventToolResult
    | MsgEventCustomUpdate
    | MsgEventSendFile
    | MsgEventEnd
)
"""Event of an answer."""


class MsgStatus(_Event):
    """First message of an agent WebSocket: the agent is ready."""

    type: Literal[EServerMessage.STATUS] = EServerMessage.STATUS


class MsgGracefulDisconnect(_Event):
    """The server is closing the connection."""

    type: Literal[EServerMessage.GRACEFUL_DISCONNECT] = EServerMessage.GRACEFUL_DISCONNECT


class MsgUnknown(_Event):
    """Message of a type that this version does not know, with all its fields."""

    type: str


_KNOWN_TYPES: frozenset[str] = frozenset(EServerMessage)


def _discriminator(message: object) -> str | None:
    if isinstance(message, dict):
        message_type = message.get("type")
    else:
        message_type = getattr(message, "type", None)
    if not isinstance(message_type, str):
        return None
    return message_type if message_type in _KNOWN_TYPES else "unknown"


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
    Discriminator(_discriminator),
]
ServerMessage: TypeAdapter[AnyServerMessage] = TypeAdapter(AnyServerMessage)
"""Validator of the messages of a server: ``ServerMessage.validate_json(frame)``."""

ClientMessage: TypeAdapter[MsgUserMessage] = TypeAdapter(MsgUserMessage)
"""Validator of the messages of a client."""
