"""Routes of registration, sign-in and password reset: ``/auth``."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Form, Request
from pydantic import BaseModel, BeforeValidator, Field
from starlette.concurrency import run_in_threadpool

from beray import schema
from beray.sanitize import normalized_password
from beray.server.accounts.service import SignedIn
from beray.server.api.dependencies import (
    AppServices,
    CurrentActor,
    OwnAccountUser,
    bearer_token,
    end_requests,
)
from beray.server.api.error_statuses import error_statuses
from beray.server.http.active_requests import request_state
from beray.server.http.strict_json import StrictRoute
from beray.server.storage.digests import secret_digest
from beray.server.storage.tables import User

router = APIRouter(prefix=schema.API_PREFIX, tags=["accounts"], route_class=StrictRoute)


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


NewPassword = Annotated[
    str,
    Field(
        min_length=8,
        max_length=1024,
        description="At least 8 characters; not a common password, and not the address.",
    ),
    BeforeValidator(_normalized),
]


class RegistrationRequest(CodeRequest):
    """Body of a registration, or of the reset of a password."""

    verification_code: str = Field(max_length=64)
    password: NewPassword


_SIGN_IN: Final = error_statuses(
    {
        401: "The e-mail address or the password is wrong.",
        403: "The account is disabled.",
        429: "Too many wrong passwords.",
        503: "Too many clients wait for a password check.",
    }
)


@router.post(
    "/auth/request-verification-code",
    responses=error_statuses(
        {
            403: "The address may not register on this server.",
            409: "The address is already registered.",
            422: "The address is invalid, or the mail server rejects it.",
            429: "Too many requests for codes, by this client or for this address.",
            503: "The mail cannot be sent, or too many mails are being sent.",
        }
    ),
)
async def request_verification_code(
    body: CodeRequest, actor: CurrentActor, app: AppServices
) -> schema.Message:
    """Mail a 6-digit verification code, valid for 10 minutes and for 5 wrong attempts.

    At most one code per minute and five per hour are mailed to an address.
    `BERAY_REGISTRATION` determines who may register.
    """
    await app.accounts.send_code(body.email, actor)
    return {"message": "A verification code is on its way."}


@router.post(
    "/auth/register",
    responses=error_statuses(
        {
            403: "The address may not register on this server.",
            409: "The account already exists.",
            422: "The code is wrong or has expired, the password is too common, or a value is "
            "invalid.",
            429: "Too many attempts.",
            503: "Too many clients wait for a password check.",
        }
    ),
)
async def register(
    body: RegistrationRequest, actor: CurrentActor, app: AppServices
) -> schema.Session:
    """Create an account with a verification code, and sign in to it."""
    return session_to_wire(
        await app.accounts.register(body.email, body.verification_code, body.password, actor)
    )


@router.post("/auth/login", responses=_SIGN_IN)
async def login(body: LoginRequest, actor: CurrentActor, app: AppServices) -> schema.Session:
    """Sign in with an e-mail address and a password."""
    return session_to_wire(await app.accounts.sign_in(body.email, body.password, actor))


@router.post("/auth/token", responses=_SIGN_IN)
async def login_with_form(
    username: Annotated[str, Form(max_length=320)],
    password: Annotated[str, Form(max_length=1024)],
    actor: CurrentActor,
    app: AppServices,
) -> schema.Session:
    """Sign in with a form, as in the OAuth2 password flow (RFC 6749, 4.3)."""
    return session_to_wire(await app.accounts.sign_in(username, password, actor))


@router.post(
    "/auth/request-password-reset",
    responses=error_statuses(
        {
            422: "The address is invalid.",
            429: "Too many requests for codes, by this client or for this address.",
            503: "Too many mails are being sent.",
        }
    ),
)
async def request_password_reset(
    body: CodeRequest, actor: CurrentActor, app: AppServices
) -> schema.Message:
    """Mail a code for a new password, if the address has an account. BeRay extension.

    The response does not reveal whether it has one.
    """
    await app.accounts.request_password_reset(body.email, actor)
    return {"message": "If the address has an account, a code is on its way."}


@router.post(
    "/auth/reset-password",
    responses=error_statuses(
        {
            422: "The code is wrong or has expired, the password is too common, or a value is "
            "invalid.",
            429: "Too many attempts.",
            503: "Too many clients wait for a password check.",
        }
    ),
)
async def reset_password(
    body: RegistrationRequest, actor: CurrentActor, app: AppServices
) -> schema.Session:
    """Set a new password with a mailed code, end all sessions, and sign in. BeRay extension."""
    signed_in = await app.accounts.reset_password(
        body.email, body.verification_code, body.password, actor
    )
    end_requests(app, signed_in.ended)
    return session_to_wire(signed_in)


@router.post("/auth/logout")
async def logout(
    request: Request, user: OwnAccountUser, actor: CurrentActor, app: AppServices
) -> schema.Message:
    """End the session: its token becomes invalid, and its active requests end."""
    digest = secret_digest(bearer_token(request))
    record = actor.as_user(user.email).record("sign-out", user.email)
    await run_in_threadpool(app.token_repository.delete, digest, record)
    app.active_requests.end(digest, except_for=request_state(request.scope).active)
    return {"message": "Signed out."}


def session_to_wire(signed_in: SignedIn) -> schema.Session:
    """Return a new session in the format of the API."""
    return {
        "access_token": signed_in.token,
        "token_type": "bearer",
        "user": user_to_wire(signed_in.user),
    }


def user_to_wire(user: User) -> schema.User:
    """Return an account in the format of the API."""
    return {
        "id": user.id,
        "email": user.email,
        "created_at": user.created_at,
        "role": user.role,
        "must_change_password": user.must_change_password,
    }
