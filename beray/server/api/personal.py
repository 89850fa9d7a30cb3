"""Requests that a personal server rejects: those that did not come straight from this machine.

A personal server lets its one user do what a shared one does not, and trusts that only programs
of this machine reach it. A proxy in front, or a web page whose name was pointed at 127.0.0.1 (DNS
rebinding), would let others in.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from beray.server.http.client_address import client_at
from beray.server.settings import Settings

_FORWARDED: Final = re.compile("forwarded|x-forwarded-.*")
_PORT: Final = re.compile(r":[0-9]*$")


class PersonalMiddleware:
    """ASGI middleware that answers such requests with 400 while the server is personal."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        settings: Settings = scope["app"].state.services.settings
        detail = None if settings.shared else problem(Headers(scope=scope))
        if detail is None:
            await self._app(scope, receive, send)
            return
        refused = JSONResponse({"detail": detail}, 400)
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(refused)
        else:
            await refused(scope, receive, send)


def problem(headers: Headers) -> str | None:
    """Return why a personal server rejects a request with these headers."""
    for name in headers:
        if _FORWARDED.fullmatch(name):
            return (
                "This is a personal server, and the request came through a proxy: it has the "
                f"header {name.title()}. Set BERAY_TRUSTED_PROXIES to the proxy's address, or "
                "BERAY_PUBLIC_URL to the server's URL, and start the server again."
            )
    host = headers.get("host")
    if host is not None and not _is_local(host):
        return (
            f"This is a personal server, and the request was sent to {host[:100]!r}: its Host has "
            "to be localhost or a loopback address. If the server should be reached by this name, "
            "set BERAY_PUBLIC_URL to its URL and start it again."
        )
    return None


def _is_local(host: str) -> bool:
    name = _PORT.sub("", host).lower().removesuffix(".")
    if name.startswith("["):
        return client_at(name.strip("[]")).local
    return name == "localhost" or name.endswith(".localhost") or client_at(name).local
