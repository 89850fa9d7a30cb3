"""JSON from outside: what is read, and what is kept of it.

Python's own decoder takes more than RFC 8259 knows: ``NaN``, and numbers and depths that
nobody can be given back. What is taken here can be said again to every client.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, NoReturn

import structlog
from fastapi import Request, Response
from fastapi.routing import APIRoute

MAX_DEPTH: Final = 32
"""How deep objects and lists may be in one another, the outermost counted."""

log = structlog.get_logger("beray.json")


class StrictRoute(APIRoute):
    """A route whose JSON bodies are refused with 422 where they are not JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        body = await self.body()
        try:
            return json.loads(body, parse_constant=_refuse_constant)
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            # Bytes that are no text, numbers of thousands of digits, bottomless lists.
            raise json.JSONDecodeError(type(error).__name__, "", 0) from None


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", "", 0)


def require_plain(value: object) -> None:
    """Prove that ``value``, decoded JSON, can be encoded again as RFC 8259 wants it.

    Raises:
        ValueError: it is deeper than ``MAX_DEPTH``, or holds a number that is not finite
            or text that is not Unicode.
    """
    level, depth = [value], 0
    while holders := [holder for holder in level if isinstance(holder, dict | list)]:
        level = [child for holder in holders for child in _children(holder)]
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"objects and lists are more than {MAX_DEPTH} deep in one another")
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text holds half of a surrogate pair") from None
    except ValueError:
        raise ValueError("a number is not finite") from None


def _children(holder: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return holder.values() if isinstance(holder, dict) else holder


def stored(text: str) -> Any:
    """Decode JSON of the database; ``None`` where it is damaged."""
    try:
        value = json.loads(text)
        require_plain(value)
    except (ValueError, RecursionError) as error:
        log.error("a row of the database holds damaged JSON", error=type(error).__name__)
        return None
    return value
