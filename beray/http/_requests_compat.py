"""Access to the body of a requests response.

This is the only module that uses private interfaces of requests: ``Response._content`` (False
until the body is read) and ``Response._content_consumed``. ``Response.content`` itself reads a body
without a size limit, and does not notice the early end of a compressed one.
"""

from __future__ import annotations

import requests


def has_content(response: requests.Response) -> bool:
    """Return True if the body is already in memory, as in the responses of a mock."""
    return getattr(response, "_content", False) is not False


def set_content(response: requests.Response, content: bytes) -> None:
    """Make ``content`` the body of a response, as if requests had read it."""
    response._content = content
    response._content_consumed = True  # type: ignore[attr-defined]
