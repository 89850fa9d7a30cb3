"""Routes of accounts: ``/auth`` and ``/users``."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Form, Request
from pydantic import BaseModel, BeforeValidator, Field
from starlette.concurrency import run_in_threadpool

from beray import schema
from beray.sanitize import normalized_password
from beray.server.api.dependencies import (
    AppServices,
    CurrentClient,
    CurrentUser,
    bearer_token,
)
from beray.server.api.error_statuses import error_statuses
from beray.server.http.active_requests import request_state
from beray.server.http.strict_json import StrictRoute
from beray.server.storage.digests import secret_digest
from beray.server.storage.tables import User

router = APIRouter(tags=["accounts"], route_class=StrictRoute)


class CodeRequest(BaseModel):
    """Body of a request for a verification code."""

    email: str = Field(min_length=3, max_length=320)


class LoginRequest(CodeRequest):
    """Body of a sign-in."""

    password: str = Field(max_length=1024)


def _normalized(password: object) -> object:
    """Return the form of a password whose length is limited."""
    if isinstance(password, str) and len(password) <= 1024:
        return normalized_password(password)
    return password


class RegistrationRequest(CodeRequest):
    """Body of a registration."""

    verification_code: str = Field(max_length=64)
    password: Annotated[str, Field(min_length=8, max_length=1024), BeforeValidator(_normalized)]


_SIGN_IN: Final = error_statuses(
    {
        401: "The e-mail address or the password is wrong.",
        429: "Too many wrong passwords.",
        503: "Too many clients wait for a password check.",
    }
)


@router.post(
    "/auth/request-verification-code",
    responses=error_statuses(
        {
            422: "The address is invalid, or the mail server rejects it.",
            429: "Too many requests for codes, by this client or for this address.",
            503: "The mail cannot be sent, or too many mails are being sent.",
        }
    ),
)
async def request_verification_code(
    body: CodeRequest, client: CurrentClient, app: AppServices
) -> schema.Message:
    """Mail a 6-digit verification code, valid for 10 minutes and for 5 wrong attempts.

    At most one code per minute and five per hour are mailed to an address.
    """
    await app.accounts.send_code(body.email, client)
    return {"message": "A verification code is on its way."}


@router.post(
    "/auth/register",
    responses=error_statuses(
        {
            409: "The account already exists.",
            422: "The code is wrong or has expired, or a value is invalid.",
            429: "Too many attempts.",
            503: "Too many clients wait for a password check.",
        }
    ),
)
async def register(
    body: RegistrationRequest, client: CurrentClient, app: AppServices
) -> schema.Session:
    """Create an account with a verification code, and sign in to it."""
    user, token = await app.accounts.register(
        body.email, body.verification_code, body.password, client
    )
    return _session(user, token)


@router.post("/auth/login", responses=_SIGN_IN)
async def login(body: LoginRequest, client: CurrentClient, app: AppServices) -> schema.Session:
    """Sign in with an e-mail address and a password."""
    return _session(*await app.accounts.sign_in(body.email, body.password, client))


@router.post("/auth/token", responses=_SIGN_IN)
async def login_with_form(
    username: Annotated[str, Form(max_length=320)],
    password: Annotated[str, Form(max_length=1024)],
    client: CurrentClient,
    app: AppServices,
) -> schema.Session:
    """Sign in with a form, as in the OAuth2 password flow (RFC 6749, 4.3)."""
    return _session(*await app.accounts.sign_in(username, password, client))


@router.post("/auth/logout")
async def logout(request: Request, _user: CurrentUser, app: AppServices) -> schema.Message:
    """End the session: its token becomes invalid, and its active requests end."""
    digest = secret_digest(bearer_token(request))
    await run_in_threadpool(app.token_repository.delete, digest)
    app.active_requests.end(digest, except_for=request_state(request.scope).active)
    return {"message": "Signed out."}


@router.get("/users/me")
async def current_user(user: CurrentUser) -> schema.User:
    """Return the signed-in user."""
    return _to_wire(user)


def _session(user: User, token: str) -> schema.Session:
    return {"access_token": token, "token_type": "bearer", "user": _to_wire(user)}


def _to_wire(user: User) -> schema.User:
    return {"id": user.id, "email": user.email, "created_at": user.created_at}
