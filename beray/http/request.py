"""Requests as the transport repeats and redirects them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import requests

from beray.config import origin
from beray.exceptions import BeRayException, InvalidResponseError, OutcomeUnknown
from beray.http.response_body import BodyLimit
from beray.http.retry import is_idempotent

Timeout = tuple[float, float]
"""Seconds to connect, and seconds without a received byte while reading."""


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


def outcome_unknown_error(request: ApiRequest, error: BeRayException) -> OutcomeUnknown:
    """Return the exception for a request that may have been processed and must not be repeated."""
    advice = f"it is unknown whether the server processed {request}: check before you repeat it"
    return OutcomeUnknown(
        f"{error}; {advice}",
        reason=f"{error.reason}; {advice}",
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
    raise InvalidResponseError.for_request(
        request.method,
        request.path,
        f"the server redirects to {where}; check the server's URL",
        body="",
        status_code=response.status_code,
    )
