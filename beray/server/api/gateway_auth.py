"""Authentication of the gateway, and the route that exchanges API keys for internal tokens.

A request is authenticated by an internal token, an API key, the access token of an account, or an
address of the allow-list. Each credential has its own header, and an invalid one is never ignored.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, HTTPException, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from beray.server.accounts.principals import INTERNAL_TOKEN, Principal
from beray.server.api.dependencies import (
    Access,
    AppServices,
    authenticate_bearer,
    bearer_scheme,
    bearer_token,
    is_admitted_by_address,
)
from beray.server.api.error_statuses import error_statuses
from beray.server.http.active_requests import (
    Authenticator,
    RequestCredential,
    api_key_credential_id,
    mark_authenticated,
)
from beray.server.http.client_address import client_of, in_networks
from beray.server.http.gateway_errors import GatewayHTTPError, GatewayRoute
from beray.server.services import Services
from beray.server.storage.api_keys import API_KEY_PREFIX, GATEWAY_SCOPE, scopes_of
from beray.server.storage.internal_tokens import ApiKeyRevoked
from beray.server.storage.tables import ApiKey

API_KEY: Final = "X-API-Key"
"""Header of the SDK 0.2.0 to 0.3.2. Later versions exchange a key for an internal token."""

router = APIRouter(tags=["gateway"], route_class=GatewayRoute)


async def _authenticated(connection: HTTPConnection) -> Principal:
    """Authenticate a request.

    Raises:
        GatewayHTTPError: 401, the credential is missing or invalid; 429, too many invalid API
            keys were sent.
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
    raise _unauthorized(
        "NOT_AUTHENTICATED",
        f"Not authenticated. Send an access token in Authorization, or an {INTERNAL_TOKEN}.",
    )


async def _by_internal_token(
    connection: HTTPConnection, app: Services, token: str, address: str
) -> Principal:
    unauthorized = _unauthorized("INVALID_TOKEN", "The internal token is wrong or has expired.")
    idle_seconds = app.settings.internal_token_seconds
    found = await run_in_threadpool(app.gateway.tokens.find, token, idle_seconds)
    if found is None:
        raise unauthorized
    key = () if found.api_key_id is None else (api_key_credential_id(found.api_key_id),)
    # An active request is a use of the token: it ends with its API key or run, not at a time.
    credential = RequestCredential((found.digest, *key), None, unauthorized.detail)
    if not mark_authenticated(connection, app.active_requests, credential):
        raise unauthorized
    run = found.digest if found.api_key_id is None else None
    return Principal(found.user_id, found.agent_id, address, run)


async def _by_api_key(
    connection: HTTPConnection, app: Services, key: str, address: str
) -> Principal:
    found = await _api_key(
        connection, app, key, f"An API key is required. Send {API_KEY}: {API_KEY_PREFIX}…"
    )
    revoked = _unauthorized("INVALID_API_KEY", "The API key was revoked.")
    credential = RequestCredential(
        (api_key_credential_id(found.id),), found.expires_at, revoked.detail
    )
    if not mark_authenticated(connection, app.active_requests, credential):
        raise revoked
    return Principal(found.user_id, found.agent_id, address)


async def _api_key(connection: HTTPConnection, app: Services, key: str, hint: str) -> ApiKey:
    """Return the row of the API key ``key``. Wrong keys are rate-limited per client address.

    Args:
        connection: The request.
        app: Services of the server.
        key: The secret.
        hint: Message if ``key`` does not have the form of an API key.

    Raises:
        GatewayHTTPError: 401, the key is invalid; 403, it does not have the scope ``gateway``;
            429, too many invalid keys were sent.
    """
    client = client_of(connection, app.settings.trusted_proxies)
    wrong_keys = app.gateway.wrong_keys
    wait = wrong_keys.wait_seconds(client.key)
    if wait:
        raise GatewayHTTPError(
            429,
            "TOO_MANY_TRIES",
            f"Too many wrong API keys from your address (limit: {wrong_keys.limit} in "
            f"{wrong_keys.seconds:.0f} s). Try again in {wait} s.",
            headers={"Retry-After": str(wait)},
        )
    valid = await run_in_threadpool(app.gateway.api_keys.find, key)
    if valid is None:
        wrong_keys.add(client.key)
        is_key = key.startswith(API_KEY_PREFIX)
        problem = "The API key is wrong, has expired or was revoked." if is_key else hint
        raise _unauthorized("INVALID_API_KEY", problem)
    found = valid.key
    if GATEWAY_SCOPE not in scopes_of(found):
        raise GatewayHTTPError(
            403,
            "MISSING_SCOPE",
            f"The API key does not have the scope {GATEWAY_SCOPE}; it has: "
            f"{', '.join(scopes_of(found))}.",
        )
    return found


async def _by_access_token(connection: HTTPConnection, address: str) -> Principal:
    unauthorized = _unauthorized(
        "INVALID_TOKEN",
        "The access token is wrong or has expired. Exchange an API key for an internal token "
        "before you use it here.",
    )
    if bearer_token(connection).startswith(API_KEY_PREFIX):
        raise unauthorized
    try:
        user = await authenticate_bearer(connection, unauthorized.detail, Access())
    except HTTPException as error:
        raise GatewayHTTPError(
            error.status_code, "FORBIDDEN", str(error.detail), headers=None
        ) from None
    if user is None:
        raise unauthorized
    return Principal(user.id, None, address)


current_principal: Final = Authenticator(_authenticated)

# The schemes only describe the routes in the OpenAPI schema.
_internal_token: Final = APIKeyHeader(
    name=INTERNAL_TOKEN,
    scheme_name="InternalToken",
    auto_error=False,
    description="An internal token, in exchange for an API key.",
)
_api_key_header: Final = APIKeyHeader(
    name=API_KEY,
    scheme_name="ApiKey",
    auto_error=False,
    description="An API key with the scope `gateway`, as the SDK 0.2.0 to 0.3.2 sends it.",
)


async def _principal(
    caller: Annotated[Principal, Depends(current_principal)],
    _token: Annotated[str | None, Security(_internal_token)],
    _key: Annotated[str | None, Security(_api_key_header)],
    _session: Annotated[HTTPAuthorizationCredentials | None, Security(bearer_scheme)],
) -> Principal:
    return caller


CurrentPrincipal = Annotated[Principal, Depends(_principal)]


@router.post(
    "/v1/auth/convert_to_internal_token",
    responses=error_statuses(
        {
            401: "The API key is missing or invalid.",
            403: "The API key does not have the scope `gateway`.",
            429: "Too many wrong keys.",
        }
    ),
)
async def convert_to_internal_token(request: Request, app: AppServices) -> dict[str, str]:
    """Exchange an API key (``Authorization: Bearer sk-…``) for an internal token."""
    hint = f"An API key is required. Send Authorization: Bearer {API_KEY_PREFIX}…"
    found = await _api_key(request, app, bearer_token(request), hint)
    try:
        token = await run_in_threadpool(
            app.gateway.tokens.create,
            found.user_id,
            found.agent_id,
            app.settings.internal_token_seconds,
            api_key_id=found.id,
        )
    except ApiKeyRevoked:
        raise _unauthorized("INVALID_API_KEY", "The API key was revoked.") from None
    return {"internal_token": token}


def _unauthorized(code: str, message: str) -> GatewayHTTPError:
    return GatewayHTTPError(401, code, message, headers={"WWW-Authenticate": "Bearer"})
