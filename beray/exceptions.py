"""Exceptions of the BeRay library.

``BeRayException`` is the base class. ``APIError`` and its subclasses stand for error responses;
their names are published in the documentation of the BeRay API. The other exceptions stand for
responses that did not arrive or are unusable. No exception contains a credential, and all of them
can be pickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self, overload

_MAX_LISTED_PATHS: Final = 10


class BeRayException(Exception):
    """Base class of the exceptions of this package.

    Attributes:
        method: Method of the request; "" if there was none.
        path: Path of the request without its query; "" if there was none.
        reason: The message without the request; the whole message if it does not name one.
        status_code: HTTP status of the response, if there was one.
        error_detail: ``detail`` of the response: a string, or the list of a validation error; the
            first part of the body if it was not JSON.
        request_id: ``X-Request-ID`` of the response, if it had one.
    """

    def __init__(
        self,
        message: str = "",
        *,
        reason: str | None = None,
        method: str = "",
        path: str = "",
        status_code: int | None = None,
        error_detail: Any = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = message if reason is None else reason
        self.method = method
        self.path = path
        self.status_code = status_code
        self.error_detail = error_detail
        self.request_id = request_id

    @classmethod
    def for_request(cls, method: str, path: str, reason: str, **fields: Any) -> Self:
        """Return the exception for a failed request; its message names the request.

        Args:
            method: Method of the request; "" names only the path, for streams.
            path: Path of the request without its query.
            reason: Reason of the failure.
            fields: Other keyword arguments of the class.
        """
        request = f"{method} {path}" if method else path
        return cls(f"{request}: {reason}", reason=reason, method=method, path=path, **fields)

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls cls(*args), which fails for keyword-only parameters.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    cls: type[BeRayException], args: tuple[Any, ...], state: dict[str, Any]
) -> BeRayException:
    error = cls.__new__(cls, *args)
    error.args = args  # OSError, a base of WaitTimeout, does not set them in __new__
    error.__dict__.update(state)
    return error


class ConfigurationError(BeRayException):
    """A setting, a profile or an argument is unusable. No request was sent.

    Remedy: correct the option, variable or profile that the message names.
    """


class InvalidArgument(BeRayException, ValueError):
    """An argument has an invalid type or value. No request was sent.

    Remedy: correct the argument that the message names.
    """


class APIError(BeRayException):
    """The server returned an error response; ``status_code`` is always set.

    Tests of users construct it as ``APIError(404, "detail")``, the form of the published package.
    Subclasses with a usual status also accept only a message:
    ``AuthenticationError("wrong password")``.

    Remedy: read ``reason`` and ``status_code``. Statuses without a class of their own are 400, 413,
    507 (the request does not fit), and 5xx (the server failed; try again later unless
    ``is_permanent`` is True).

    Attributes:
        retry_after: ``Retry-After`` of the response in seconds, if it had one.
        is_permanent: True if the server reports that repeating the request cannot succeed
            (``X-Should-Retry: false``), for example because its database is damaged.

    Raises:
        TypeError: No status was passed, and the class has no usual status.
    """

    status_code: int
    usual_status: ClassVar[int | None] = None
    """Status of an instance that is constructed without one."""

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
                f"{type(self).__name__} needs the status of the response, as in "
                f'{type(self).__name__}(500, "detail")'
            )
        if not text:
            text = f"status {status_code}" + (f": {error_detail}" if error_detail else "")
        super().__init__(text, status_code=status_code, error_detail=error_detail, **call)
        self.retry_after = retry_after
        self.is_permanent = is_permanent


class AuthenticationError(APIError):
    """401 or 403: not signed in, the session has expired, or the action is not permitted.

    Remedy: sign in again (``login()``, ``beray login``), or pass a valid ``token``.
    """

    usual_status = 401


class NotFoundError(APIError):
    """404: the resource does not exist, or belongs to another user.

    Remedy: check the id or path, and the account that the client uses.
    """

    usual_status = 404


class ConflictError(APIError):
    """409: the resource already exists, or its state does not permit the action.

    Remedy: read the current state (``get_task()``) and decide again.
    """

    usual_status = 409


class UnprocessableEntityError(APIError):
    """422: a value in the request is invalid.

    Remedy: correct the value; ``error_detail`` contains its position.
    """

    usual_status = 422


class RateLimitError(APIError):
    """429: too many requests; ``retry_after`` is the time to wait.

    Remedy: wait ``retry_after`` seconds, and send fewer requests at the same time.
    """

    usual_status = 429


class InvalidResponseError(BeRayException):
    """The response does not have the documented form.

    Remedy: check that the URL is that of a BeRay server, and not of a proxy or another service;
    ``body`` shows what it sent.

    Attributes:
        body: First part of the response; "" if it may contain a secret.
    """

    def __init__(self, message: str, *, body: str, **call: Any) -> None:
        super().__init__(message, **call)
        self.body = body


class ResponseTooLarge(InvalidResponseError):
    """The response exceeds the client's limit; the rest was not read.

    Remedy: request a page or write to a file instead, or raise ``max_json_bytes`` or
    ``max_memory_bytes`` of the client.

    Attributes:
        max_bytes: The limit, in bytes after decompression.
    """

    def __init__(self, message: str, *, max_bytes: int, **call: Any) -> None:
        super().__init__(message, body="", **call)
        self.max_bytes = max_bytes


class ConnectionFailed(BeRayException):
    """The server could not be reached, or the connection broke.

    Remedy: check the URL, the network and that the server runs. If ``delivered`` is False, the call
    can be repeated.

    Attributes:
        delivered: False if the request certainly did not reach the server.
    """

    def __init__(self, message: str = "", *, delivered: bool = True, **call: Any) -> None:
        super().__init__(message, **call)
        self.delivered = delivered


class DeadlineExceeded(ConnectionFailed):
    """There was no complete response within the deadline.

    Remedy: repeat the call with a longer ``timeout`` if its repetition is harmless.
    """


class OutcomeUnknown(ConnectionFailed):
    """A request that must not be repeated was sent, and its response did not arrive.

    The server may have processed it; check its effect before repeating it.

    Remedy: look for the effect of the request, for example with ``list_tasks()``, and repeat it
    only if there is none.
    """


class TaskFailed(BeRayException):
    """A task ended without success (``FAILED`` or ``STOPPED``).

    Remedy: read ``error`` and the ``reason`` of the task, and create a new task.

    Attributes:
        task: The task with its events; a :class:`beray.schema.Task`.
        error: ``details`` of its last ``ERROR`` event, if it has one.
    """

    def __init__(
        self, message: str, *, task: Mapping[str, Any], error: str | None = None, **call: Any
    ) -> None:
        super().__init__(message, **call)
        self.task = task
        self.error = error


class WaitTimeout(BeRayException, TimeoutError):
    """A task did not end within the ``timeout`` of ``wait`` or ``run``. It continues to run.

    Remedy: wait again with ``wait(task_id)``, or stop the task with ``stop_task(task_id)``.

    Attributes:
        task_id: Id of the task.
    """

    def __init__(self, message: str, *, task_id: int | str, **call: Any) -> None:
        super().__init__(message, **call)
        self.task_id = task_id


class StreamInterrupted(ConnectionFailed):
    """A stream broke and cannot be continued without losing events.

    Remedy: call the method again with ``last_event_id`` once the server is reachable.

    Attributes:
        last_event_id: Id of the last event that was yielded, if it had one.
    """

    def __init__(self, message: str, *, last_event_id: str | None = None, **call: Any) -> None:
        super().__init__(message, **call)
        self.last_event_id = last_event_id


class StreamGapError(BeRayException):
    """The server omitted events, also after a reconnection. Events are never skipped silently.

    Remedy: read the task anew with ``list_events()``, and report the problem to the operator of the
    server or of the proxy before it.

    Attributes:
        expected: ``seq`` of the missing event.
        received: ``seq`` of the event that was received instead.
    """

    def __init__(self, message: str, *, expected: int, received: int, **call: Any) -> None:
        super().__init__(message, **call)
        self.expected = expected
        self.received = received


class TransferError(BeRayException):
    """A file could not be transferred completely; nothing exists under its final name.

    Remedy: repeat the transfer; a download continues where it broke off.
    """


class TransferCancelled(TransferError):
    """The caller cancelled the transfer.

    Remedy: none is needed; a repeated download continues where it broke off.
    """


class TargetsExist(FileExistsError):
    """A download would replace local files, and ``overwrite`` is False.

    Remedy: choose another directory, or pass ``overwrite=True``.

    Attributes:
        paths: The existing files.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = tuple(paths)
        super().__init__(f"{self.reason}; pass overwrite=True to replace")

    @property
    def reason(self) -> str:
        """The message without its advice, which applies to the library only."""
        if len(self.paths) == 1:
            return f"{self.paths[0]} already exists"
        more = len(self.paths) - _MAX_LISTED_PATHS
        names = ", ".join(self.paths[:_MAX_LISTED_PATHS])
        return f"{names}{f' and {more} more' if more > 0 else ''} already exist"

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with the message.
        return type(self), (self.paths,)
