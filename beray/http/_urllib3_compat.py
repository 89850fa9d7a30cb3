"""Access to the buffered socket below a urllib3 response.

This is the only module that uses private interfaces of urllib3 and ``http.client``:
``urllib3.HTTPResponse._fp``, and ``http.client.HTTPResponse.fp``, ``chunked`` and ``length``.
Their public interfaces return a chunked body one chunk at a time, and copy each block.
"""

from __future__ import annotations

import http.client
import io
from dataclasses import dataclass

import requests


@dataclass(frozen=True)
class BufferedBody:
    """Body that can be read directly from the buffer of its connection.

    Attributes:
        buffer: The buffer. For a chunked body, it contains the chunks with their size lines.
        is_chunked: Whether the body is chunked.
        remaining: Number of bytes of the body that have not been read; ``None`` if unknown.
    """

    buffer: io.BufferedReader
    is_chunked: bool
    remaining: int | None


def buffered_body(response: requests.Response) -> BufferedBody | None:
    """Return the body of a response; ``None`` if it was not received by ``http.client``."""
    inner = getattr(response.raw, "_fp", None)
    if isinstance(inner, http.client.HTTPResponse) and isinstance(inner.fp, io.BufferedReader):
        return BufferedBody(inner.fp, bool(inner.chunked), inner.length)
    return None
