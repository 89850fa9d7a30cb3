"""How the gateway says no: one exception, and routes whose every refusal has one shape.

Source: the Gateway wire page (``{"detail": {"error_code", "message", …}}``).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from beray.server.problems import Problem, of_validation
from beray.server.strict_route import StrictRoute

INVALID_INPUT: Final = "INVALID_INPUT"
_CODES: Final = {
    400: "BAD_REQUEST",
    404: "NOT_FOUND",
    413: "TOO_LARGE",
    416: "INVALID_RANGE",
    503: "UNAVAILABLE",
}


class GatewayRefused(Exception):
    """The gateway says no.

    Args:
        status: the HTTP status.
        error_code: for programs, such as ``MISSING_SECRET``.
        message: for people.
        headers: of the answer.
        fields: what else the detail has, such as ``limit``.
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


def missing_agent_context() -> GatewayRefused:
    return GatewayRefused(
        400,
        "MISSING_AGENT_CONTEXT",
        "This is for agents: call it with an API key that has an agent_id, or with its internal "
        "token (beray apikey new NAME --agent AGENT).",
    )


def invalid(message: str, problems: Iterable[Problem]) -> GatewayRefused:
    """What was given does not fit, and where."""
    errors = [problem.told() for problem in problems]
    return GatewayRefused(422, INVALID_INPUT, message, errors=errors)


class GatewayRoute(StrictRoute):
    """A route of the gateway: what it refuses, it refuses in the gateway's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def refusing(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise _invalid(error) from None
            except HTTPException as error:
                code = _CODES.get(error.status_code, "REFUSED")
                raise GatewayRefused(
                    error.status_code, code, str(error.detail), headers=error.headers
                ) from None

        return refusing


async def refused(_request: Request, error: Exception) -> JSONResponse:
    """The handler of ``GatewayRefused``."""
    assert isinstance(error, GatewayRefused)
    return JSONResponse({"detail": error.detail}, error.status, error.headers)


def _invalid(error: RequestValidationError) -> GatewayRefused:
    """Without the input, which may be a secret."""
    problems = [of_validation(found) for found in error.errors()]
    return invalid(str(problems[0].shown()), problems)
