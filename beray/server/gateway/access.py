"""Who may call the gateway: ``CurrentCaller``, and what API keys are exchanged for.

An internal token, a signed-in person's access token, or an address of the allow-list; each
is looked for in its own place only, and one that is given and wrong is never overlooked.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool

from beray.server.client_address import in_networks
from beray.server.dependencies import AppServices, CurrentClient, Services, digest
from beray.server.gateway.callers import Caller
from beray.server.gateway.refusals import GatewayRefused, GatewayRoute
from beray.server.gateway.tokens import KEY_START
from beray.server.sandbox.network_policy import is_own_address

INTERNAL_TOKEN: Final = "X-Internal-Token"

router = APIRouter(tags=["gateway"], route_class=GatewayRoute)


async def current_caller(request: Request, app: AppServices) -> Caller:
    """Who calls.

    Raises:
        GatewayRefused: 401, nobody who may.
    """
    address = request.client.host if request.client else ""
    token = request.headers.get(INTERNAL_TOKEN)
    if token is not None:
        found = await run_in_threadpool(app.gateway.tokens.find, token)
        if found is None:
            raise _unauthorized("INVALID_TOKEN", "The internal token is wrong or has expired.")
        return Caller(*found, address)
    if "Authorization" in request.headers:
        user = await run_in_threadpool(app.store.user_of_token, digest(_bearer(request)))
        if user is None:
            raise _unauthorized(
                "INVALID_TOKEN",
                "The access token is wrong or has expired. An API key has to be exchanged for an "
                "internal token first.",
            )
        return Caller(user.id, None, address)
    # A browser says where a page comes from: any page could call by the address of its reader.
    if "Origin" not in request.headers and _admits_address(app, request, address):
        return Caller(None, None, address)
    raise _unauthorized("NOT_AUTHENTICATED", f"Sign in, or send an {INTERNAL_TOKEN}.")


def _admits_address(app: Services, request: Request, address: str) -> bool:
    """Return True if ``BERAY_GATEWAY_ALLOW`` admits a client at ``address``.

    A process of a task is never admitted by an address. With a network namespace of its own it
    reaches this server as this host only: through a proxy elsewhere, or through a relay to this
    port that the operator has listed. On the host's network it has the addresses of this host,
    and can be taken for a trusted proxy.
    """
    settings = app.settings
    if not in_networks(address, settings.gateway_allow):
        return False
    own = is_own_address(address)
    if app.sandbox.network.mode == "host":
        return not settings.trusted_proxies and not own
    forwarded = bool(settings.trusted_proxies) and "X-Forwarded-For" in request.headers
    port = (request.scope.get("server") or ("", None))[1]
    relayed = any(one.port == port for one in settings.network_destinations())
    return not (own and (forwarded or relayed))


CurrentCaller = Annotated[Caller, Depends(current_caller)]


@router.post("/v1/auth/convert_to_internal_token")
async def convert_to_internal_token(
    request: Request, client: CurrentClient, app: AppServices
) -> dict[str, str]:
    """Exchange an API key (``Authorization: Bearer sk-…``) for an internal token."""
    wrong_keys = app.gateway.wrong_keys
    wait = wrong_keys.wait_seconds(client.key)
    if wait:
        raise GatewayRefused(
            429,
            "TOO_MANY_TRIES",
            f"Too many wrong API keys from your address ({wrong_keys.limit} within "
            f"{wrong_keys.seconds:.0f} s); try again in {wait} s.",
            headers={"Retry-After": str(wait)},
        )
    key = _bearer(request)
    found = await run_in_threadpool(app.gateway.api_keys.find, key)
    if found is None:
        wrong_keys.add(client.key)
        problem = (
            "The API key is wrong or was revoked."
            if key.startswith(KEY_START)
            else f"An API key is needed: Authorization: Bearer {KEY_START}…"
        )
        raise _unauthorized("INVALID_API_KEY", problem)
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


def _bearer(request: Request) -> str:
    """The credential of ``Authorization: Bearer``; an empty one where there is none (RFC 6750)."""
    scheme, _, credential = request.headers.get("Authorization", "").strip().partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""


def _unauthorized(code: str, message: str) -> GatewayRefused:
    return GatewayRefused(401, code, message, headers={"WWW-Authenticate": "Bearer"})
