"""Handshakes of the agent WebSocket: paths, credentials and error responses.

Clients interpret HTTP 403 as "another client has this chat", so all other error responses have
another status: 401, 404, 422, 503 or 507.

Source: the agent WebSocket API page; RFC 6455, 4.2.2 (error responses); RFC 7617 (Basic
credentials).
"""

from __future__ import annotations

import base64
import re
from typing import Final
from urllib.parse import unquote

from fastapi import APIRouter, HTTPException, Response, WebSocket
from starlette.requests import HTTPConnection

from beray.sanitize import one_line
from beray.server.accounts.email_address import account_key
from beray.server.api.chats import POLICY_VIOLATION, ChatConnection, ChatName
from beray.server.api.dependencies import (
    Access,
    authenticate_token,
    authorization_credential,
    is_admitted_by_address,
    task_writer,
    unauthorized,
)
from beray.server.http.active_requests import mark_authenticated
from beray.server.runtime.maintenance import MAINTENANCE_MESSAGE, RETRY_SECONDS
from beray.server.services import Services
from beray.server.setting_types.address_users import email_of
from beray.server.setting_types.uids import NoSandboxUid
from beray.server.storage.database_errors import FULL_MESSAGE, StorageError, is_full
from beray.server.storage.shortage import is_shortage, shortage_response
from beray.server.storage.tables import User

_DEFAULT_CHAT: Final = "0"
_ACCESS: Final = Access(("tasks:write",))
_CHAT_PATH: Final = re.compile(rb"/v1/agent_ws/([^/]+)/")

router = APIRouter()


@router.websocket("/v1/agent_ws/{chat_id}/")
async def agent_ws(websocket: WebSocket, chat_id: ChatName) -> None:
    """Serve a client of a chat."""
    await _serve(websocket, chat_id)


@router.websocket("/agent_ws/")
@router.websocket("/ws/")
@router.websocket("/ws")
async def agent_ws_1_0(websocket: WebSocket) -> None:
    """Serve a client of version 1.0, which has no chat ids and no event for sent files.

    The documentation of that version uses all three paths.
    """
    await _serve(websocket, _DEFAULT_CHAT, sends_files=False)


@router.websocket("/{_:path}")
async def unknown(websocket: WebSocket) -> None:
    """Reject a handshake at an unknown path."""
    # The path of the scope is decoded. In the raw path, %2F is part of a chat id.
    if chat := _CHAT_PATH.fullmatch(websocket.scope["raw_path"]):
        await _reject_chat(websocket, unquote(chat[1].decode("latin-1")))
        return
    detail = "This path has no WebSocket. ChatService are at /v1/agent_ws/CHAT_ID/."
    await websocket.send_denial_response(Response(detail, 404))


async def reject_chat_name(websocket: WebSocket, _error: Exception) -> None:
    """Reject a handshake with an invalid chat id, which is the only parameter of these paths."""
    await _reject_chat(websocket, str(websocket.path_params.get("chat_id", "")))


async def _reject_chat(websocket: WebSocket, name: str) -> None:
    reason = "it needs 1 to 100 characters, without '/' and control characters"
    detail = one_line(f"The chat id {name[:100]!r} is invalid: {reason}.")
    await websocket.send_denial_response(Response(detail, 422))


async def _serve(websocket: WebSocket, chat: str, *, sends_files: bool = True) -> None:
    app: Services = websocket.app.state.services
    try:
        user = await _user(websocket)
    except HTTPException as error:
        denied = Response(str(error.detail), error.status_code, error.headers)
        await websocket.send_denial_response(denied)
        return
    if app.maintenance.on:
        headers = {"Retry-After": str(RETRY_SECONDS)}
        await websocket.send_denial_response(Response(MAINTENANCE_MESSAGE, 503, headers))
        return
    try:
        task = await app.chats.open(user.id, chat)
    except NoSandboxUid as error:
        await websocket.send_denial_response(Response(f"{error.strerror}.", 503))
        return
    except StorageError as error:
        await websocket.send_denial_response(_database_denial(error))
        return
    connection = ChatConnection(websocket, app=app, task=task, sends_files=sends_files)
    if not app.chat_connections.try_add(task.id, connection):
        # Before the handshake is accepted, the client receives this as a 403.
        await websocket.close(POLICY_VIOLATION, "another client has this chat")
        return
    try:
        await websocket.accept()
        await connection.serve()
    finally:
        app.chat_connections.remove(task.id, connection)


def _database_denial(error: StorageError) -> Response:
    """Return the error response to a handshake after a database error.

    Raises:
        StorageError: ``error`` has another reason than a full disk or a shortage.
    """
    if is_full(error):
        return Response(FULL_MESSAGE, 507)
    if is_shortage(error):
        text, headers = shortage_response(error)
        return Response(text, 503, headers)
    raise error


async def _user(websocket: HTTPConnection) -> User:
    """Authenticate a handshake.

    Clients that cannot send headers have their access token in the URL, as
    ``ws://x:TOKEN@host/``, which arrives as Basic credentials, or an address of the allow-list.

    Raises:
        HTTPException: 401, the credential is missing or invalid. Not 403, which clients interpret
            as "another client has this chat".
    """
    try:
        return await _authenticated_user(websocket)
    except HTTPException as error:
        if error.status_code != 403:
            raise
        raise HTTPException(401, error.detail, {"WWW-Authenticate": "Bearer"}) from None


async def _authenticated_user(websocket: HTTPConnection) -> User:
    user: User | None = None
    if token := _basic_password(websocket):
        user = await authenticate_token(websocket, token, unauthorized(token).detail, _ACCESS)
        if user is None:
            raise unauthorized(token)
    elif "Authorization" not in websocket.headers:
        user = await _user_of_address(websocket)
    return user or await task_writer(websocket)


def _basic_password(connection: HTTPConnection) -> str:
    try:
        decoded = base64.b64decode(
            authorization_credential(connection, "basic"), validate=True
        ).decode()
    except ValueError:
        return ""
    return decoded.partition(":")[2]


async def _user_of_address(connection: HTTPConnection) -> User | None:
    app: Services = connection.app.state.services
    address = connection.client.host if connection.client else ""
    email = email_of(address, app.settings.agent_ws_users())
    if email is None or not is_admitted_by_address(app, connection):
        return None
    user = await app.accounts.user(account_key(email))
    if user is None or user.disabled_at is not None:
        return None
    mark_authenticated(connection, app.active_requests, None)
    return user
