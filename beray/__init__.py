"""BeRay: AI tasks in workspaces.

``BeRayClient`` is the way in: one method for each call of the BeRay API.
Importing this package imports none of its parts: each is imported when its name is
first used, and the client costs requests and pydantic. The server, the command and the
dashboard live in modules of their own.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from beray.version import __version__

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from beray.exceptions import (
        APIError,
        AuthenticationError,
        BeRayException,
        ConfigurationError,
        ConflictError,
        ConnectionFailed,
        DeadlineExceeded,
        InvalidArgument,
        InvalidResponseError,
        NotFoundError,
        OutcomeUnknown,
        RateLimitError,
        ResponseTooLarge,
        StreamGapError,
        StreamInterrupted,
        TaskFailed,
        TransferCancelled,
        TransferError,
        UnprocessableEntityError,
        WaitTimeout,
    )
    from beray.gateway.client import GatewayClient
    from beray.streaming.retraction import answer_text, without_retracted
    from beray.streaming.streams import StreamState, TaskStream
    from beray.transfers.transfer import Transfer

__all__ = [
    "APIError",
    "AuthenticationError",
    "BeRayClient",
    "BeRayException",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailed",
    "DeadlineExceeded",
    "GatewayClient",
    "InvalidArgument",
    "InvalidResponseError",
    "NotFoundError",
    "OutcomeUnknown",
    "RateLimitError",
    "ResponseTooLarge",
    "StreamGapError",
    "StreamInterrupted",
    "StreamState",
    "TaskFailed",
    "TaskStream",
    "Transfer",
    "TransferCancelled",
    "TransferError",
    "UnprocessableEntityError",
    "WaitTimeout",
    "__version__",
    "answer_text",
    "without_retracted",
]

_ELSEWHERE = {
    "BeRayClient": "client",
    "GatewayClient": "gateway",
    "StreamState": "streaming.streams",
    "TaskStream": "streaming.streams",
    "Transfer": "transfers.transfer",
    "answer_text": "streaming.retraction",
    "without_retracted": "streaming.retraction",
}
"""The modules of the names that are no exceptions."""
_MODULES = (
    "client",
    "config",
    "events",
    "exceptions",
    "gateway",
    "schema",
)
"""Modules that ``import beray`` alone gives, as in ``beray.exceptions.APIError``."""

if not TYPE_CHECKING:  # a type checker is to see the names above and no others

    def __getattr__(name):
        if name in _MODULES:
            return import_module(f"beray.{name}")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import_module("beray.installation").require_whole()
        value = getattr(import_module(f"beray.{_ELSEWHERE.get(name, 'exceptions')}"), name)
        globals()[name] = value  # the next time it is found without this function
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
