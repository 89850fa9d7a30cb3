"""Middleware with which a personal server rejects requests that are not sent by this machine.

A personal server permits its user more than a shared server, and relies on being reachable only
from this machine. A proxy in front of it, or a web page whose host name resolves to 127.0.0.1 (DNS
rebinding), would give access to others.
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
    """ASGI middleware that rejects such requests with 400 while the server is personal."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, as ASGI specifies."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        settings: Settings = scope["app"].state.services.settings
        detail = None if settings.shared else problem(Headers(scope=scope))
        if detail is None:
            await self._app(scope, receive, send)
            return
        rejection = JSONResponse({"detail": detail}, 400)
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(rejection)
        else:
            await rejection(scope, receive, send)


def problem(headers: Headers) -> str | None:
    """Return why a personal server rejects a request with these headers, or None."""
    for name in headers:
        if _FORWARDED.fullmatch(name):
            return (
                "This is a personal server, and the request came through a proxy: it has the "
                f"header {name.title()}. Set BERAY_TRUSTED_PROXIES to the proxy's address, or "
                "BERAY_PUBLIC_URL to the server's URL, and restart the server."
            )
    host = headers.get("host")
    if host is not None and not _is_local(host):
        return (
            f"This is a personal server, and the Host of the request is {host[:100]!r}; it must be "
            "localhost or a loopback address. To reach the server by this name, set "
            "BERAY_PUBLIC_URL to its URL and restart it."
        )
    return None


def _is_local(host: str) -> bool:
    name = _PORT.sub("", host).lower().removesuffix(".")
    if name.startswith("["):
        return client_at(name.strip("[]")).local
    return name == "localhost" or name.endswith(".localhost") or client_at(name).local
