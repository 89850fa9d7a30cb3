"""Access of sandboxes to the gateway, through a Unix socket per run.

Each socket accepts a single internal token. Requests have no client address here, so the
allow-lists of addresses never apply to a process in a sandbox.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from uvicorn.server import ServerState

from beray.server.accounts.principals import INTERNAL_TOKEN
from beray.server.objects.signing import OBJECTS_PATH
from beray.server.workspace import tree

_ROUTES: Final = ("/v1/", "/internal/")
_REMOVED_HEADERS: Final = (b"authorization", b"cookie", b"forwarded", b"x-api-key", b"x-forwarded-")
_SOCKET: Final = "gateway.sock"
_RELAYED: Final = "beray.relayed"


class TokenListener:
    """Server of the gateway's routes on Unix sockets.

    Args:
        app: Application that has these routes.
        directory: Directory of the sockets. Commands of tasks must not be able to read it.
    """

    def __init__(self, *, app: ASGIApp, directory: Path) -> None:
        self._app = app
        self._directory = directory

    @asynccontextmanager
    async def listening(self, token: str) -> AsyncIterator[Path]:
        """Listen for requests with ``token`` during the block; yield the path of the socket."""
        directory = Path(
            await run_in_threadpool(tempfile.mkdtemp, dir=self._directory, prefix="gateway-")
        )
        try:
            listener = await run_in_threadpool(_bound_socket, directory)
            async with self._serving(listener, token):
                yield directory / _SOCKET
        finally:
            await asyncio.shield(run_in_threadpool(tree.remove, directory))

    @asynccontextmanager
    async def _serving(self, listener: socket.socket, token: str) -> AsyncIterator[None]:
        config = uvicorn.Config(
            InternalTokenMiddleware(self._app, token),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        config.load()
        state = ServerState()

        def protocol() -> asyncio.Protocol:
            # As in uvicorn.Server.startup; the declared type has no arguments.
            return config.http_protocol_class(config=config, server_state=state, app_state={})  # type: ignore[call-arg]

        server = await asyncio.get_running_loop().create_unix_server(protocol, sock=listener)
        try:
            yield
        finally:
            server.close()
            for connection in list(state.connections):
                connection.shutdown()
            for request in list(state.tasks):
                request.cancel()


class InternalTokenMiddleware:
    """ASGI middleware that passes on only gateway requests with a certain internal token.

    Requests for presigned URLs of objects need no token; their route checks the signature.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the request, or reject it with 401 or 404."""
        path: str = scope["path"]
        if scope["type"] == "websocket":
            # Without a response, the client would get a 403: "another client has this chat".
            response = Response(f"{path} is not a route of the gateway.", 404)
            await WebSocket(scope, receive, send).send_denial_response(response)
            return
        if not path.startswith(_ROUTES):
            await _error(404, "NOT_FOUND", f"{path} is not a route of the gateway.")(
                scope, receive, send
            )
            return
        token = Headers(scope=scope).get(INTERNAL_TOKEN, "").encode()
        if not path.startswith(OBJECTS_PATH) and not secrets.compare_digest(token, self._token):
            message = (
                f"Inside a sandbox, each request needs the {INTERNAL_TOKEN} of its run, from the "
                "environment variable X_INTERNAL_TOKEN."
            )
            await _error(401, "INVALID_TOKEN", message)(scope, receive, send)
            return
        headers = [
            (name, value)
            for name, value in scope["headers"]
            if not name.startswith(_REMOVED_HEADERS)
        ]
        relayed = {**scope, "client": None, "headers": headers, _RELAYED: True}
        await self._app(relayed, receive, send)


def is_relayed(scope: Scope) -> bool:
    """Return True if a request with this ASGI scope came from a sandbox."""
    return _RELAYED in scope


def _error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"detail": {"error_code": code, "message": message}}, status)


def _bound_socket(directory: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The path of a socket is limited to 107 bytes; this path through a descriptor is shorter.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{descriptor}/{_SOCKET}")
        (directory / _SOCKET).chmod(0o600)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(descriptor)
    return listener
