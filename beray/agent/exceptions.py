"""Exceptions of the agent client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from beray.exceptions import BeRayException


class AgentException(BeRayException):
    """The agent reported an error, or the connection failed.

    Remedy: read ``code`` and ``details``. Unless ``lasting`` is True, connect again and repeat the
    message.

    Attributes:
        code: Code that the agent sent, or one of the client's codes: ``TIMEOUT``,
            ``INVALID_STATUS``, ``UNEXPECTED_MSG_TYPE``, ``CONNECTION_ERROR``, ``NOT_CONNECTED``,
            ``PARSE_ERROR``.
        details: Description of the error.
        events: Events of the interrupted answer that arrived before the error, in order.
        lasting: True if trying again certainly does not help.
        status_code: HTTP status of a rejected handshake, otherwise None.
    """

    def __init__(
        self,
        code: str,
        details: str = "",
        *,
        events: Sequence[Any] = (),
        lasting: bool = False,
        **context: Any,
    ) -> None:
        super().__init__(f"{code}: {details}" if details else code, **context)
        self.code = code
        self.details = details
        self.events = list(events)
        self.lasting = lasting


class AgentBusyException(AgentException):
    """Another client is connected to the chat, or an answer is in progress on this connection.

    Tests of users construct it without arguments, or with a message.

    Remedy: wait for the end of the answer, close the other connection, or use another chat.
    """

    def __init__(self, details: str = "", **context: Any) -> None:
        super().__init__("BUSY", details, **context)
