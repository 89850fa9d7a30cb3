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


class InvalidField(ApiHTTPError):
    """A value of the body that is invalid for a reason that its schema does not contain.

    The response has the form of other 422 responses, so that forms show it at the field.

    Args:
        field: Key of the value in the body.
        problem: Description that follows the key, such as "is too long".
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(422, f"{field}: {problem}")
        self.field = field
        self.problem = problem
