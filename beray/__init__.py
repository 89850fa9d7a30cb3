"""BeRay: AI tasks in workspaces.

``BeRayClient`` is the client of the BeRay API, with one method for each endpoint. Importing this
package imports none of its modules: each is imported when its name is first used. The client
requires requests and pydantic; the server, the command and the dashboard are separate packages.
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
        TargetsExist,
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
    "TargetsExist",
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

_MODULE_OF_NAME = {
    "BeRayClient": "client",
    "GatewayClient": "gateway",
    "StreamState": "streaming.streams",
    "TaskStream": "streaming.streams",
    "Transfer": "transfers.transfer",
    "answer_text": "streaming.retraction",
    "without_retracted": "streaming.retraction",
}
"""Modules of the public names other than the exceptions."""
_SUBMODULES = (
    "client",
    "config",
    "events",
    "exceptions",
    "gateway",
    "schema",
)
"""Modules that are available after ``import beray``, as in ``beray.exceptions.APIError``."""

if not TYPE_CHECKING:  # so that type checkers see only the names above

    def __getattr__(name):
        if name in _SUBMODULES:
            return import_module(f"beray.{name}")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import_module("beray.installation").require_consistent()
        value = getattr(import_module(f"beray.{_MODULE_OF_NAME.get(name, 'exceptions')}"), name)
        globals()[name] = value  # later lookups do not call this function
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
