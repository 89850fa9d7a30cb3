"""What can go wrong between a client and an agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from beray.exceptions import BeRayException


class AgentException(BeRayException):
    """The agent said an error, or the way to it is broken.

    Attributes:
        code: the agent's own, or one of the client's: ``TIMEOUT``, ``INVALID_STATUS``,
            ``UNEXPECTED_MSG_TYPE``, ``CONNECTION_ERROR``, ``NOT_CONNECTED``, ``PARSE_ERROR``.
        details: what happened, in words.
        events: what had come of the answer that it broke off, in order.
        lasting: whether it is sure that trying again does not help.
        status_code: the HTTP status that the handshake was answered with, if it was refused.
    """

    def __init__(
        self,
        code: str,
        details: str = "",
        *,
        events: Sequence[Any] = (),
        lasting: bool = False,
        **said: Any,
    ) -> None:
        super().__init__(f"{code}: {details}" if details else code, **said)
        self.code = code
        self.details = details
        self.events = list(events)
        self.lasting = lasting


class AgentBusyException(AgentException):
    """Another client has the chat, or an answer is under way on this connection.

    Users' own tests construct it without arguments, or with a message.
    """

    def __init__(self, details: str = "", **said: Any) -> None:
        super().__init__("BUSY", details, **said)
