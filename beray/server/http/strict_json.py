"""Route class that authenticates before the body is read, and accepts strict JSON only.

The checks of values are in ``json_values``, which does not require FastAPI.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from beray.server.http.active_requests import Authenticator


class StrictRoute(APIRoute):
    """Route that authenticates first, and rejects bodies that are not JSON (RFC 8259) with 422.

    FastAPI reads and parses a body before it calls any dependency. Authenticators among the
    dependencies are therefore called here; as dependencies they return the cached result.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of the route, wrapped to authenticate first."""
        handle = super().get_route_handler()
        authenticators = list(_authenticators(self.dependant))

        async def authenticate_and_handle(request: Request) -> Response:
            for authenticator in authenticators:
                await authenticator(request)
            return await handle(_StrictRequest(request.scope, request.receive))

        return authenticate_and_handle


def _authenticators(dependant: Dependant) -> Iterator[Authenticator[Any]]:
    if isinstance(dependant.call, Authenticator):
        yield dependant.call
    for dependency in dependant.dependencies:
        yield from _authenticators(dependency)


class _StrictRequest(Request):
    async def json(self) -> Any:
        body = await self.body()
        try:
            return json.loads(body, parse_constant=_reject_constant)
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            # Bytes that are not UTF-8, numbers with thousands of digits, or too deep nesting.
            raise json.JSONDecodeError(type(error).__name__, "", 0) from None


def _reject_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", "", 0)
