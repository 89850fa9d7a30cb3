"""Error responses of the gateway: their exception, and routes that convert all errors to it.

Source: the Gateway wire page (``{"detail": {"error_code", "message", …}}``).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from beray.server.http.strict_json import StrictRoute
from beray.server.http.validation_errors import InputProblem, from_validation_error

INVALID_INPUT: Final = "INVALID_INPUT"
MESSAGE_PROBLEMS: Final = 5
"""Maximum number of problems of invalid input in ``message``."""
_CODES: Final = {
    400: "BAD_REQUEST",
    404: "NOT_FOUND",
    413: "TOO_LARGE",
    416: "INVALID_RANGE",
    503: "UNAVAILABLE",
}


class GatewayHTTPError(Exception):
    """A gateway request that the server rejects.

    Args:
        status: HTTP status of the response.
        error_code: Code for programs, such as ``MISSING_SECRET``.
        message: Text for the user.
        headers: Headers of the response.
        fields: Additional fields of the response's ``detail``, such as ``limit``.
    """

    def __init__(
        self,
        status: int,
        error_code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.detail = {"error_code": error_code, "message": message, **fields}


def missing_agent_context() -> GatewayHTTPError:
    """Return the 400 for a request that only agents may send."""
    return GatewayHTTPError(
        400,
        "MISSING_AGENT_CONTEXT",
        "Only agents can use this route. Send an API key that has an agent_id, or its internal "
        "token (create one with: beray apikey new NAME --agent AGENT).",
    )


def invalid_input(problems: Sequence[InputProblem], summary: str = "") -> GatewayHTTPError:
    """Return a 422 with all problems in ``errors``.

    ``message`` contains the first ``MESSAGE_PROBLEMS`` of them, because the published SDK shows
    only ``message``.

    Args:
        problems: The problems of the input.
        summary: A sentence before them in ``message``.
    """
    shown = "; ".join(map(_describe, problems[:MESSAGE_PROBLEMS]))
    more = len(problems) - MESSAGE_PROBLEMS
    parts = [summary, f"{shown} (and {more} more)" if more > 0 else shown]
    message = " ".join(filter(None, parts))
    return GatewayHTTPError(
        422, INVALID_INPUT, message, errors=[problem.to_wire() for problem in problems]
    )


def _describe(problem: InputProblem) -> str:
    is_in_body = len(problem.loc) > 1 and problem.loc[0] == "body"
    return str(problem._replace(loc=problem.loc[is_in_body:]).sanitized())


class GatewayRoute(StrictRoute):
    """Route of the gateway, which converts every error to a ``GatewayHTTPError``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of the route, wrapped to convert its errors."""
        handle = super().get_route_handler()

        async def handle_converting_errors(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                # Without the input, which may be a secret.
                raise invalid_input(
                    [from_validation_error(found) for found in error.errors()]
                ) from None
            except HTTPException as error:
                code = _CODES.get(error.status_code, "REFUSED")
                raise GatewayHTTPError(
                    error.status_code, code, str(error.detail), headers=error.headers
                ) from None

        return handle_converting_errors


async def gateway_error_response(_request: Request, error: Exception) -> JSONResponse:
    """Exception handler that returns the response of a ``GatewayHTTPError``."""
    assert isinstance(error, GatewayHTTPError)
    return JSONResponse({"detail": error.detail}, error.status, error.headers)
