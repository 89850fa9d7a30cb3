"""The exception that any part of the server raises to refuse a request of the BeRay API."""

from __future__ import annotations


class ApiHTTPError(Exception):
    """A request that the server refuses; the text is shown to the user.

    Args:
        status: HTTP status of the response.
        reason: what failed, the offending value, the reason and the next step.
        retry_after: seconds after which the request may succeed, for ``Retry-After``.
    """

    def __init__(self, status: int, reason: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after
