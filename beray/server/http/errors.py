"""Exception that becomes an error response of the BeRay API."""

from __future__ import annotations


class ApiHTTPError(Exception):
    """A request that the server rejects, raised by services below the routes.

    Args:
        status: HTTP status of the response.
        message: Text for the user: what failed, the offending value, the reason and the next
            step.
        retry_after: Seconds after which the request may succeed, for ``Retry-After``.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
