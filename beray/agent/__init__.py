"""Talking with an agent over its WebSocket.

``AgentApi`` is one conversation; ``SyncAgentApi`` the same for scripts without an event
loop; ``ConnectionPool`` many conversations, each opened when it is needed. The messages
are the models of ``beray.events``. Needs the extra ``agent``.

Source: the agent WebSocket API page.
"""

from beray.agent.answer import Answer
from beray.agent.api import AgentApi
from beray.agent.exceptions import AgentBusyException, AgentException
from beray.agent.pool import ConnectionPool
from beray.agent.sync import SyncAgentApi, SyncAnswer
from beray.events import (
    AnyServerMessage,
    ClientMessage,
    MsgError,
    MsgEventCustomUpdate,
    MsgEventEnd,
    MsgEventSendFile,
    MsgEventTextChunk,
    MsgEventToolCallChunk,
    MsgEventToolResult,
    MsgGracefulDisconnect,
    MsgStatus,
    MsgUnknown,
    MsgUserMessage,
    ServerMessage,
)

__all__ = [
    "AgentApi",
    "AgentBusyException",
    "AgentException",
    "Answer",
    "AnyServerMessage",
    "ClientMessage",
    "ConnectionPool",
    "MsgError",
    "MsgEventCustomUpdate",
    "MsgEventEnd",
    "MsgEventSendFile",
    "MsgEventTextChunk",
    "MsgEventToolCallChunk",
    "MsgEventToolResult",
    "MsgGracefulDisconnect",
    "MsgStatus",
    "MsgUnknown",
    "MsgUserMessage",
    "ServerMessage",
    "SyncAgentApi",
    "SyncAnswer",
]
