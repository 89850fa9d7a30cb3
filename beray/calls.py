"""One call, whatever the number of times it is made, and where it may be led."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import requests

from beray.config import origin
from beray.exceptions import BeRayException, InvalidResponseError, OutcomeUnknown

Timeout = tuple[float, float]
"""Seconds to connect, and seconds without a byte while reading."""


@dataclass(frozen=True)
class Call:
    """One call, as often as it is made."""

    method: str
    path: str
    stream: bool
    timeout: Timeout
    options: dict[str, Any] = field(repr=False)  # a password may be in it
    deadline: float = math.inf
    """Seconds that it may take in all."""
    harmless: bool = False
    """Whether twice is the same as once, though the method does not say so."""
    _start: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self._is_file:
            object.__setattr__(self, "_start", self.options["data"].tell())

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def _is_file(self) -> bool:
        data = self.options.get("data")
        if data is None or not hasattr(data, "seek"):
            return False
        return not hasattr(data, "seekable") or bool(data.seekable())

    @property
    def uploads(self) -> bool:
        """Whether it carries a file, which takes as long as its size and the line want."""
        return not isinstance(self.options.get("data"), (dict, type(None)))

    @property
    def replayable(self) -> bool:
        """Whether its body can be sent a second time."""
        return self._is_file or isinstance(self.options.get("data"), (bytes, str, dict, type(None)))

    def rewind(self) -> None:
        if self._is_file:
            self.options["data"].seek(self._start)


def unknown(call: Call, error: BeRayException) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{error}; it is not known whether the server has done {call}: look before you repeat it",
        method=call.method,
        path=call.path,
    )


def redirected(call: Call, response: requests.Response, url: str, target: str) -> str:
    """Where a redirect leads, if it may be followed: same server, same request."""
    try:
        location = urljoin(url, target)
        same = origin(location) == origin(url)
    except ValueError:
        location, same = url, False
    keeps_method = response.status_code in (307, 308) or call.method in ("GET", "HEAD")
    if same and keeps_method and call.replayable:
        call.rewind()
        return location
    where = "a place that the request cannot follow" if same else "another server"
    raise InvalidResponseError(
        f"{call}: the server redirects to {where}, which gets no credentials from here; "
        "check the server's URL",
        body="",
        method=call.method,
        path=call.path,
        status_code=response.status_code,
    )
