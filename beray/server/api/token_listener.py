"""The gateway on a Unix socket, for holders of one token: what a sandbox is connected with.

Addresses prove nothing about a process in a sandbox, so no address is allowed here.
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

from beray.server.api.gateway_auth import INTERNAL_TOKEN
from beray.server.objects.signing import OBJECTS_PATH
from beray.server.workspace import tree

_ROUTES: Final = ("/v1/", "/internal/")
_NOT_PASSED: Final = (b"authorization", b"cookie", b"forwarded", b"x-api-key", b"x-forwarded-")
_SOCKET: Final = "gateway.sock"
_RELAYED: Final = "beray.relayed"


class TokenListener:
    """Serves the gateway's routes on sockets of their own.

    Args:
        app: application that has these routes.
        folder: where sockets are; commands must not be able to read it.
    """

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self._app = app
        self._folder = folder

    @asynccontextmanager
    async def listening(self, token: str) -> AsyncIterator[Path]:
        """Listen until the end of the block, for requests with ``token``; yield the path."""
        folder = Path(
            await run_in_threadpool(tempfile.mkdtemp, dir=self._folder, prefix="gateway-")
        )
        try:
            listener = await run_in_threadpool(_listening, folder)
            async with self._serving(listener, token):
                yield folder / _SOCKET
        finally:
            await asyncio.shield(run_in_threadpool(tree.remove, folder))

    @asynccontextmanager
    async def _serving(self, listener: socket.socket, token: str) -> AsyncIterator[None]:
        config = uvicorn.Config(
            TokenRequired(self._app, token),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        config.load()
        state = ServerState()

        def protocol() -> asyncio.Protocol:
            # As uvicorn.Server.startup does; the declared type takes no arguments.
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


class TokenRequired:
    """Passes requests for gateway routes that carry one internal token, and nothing else.

    Presigned URLs of objects are passed without it: their signature is checked by their route.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if scope["type"] == "websocket":
            # Closed without a response, it would be a 403: "another client has this chat".
            refused = Response(f"{path} is not a route of the gateway.", 404)
            await WebSocket(scope, receive, send).send_denial_response(refused)
            return
        if not path.startswith(_ROUTES):
            await _refuse(404, "NOT_FOUND", f"{path} is not a route of the gateway.")(
                scope, receive, send
            )
            return
        given = Headers(scope=scope).get(INTERNAL_TOKEN, "").encode()
        if not path.startswith(OBJECTS_PATH) and not secrets.compare_digest(given, self._token):
            message = f"Inside a sandbox, each request needs the {INTERNAL_TOKEN} of its task."
            await _refuse(401, "INVALID_TOKEN", message)(scope, receive, send)
            return
        headers = [
            (name, value) for name, value in scope["headers"] if not name.startswith(_NOT_PASSED)
        ]
        passed = {**scope, "client": None, "headers": headers, _RELAYED: True}
        await self._app(passed, receive, send)


def is_relayed(scope: Scope) -> bool:
    """Return True if a request with this ASGI scope came from a sandbox."""
    return _RELAYED in scope


def _refuse(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"detail": {"error_code": code, "message": message}}, status)


def _listening(folder: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The path of a socket has 107 bytes at most; through a descriptor it is always shorter.
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{_SOCKET}")
        os.chmod(folder / _SOCKET, 0o600)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(directory)
    return listener
