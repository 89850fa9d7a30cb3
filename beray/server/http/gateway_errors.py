"""How the gateway says no: one exception, and routes whose every refusal has one shape.

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
"""Problems of invalid input that are named in ``message``."""
_CODES: Final = {
    400: "BAD_REQUEST",
    404: "NOT_FOUND",
    413: "TOO_LARGE",
    416: "INVALID_RANGE",
    503: "UNAVAILABLE",
}


class GatewayHTTPError(Exception):
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


def missing_agent_context() -> GatewayHTTPError:
    return GatewayHTTPError(
        400,
        "MISSING_AGENT_CONTEXT",
        "This is for agents: call it with an API key that has an agent_id, or with its internal "
        "token (beray apikey new NAME --agent AGENT).",
    )


def invalid_input(problems: Sequence[InputProblem], summary: str = "") -> GatewayHTTPError:
    """Return a 422 with the places of all problems in ``errors``.

    The published SDK shows ``message`` only, so it has the places and reasons of the first
    problems, too.

    Args:
        summary: A sentence before them.
    """
    shown = "; ".join(map(_in_words, problems[:MESSAGE_PROBLEMS]))
    more = len(problems) - MESSAGE_PROBLEMS
    parts = [summary, f"{shown} (and {more} more)" if more > 0 else shown]
    message = " ".join(filter(None, parts))
    return GatewayHTTPError(
        422, INVALID_INPUT, message, errors=[problem.told() for problem in problems]
    )


def _in_words(problem: InputProblem) -> str:
    is_in_body = len(problem.loc) > 1 and problem.loc[0] == "body"
    return str(problem._replace(loc=problem.loc[is_in_body:]).shown())


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
                raise GatewayHTTPError(
                    error.status_code, code, str(error.detail), headers=error.headers
                ) from None

        return refusing


async def gateway_error_response(_request: Request, error: Exception) -> JSONResponse:
    """The handler of ``GatewayHTTPError``."""
    assert isinstance(error, GatewayHTTPError)
    return JSONResponse({"detail": error.detail}, error.status, error.headers)


def _invalid(error: RequestValidationError) -> GatewayHTTPError:
    """Without the input, which may be a secret."""
    return invalid_input([from_validation_error(found) for found in error.errors()])
