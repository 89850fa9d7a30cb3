"""Retry policy for HTTP requests, and the requests it applies to.

A request that certainly was not processed is always retried. A request that may have been
processed is retried only if repeating it has no additional effect: GET, HEAD, PUT and DELETE
(RFC 9110, 9.2.2), or POST with an ``Idempotency-Key`` that the server honours.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin

import requests

from beray.config import origin
from beray.exceptions import (
    APIError,
    BeRayException,
    ConnectionFailed,
    InvalidResponseError,
    OutcomeUnknown,
)
from beray.http.response_body import BodyLimit

Timeout = tuple[float, float]
"""Seconds to connect, and seconds without a received byte while reading."""
MAX_RETRIES: Final = 3
MAX_RETRY_AFTER_SECONDS: Final = 60.0
"""Longer ``Retry-After`` values are treated as a final failure."""
_INITIAL_BACKOFF_SECONDS: Final = 0.25
_MAX_BACKOFF_SECONDS: Final = 8.0
_IDEMPOTENT_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_TRANSIENT_STATUSES: Final = frozenset({500, 502, 503, 504})


@dataclass(frozen=True)
class ApiRequest:
    """A request, independent of the number of attempts at it.

    Attributes:
        method: HTTP method.
        path: Path below the transport's prefix.
        stream: True if the caller reads the body.
        timeout: Seconds to connect, and seconds without a received byte.
        options: Keyword arguments of ``requests.Session.request``. May contain a password.
        deadline: Seconds for all attempts together.
        idempotent: True if repeating the request has no additional effect, although its method
            is not idempotent.
        body_limit: Limit of a response body that is read into memory; ``None`` if the caller
            reads it.
    """

    method: str
    path: str
    stream: bool
    timeout: Timeout
    options: dict[str, Any] = field(repr=False)
    deadline: float = math.inf
    idempotent: bool = False
    body_limit: BodyLimit | None = None
    _start: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self._has_seekable_body:
            object.__setattr__(self, "_start", self.options["data"].tell())

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def _has_seekable_body(self) -> bool:
        data = self.options.get("data")
        if data is None or not hasattr(data, "seek"):
            return False
        return not hasattr(data, "seekable") or bool(data.seekable())

    @property
    def is_upload(self) -> bool:
        """True if the body is a file, whose duration depends on its size and the connection."""
        return not isinstance(self.options.get("data"), (dict, type(None)))

    @property
    def is_replayable(self) -> bool:
        """True if the body can be sent a second time."""
        data = self.options.get("data")
        return self._has_seekable_body or isinstance(data, (bytes, str, dict, type(None)))

    @property
    def is_idempotent(self) -> bool:
        """True if repeating the request has no additional effect."""
        return self.idempotent or is_idempotent(self.method)

    def rewind(self) -> None:
        """Prepare the body for another attempt."""
        if self._has_seekable_body:
            self.options["data"].seek(self._start)


def is_idempotent(method: str) -> bool:
    """Return True if repeating a request with this method has no additional effect."""
    return method in _IDEMPOTENT_METHODS


def retry_delay(error: BeRayException, attempt: int, *, idempotent: bool) -> float | None:
    """Return the seconds to wait before the next attempt, or ``None`` to give up.

    Args:
        error: The failure of the last attempt.
        attempt: Number of failed attempts so far, starting at 1.
        idempotent: True if the request may be processed twice.
    """
    if isinstance(error, ConnectionFailed):
        return backoff(attempt) if idempotent or not error.delivered else None
    if not isinstance(error, APIError) or error.is_permanent:
        return None
    retry_after = error.retry_after
    if error.status_code in (429, 503) and retry_after is not None:
        # 429 and 503 with Retry-After guarantee that the request was not processed.
        too_long = retry_after > MAX_RETRY_AFTER_SECONDS
        return None if too_long else max(retry_after, backoff(attempt))
    return backoff(attempt) if idempotent and error.status_code in _TRANSIENT_STATUSES else None


def backoff(
    attempt: int,
    initial: float = _INITIAL_BACKOFF_SECONDS,
    maximum: float = _MAX_BACKOFF_SECONDS,
) -> float:
    """Return an exponential backoff with jitter, in seconds.

    Args:
        attempt: Number of failed attempts so far, starting at 1.
        initial: Backoff of the first attempt, in seconds, before jitter.
        maximum: Upper limit, in seconds.
    """
    ceiling: float = min(initial * 2.0 ** min(attempt - 1, 16), maximum)
    return ceiling * random.uniform(0.5, 1.0)


def outcome_unknown(error: BeRayException) -> bool:
    """Return True if the error leaves open whether the server processed the request."""
    if isinstance(error, APIError):
        return error.status_code >= 500
    return isinstance(error, ConnectionFailed)


def outcome_unknown_error(request: ApiRequest, error: BeRayException) -> OutcomeUnknown:
    """Return the exception for a request that may have been processed and must not be repeated."""
    return OutcomeUnknown(
        f"{error}; it is unknown whether the server processed {request}: "
        "check before you repeat it",
        method=request.method,
        path=request.path,
    )


def redirect_target(
    request: ApiRequest, response: requests.Response, url: str, location: str
) -> str:
    """Return the URL that a redirect leads to, and rewind the request for it.

    Args:
        request: The redirected request.
        response: The redirect.
        url: URL that was requested.
        location: The ``Location`` header.

    Raises:
        InvalidResponseError: The redirect leads to another server, would change the method, or
            the body cannot be sent again.
    """
    try:
        target = urljoin(url, location)
        same_origin = origin(target) == origin(url)
    except ValueError:
        target, same_origin = url, False
    keeps_method = response.status_code in (307, 308) or request.method in ("GET", "HEAD")
    if same_origin and keeps_method and request.is_replayable:
        request.rewind()
        return target
    where = (
        "a location for which the request would have to change"
        if same_origin
        else "another server, which must not receive the credentials"
    )
    raise InvalidResponseError(
        f"{request}: the server redirects to {where}; check the server's URL",
        body="",
        method=request.method,
        path=request.path,
        status_code=response.status_code,
    )
