"""What can go wrong, as types.

``BeRayException`` is the root. ``APIError`` and what is below it are answers of
the server (the names are published in the BeRay API's documentation); the rest
says what kept an answer from arriving or from being usable. No exception carries
a credential, and every one can be pickled.
"""

from __future__ import annotations

from typing import Any


class BeRayException(Exception):
    """Base of everything this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default rebuilds with cls(*args), which keyword-only parameters defeat.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    cls: type[BeRayException], args: tuple[Any, ...], state: dict[str, Any]
) -> BeRayException:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


class ConfigurationError(BeRayException):
    """A setting, a profile or an argument cannot be used; nothing was sent."""


class InvalidArgument(BeRayException, ValueError):
    """An argument that no server could take; nothing was sent."""


class APIError(BeRayException):
    """The server answered with an error.

    Attributes:
        status_code: the HTTP status.
        error_detail: the ``detail`` of the answer: a string, or the list of a
            validation error; the first part of the body where it was not JSON.
        method, path: the call, without its query.
        request_id: the server's ``X-Request-ID``, if it sent one.
        retry_after: seconds the server asks to wait, if it said so.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        error_detail: Any = None,
        method: str = "",
        path: str = "",
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.error_detail = error_detail
        self.method = method
        self.path = path
        self.request_id = request_id
        self.retry_after = retry_after


class AuthenticationError(APIError):
    """401 or 403: not signed in, the session has expired, or not allowed."""


class NotFoundError(APIError):
    """404: it is not there, or it is somebody else's."""


class ConflictError(APIError):
    """409: it exists already, or the state does not allow the call."""


class UnprocessableEntityError(APIError):
    """422: the server understood the request and refuses what it says."""


class RateLimitError(APIError):
    """429: too many requests; ``retry_after`` says how long to wait."""


class InvalidResponseError(BeRayException):
    """The server answered with something that is not the documented shape.

    Attributes:
        body: the first part of what was received.
        status_code: the HTTP status, where there was a response.
    """

    def __init__(self, message: str, *, body: str, status_code: int | None = None) -> None:
        super().__init__(message)
        self.body = body
        self.status_code = status_code


class ConnectionFailed(BeRayException):
    """The server could not be reached, or the connection broke."""


class DeadlineExceeded(ConnectionFailed):
    """No answer within the time allowed."""


class StreamInterrupted(ConnectionFailed):
    """A stream broke and cannot be continued without losing events.

    Attributes:
        last_event_id: the id of the last event that was given, if it had one.
    """

    def __init__(self, message: str, *, last_event_id: str | None = None) -> None:
        super().__init__(message)
        self.last_event_id = last_event_id


class StreamGapError(BeRayException):
    """The server left out events, twice; nothing is skipped in silence.

    Attributes:
        expected, received: the ``seq`` that had to come, and the one that came.
    """

    def __init__(self, message: str, *, expected: int, received: int) -> None:
        super().__init__(message)
        self.expected = expected
        self.received = received


class TransferError(BeRayException):
    """A file could not be transferred whole; nothing was left under its final name."""


class TransferCancelled(TransferError):
    """The caller cancelled the transfer."""
