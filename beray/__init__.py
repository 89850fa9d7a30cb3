"""BeRay: AI tasks in workspaces.

``BeRayClient`` is the way in: one method for each call of the BeRay API.
Importing this package costs requests and pydantic; the server, the command and
the dashboard live in modules of their own and are imported where they are used.
"""

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
    StreamGapError,
    StreamInterrupted,
    TransferCancelled,
    TransferError,
    UnprocessableEntityError,
)
from beray.files import Transfer
from beray.streaming import StreamState, TaskStream
from beray.version import __version__

__all__ = [
    "APIError",
    "AuthenticationError",
    "BeRayClient",
    "BeRayException",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailed",
    "DeadlineExceeded",
    "InvalidArgument",
    "InvalidResponseError",
    "NotFoundError",
    "OutcomeUnknown",
    "RateLimitError",
    "StreamGapError",
    "StreamInterrupted",
    "StreamState",
    "TaskStream",
    "Transfer",
    "TransferCancelled",
    "TransferError",
    "UnprocessableEntityError",
    "__version__",
]
