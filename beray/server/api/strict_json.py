"""Routes that find out who sends a request before its body is read, and take strict JSON only.

Separate from ``json_values``, which is also used by programs without FastAPI.
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
    """Route that authenticates first, and answers a body that is not JSON with 422.

    FastAPI reads and parses a body before it calls any dependency. The authenticators among the
    dependencies are therefore called here; as dependencies they return what they found.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        authenticators = list(_authenticators(self.dependant))

        async def strictly(request: Request) -> Response:
            for authenticator in authenticators:
                await authenticator(request)
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


def _authenticators(dependant: Dependant) -> Iterator[Authenticator[Any]]:
    if isinstance(dependant.call, Authenticator):
        yield dependant.call
    for dependency in dependant.dependencies:
        yield from _authenticators(dependency)


class _StrictRequest(Request):
    async def json(self) -> Any:
        body = await self.body()
        try:
            return json.loads(body, parse_constant=_refuse_constant)
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            # Bytes that are not UTF-8, numbers of thousands of digits, bottomless lists.
            raise json.JSONDecodeError(type(error).__name__, "", 0) from None


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", "", 0)
