"""Clients of agents' WebSockets. Requires the extra ``agent``.

``AgentApi`` is an asynchronous client of one chat, ``SyncAgentApi`` a synchronous one.
``ConnectionPool`` manages the connections of many chats. The modules ``agent_api``, ``server`` and
``client`` have the names of the published package.

Source: the agent WebSocket API page.
"""

# ruff: noqa: E402 -- the checks report an incomplete installation before imports fail
from importlib.util import find_spec

from beray import installation

installation.require_consistent()
if find_spec("websockets") is None:
    raise ModuleNotFoundError(
        f"beray.agent needs the package websockets; {installation.how_to_install('agent')}",
        name="websockets",
    )

from beray.agent.agent_api import AgentApi
from beray.agent.exceptions import AgentBusyException, AgentException
from beray.agent.pool import ConnectionPool
from beray.agent.sync import SyncAgentApi, SyncAnswer
from beray.agent.turn import Answer
from beray.events import (
    AgentEventUnion,
    AnyServerMessage,
    ClientMessage,
    EClientMessage,
    EServerMessage,
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
    "AgentEventUnion",
    "AgentException",
    "Answer",
    "AnyServerMessage",
    "ClientMessage",
    "ConnectionPool",
    "EClientMessage",
    "EServerMessage",
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
