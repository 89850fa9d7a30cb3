"""One call, whatever the number of times it is made, and where it may be led."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin

import requests

from beray.config import origin
from beray.exceptions import (
    BeRayException,
    InvalidArgument,
    InvalidResponseError,
    OutcomeUnknown,
    ResponseTooLarge,
)

Timeout = tuple[float, float]
"""Seconds to connect, and seconds without a byte while reading."""
MAX_JSON_BYTES: Final = 64 * 1024**2
MAX_MEMORY_BYTES: Final = 1024**3


@dataclass(frozen=True)
class BodyLimit:
    """Size up to which a response body is read into memory.

    Attributes:
        option: the client's option that sets it.
        max_bytes: in bytes after decompression.
        alternative: how to get a larger body, as the end of a sentence after "or ".
    """

    option: str
    max_bytes: int
    alternative: str = ""

    def __post_init__(self) -> None:
        value = self.max_bytes
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidArgument(
                f"{self.option} must be a number of bytes of at least 1, got {value!r}"
            )

    def error(self, call: Call) -> ResponseTooLarge:
        """Return the exception for a larger body."""
        ways = [f"create the client with a larger {self.option}", self.alternative]
        return ResponseTooLarge(
            f"{call}: the response is larger than {self.option}={self.max_bytes:,} bytes; "
            + ", or ".join(filter(None, ways)),
            max_bytes=self.max_bytes,
            method=call.method,
            path=call.path,
        )


def json_limit(max_bytes: int) -> BodyLimit:
    return BodyLimit("max_json_bytes", max_bytes)


def memory_limit(max_bytes: int) -> BodyLimit:
    return BodyLimit(
        "max_memory_bytes",
        max_bytes,
        "save it to disk with download_file() (an archive: download_zip()), "
        "or read it piece by piece with stream=True",
    )


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
    limit: BodyLimit | None = None
    """Limit of a body that is read into memory; ``None`` if the caller reads it."""
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
