"""What can go wrong, as types.

``BeRayException`` is the root. ``APIError`` and what is below it are answers of
the server (the names are published in the BeRay API's documentation); the rest
says what kept an answer from arriving or from being usable. No exception carries
a credential, and every one can be pickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, overload


class BeRayException(Exception):
    """Base of everything this package raises on purpose.

    Attributes:
        method, path: the call, without its query; "" where there was none.
        status_code: the HTTP status of the answer, if there was one.
        error_detail: the ``detail`` of the answer: a string, or the list of a
            validation error; the first part of the body where it was not JSON.
        request_id: the server's ``X-Request-ID``, if it sent one.
    """

    def __init__(
        self,
        message: str = "",
        *,
        method: str = "",
        path: str = "",
        status_code: int | None = None,
        error_detail: Any = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.method = method
        self.path = path
        self.status_code = status_code
        self.error_detail = error_detail
        self.request_id = request_id

    def __reduce__(self) -> tuple[Any, ...]:
        # The default rebuilds with cls(*args), which keyword-only parameters defeat.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    cls: type[BeRayException], args: tuple[Any, ...], state: dict[str, Any]
) -> BeRayException:
    error = cls.__new__(cls, *args)
    error.args = args  # OSError, a base of WaitTimeout, does not set them in __new__
    error.__dict__.update(state)
    return error


class ConfigurationError(BeRayException):
    """A setting, a profile or an argument cannot be used; nothing was sent."""


class InvalidArgument(BeRayException, ValueError):
    """An argument that no server could take; nothing was sent."""


class APIError(BeRayException):
    """The server answered with an error; ``status_code`` is always set.

    Users' own tests construct it as ``APIError(404, "detail")``, the form of the published
    package. A subclass with a usual status also takes a message alone:
    ``AuthenticationError("wrong password")``.

    Attributes:
        retry_after: seconds the server asks to wait, if it said so.
        is_permanent: ``True`` if the server reports that repeating the call cannot help
            (``X-Should-Retry: false``), for example because its database is damaged.

    Raises:
        TypeError: No status was passed, and the class has no usual one.
    """

    status_code: int
    usual_status: ClassVar[int | None] = None
    """Status of an exception that is constructed without one."""

    @overload
    def __init__(
        self,
        message: str = "",
        error_detail: Any = None,
        *,
        status_code: int | None = None,
        retry_after: float | None = None,
        **call: Any,
    ) -> None: ...

    @overload
    def __init__(
        self,
        status: int,
        /,
        error_detail: Any = None,
        *,
        retry_after: float | None = None,
    ) -> None: ...

    def __init__(
        self,
        message: str | int = "",
        error_detail: Any = None,
        *,
        status_code: int | None = None,
        retry_after: float | None = None,
        is_permanent: bool = False,
        **call: Any,
    ) -> None:
        text = "" if isinstance(message, int) else message
        if isinstance(message, int):
            status_code = message
        elif status_code is None:
            status_code = self.usual_status
            error_detail = text or None if error_detail is None else error_detail
        if status_code is None:
            raise TypeError(
                f"{type(self).__name__} needs the status of the answer, as in "
                f'{type(self).__name__}(500, "detail")'
            )
        if not text:
            text = f"status {status_code}" + (f": {error_detail}" if error_detail else "")
        super().__init__(text, status_code=status_code, error_detail=error_detail, **call)
        self.retry_after = retry_after
        self.is_permanent = is_permanent


class AuthenticationError(APIError):
    """401 or 403: not signed in, the session has expired, or not allowed."""

    usual_status = 401


class NotFoundError(APIError):
    """404: it is not there, or it is somebody else's."""

    usual_status = 404


class ConflictError(APIError):
    """409: it exists already, or the state does not allow the call."""

    usual_status = 409


class UnprocessableEntityError(APIError):
    """422: the server understood the request and refuses what it says."""

    usual_status = 422


class RateLimitError(APIError):
    """429: too many requests; ``retry_after`` says how long to wait."""

    usual_status = 429


class InvalidResponseError(BeRayException):
    """The server answered with something that is not the documented shape.

    Attributes:
        body: the first part of what was received.
    """

    def __init__(self, message: str, *, body: str, **call: Any) -> None:
        super().__init__(message, **call)
        self.body = body


class ResponseTooLarge(InvalidResponseError):
    """The response is larger than the client accepts in memory; the rest was not read.

    Attributes:
        max_bytes: the limit, in bytes after decompression.
    """

    def __init__(self, message: str, *, max_bytes: int, **call: Any) -> None:
        super().__init__(message, body="", **call)
        self.max_bytes = max_bytes


class ConnectionFailed(BeRayException):
    """The server could not be reached, or the connection broke.

    Attributes:
        delivered: ``False`` where the request surely did not reach the server.
    """

    def __init__(self, message: str = "", *, delivered: bool = True, **call: Any) -> None:
        super().__init__(message, **call)
        self.delivered = delivered


class DeadlineExceeded(ConnectionFailed):
    """No answer within the time allowed."""


class OutcomeUnknown(ConnectionFailed):
    """A call that must not be made twice was sent, and its answer did not come.

    It may have been done or not: look before you make it again.
    """


class TaskFailed(BeRayException):
    """A task ended without success (``FAILED`` or ``STOPPED``).

    Attributes:
        task: the task with its events; a :class:`beray.schema.Task`.
        error: the ``details`` of its last ``ERROR`` event, if it has one.
    """

    def __init__(
        self, message: str, *, task: Mapping[str, Any], error: str | None = None, **call: Any
    ) -> None:
        super().__init__(message, **call)
        self.task = task
        self.error = error


class WaitTimeout(BeRayException, TimeoutError):
    """A task did not end within the ``timeout`` of ``wait`` or ``run``. It continues to run.

    Attributes:
        task_id: the task.
    """

    def __init__(self, message: str, *, task_id: int | str, **call: Any) -> None:
        super().__init__(message, **call)
        self.task_id = task_id


class StreamInterrupted(ConnectionFailed):
    """A stream broke and cannot be continued without losing events.

    Attributes:
        last_event_id: the id of the last event that was given, if it had one.
    """

    def __init__(self, message: str, *, last_event_id: str | None = None, **call: Any) -> None:
        super().__init__(message, **call)
        self.last_event_id = last_event_id


class StreamGapError(BeRayException):
    """The server left out events, twice; nothing is skipped in silence.

    Attributes:
        expected, received: the ``seq`` that had to come, and the one that came.
    """

    def __init__(self, message: str, *, expected: int, received: int, **call: Any) -> None:
        super().__init__(message, **call)
        self.expected = expected
        self.received = received


class TransferError(BeRayException):
    """A file could not be transferred whole; nothing was left under its final name."""


class TransferCancelled(TransferError):
    """The caller cancelled the transfer."""
