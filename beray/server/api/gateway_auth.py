"""Callers of the gateway: ``CurrentPrincipal``, and the exchange of API keys for internal tokens.

A caller has an internal token, an API key, the access token of an account, or an address of the
allow-list. Each is looked for in its own place only, and an invalid one is never ignored.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from beray.server.accounts.principals import INTERNAL_TOKEN, Principal
from beray.server.api.dependencies import (
    AppServices,
    authenticate_bearer,
    bearer_token,
    is_admitted_by_address,
)
from beray.server.http.active_requests import (
    Authenticator,
    RequestCredential,
    api_key_credential_id,
    mark_authenticated,
)
from beray.server.http.client_address import client_of, in_networks
from beray.server.http.gateway_errors import GatewayHTTPError, GatewayRoute
from beray.server.services import Services
from beray.server.storage.tables import ApiKey
from beray.server.storage.tokens import API_KEY_PREFIX

API_KEY: Final = "X-API-Key"
"""Header of the SDK 0.2.0 to 0.3.2. Later versions exchange a key for an internal token."""

router = APIRouter(tags=["gateway"], route_class=GatewayRoute)


async def _caller(connection: HTTPConnection) -> Principal:
    """Return who calls.

    Raises:
        GatewayHTTPError: 401 for a caller who is not known.
    """
    app: Services = connection.app.state.services
    address = connection.client.host if connection.client else ""
    token = connection.headers.get(INTERNAL_TOKEN)
    if token is not None:
        return await _by_internal_token(connection, app, token, address)
    key = connection.headers.get(API_KEY)
    if key is not None:
        return await _by_api_key(connection, app, key, address)
    if "Authorization" in connection.headers:
        return await _by_access_token(connection, address)
    allowed = in_networks(address, app.settings.gateway_allow)
    if allowed and is_admitted_by_address(app, connection):
        mark_authenticated(connection, app.active_requests, None)
        return Principal(None, None, address)
    raise _unauthorized("NOT_AUTHENTICATED", f"Sign in, or send an {INTERNAL_TOKEN}.")


async def _by_internal_token(
    connection: HTTPConnection, app: Services, token: str, address: str
) -> Principal:
    refused = _unauthorized("INVALID_TOKEN", "The internal token is wrong or has expired.")
    idle = app.settings.internal_token_seconds
    found = await run_in_threadpool(app.gateway.tokens.find, token, idle)
    if found is None:
        raise refused
    key = () if found.api_key_id is None else (api_key_credential_id(found.api_key_id),)
    # A request under way is a use: it ends with its API key or its run, and not at a time.
    credential = RequestCredential((found.digest, *key), None, refused.detail)
    if not mark_authenticated(connection, app.active_requests, credential):
        raise refused
    run = found.digest if found.api_key_id is None else None
    return Principal(found.user_id, found.agent_id, address, run)


async def _by_api_key(
    connection: HTTPConnection, app: Services, key: str, address: str
) -> Principal:
    found = await _api_key(
        connection, app, key, f"An API key is needed: {API_KEY}: {API_KEY_PREFIX}…"
    )
    revoked = _unauthorized("INVALID_API_KEY", "The API key was revoked.")
    credential = RequestCredential((api_key_credential_id(found.id),), None, revoked.detail)
    if not mark_authenticated(connection, app.active_requests, credential):
        raise revoked
    return Principal(found.user_id, found.agent_id, address)


async def _api_key(connection: HTTPConnection, app: Services, key: str, hint: str) -> ApiKey:
    """Return the API key ``key``. Wrong ones are limited for each client address.

    Args:
        hint: Message if ``key`` does not look like an API key.

    Raises:
        GatewayHTTPError: 401 if the key is invalid, 429 after too many invalid ones.
    """
    client = client_of(connection, app.settings.trusted_proxies)
    wrong_keys = app.gateway.wrong_keys
    wait = wrong_keys.wait_seconds(client.key)
    if wait:
        raise GatewayHTTPError(
            429,
            "TOO_MANY_TRIES",
            f"Too many wrong API keys from your address ({wrong_keys.limit} within "
            f"{wrong_keys.seconds:.0f} s); try again in {wait} s.",
            headers={"Retry-After": str(wait)},
        )
    found = await run_in_threadpool(app.gateway.api_keys.find, key)
    if found is None:
        wrong_keys.add(client.key)
        is_key = key.startswith(API_KEY_PREFIX)
        problem = "The API key is wrong or was revoked." if is_key else hint
        raise _unauthorized("INVALID_API_KEY", problem)
    return found


async def _by_access_token(connection: HTTPConnection, address: str) -> Principal:
    refused = _unauthorized(
        "INVALID_TOKEN",
        "The access token is wrong or has expired. An API key has to be exchanged for an "
        "internal token first.",
    )
    user = await authenticate_bearer(connection, refused.detail)
    if user is None:
        raise refused
    return Principal(user.id, None, address)


current_principal: Final = Authenticator(_caller)
CurrentPrincipal = Annotated[Principal, Depends(current_principal)]


@router.post("/v1/auth/convert_to_internal_token")
async def convert_to_internal_token(request: Request, app: AppServices) -> dict[str, str]:
    """Exchange an API key (``Authorization: Bearer sk-…``) for an internal token."""
    hint = f"An API key is needed: Authorization: Bearer {API_KEY_PREFIX}…"
    found = await _api_key(request, app, bearer_token(request), hint)
    try:
        token = await run_in_threadpool(
            app.gateway.tokens.issue,
            found.user_id,
            found.agent_id,
            app.settings.internal_token_seconds,
            api_key_id=found.id,
        )
    except IntegrityError:
        raise _unauthorized("INVALID_API_KEY", "The API key was revoked.") from None
    return {"internal_token": token}


def _unauthorized(code: str, message: str) -> GatewayHTTPError:
    return GatewayHTTPError(401, code, message, headers={"WWW-Authenticate": "Bearer"})
