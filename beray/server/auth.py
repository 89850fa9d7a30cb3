"""The routes of accounts: ``/auth`` and ``/users``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, ParamSpec, TypeVar

import anyio
from anyio import CapacityLimiter
from fastapi import APIRouter, Form, HTTPException, Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from beray import schema
from beray.server import accounts
from beray.server.dependencies import AppServices, CurrentToken, CurrentUser, digest
from beray.server.mail import MailFailed
from beray.server.strict_route import StrictRoute
from beray.server.tables import User

P = ParamSpec("P")
T = TypeVar("T")

router = APIRouter(tags=["accounts"], route_class=StrictRoute)

_WRONG_PAIRS = RateLimitItemPerMinute(10)
_limiter = MovingWindowRateLimiter(MemoryStorage())
# One argon2 check takes 64 MiB: more at once than there are cores gains nothing.
_hashing = CapacityLimiter(os.cpu_count() or 1)


class Email(BaseModel):
    email: str = Field(min_length=3, max_length=320)


class Credentials(Email):
    password: str = Field(max_length=1024)


class Registration(Email):
    verification_code: str = Field(max_length=64)
    password: str = Field(min_length=8, max_length=1024)


async def _hashed(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await anyio.to_thread.run_sync(lambda: function(*args, **kwargs), limiter=_hashing)


@router.post("/auth/request-verification-code")
async def request_verification_code(body: Email, app: AppServices) -> schema.Message:
    """Mail a 6-digit code: valid 10 minutes, dead after 5 wrong tries, one mail a minute."""
    try:
        await run_in_threadpool(accounts.send_code, app, body.email)
    except MailFailed as error:
        raise HTTPException(503, f"The code could not be mailed: {error}.") from None
    return {"message": "A verification code is on its way."}


@router.post("/auth/register")
async def register(body: Registration, app: AppServices) -> schema.Session:
    """Make an account with a code that was mailed, and sign in to it."""
    user, token = await _hashed(
        accounts.register, app, body.email, body.verification_code, body.password
    )
    return _session(user, token)


@router.post("/auth/login")
async def login(body: Credentials, request: Request, app: AppServices) -> schema.Session:
    return await _sign_in(app, request, body.email, body.password)


@router.post("/auth/token")
async def login_with_form(
    username: Annotated[str, Form(max_length=320)],
    password: Annotated[str, Form(max_length=1024)],
    request: Request,
    app: AppServices,
) -> schema.Session:
    """The OAuth2 password flow (RFC 6749, 4.3)."""
    return await _sign_in(app, request, username, password)


async def _sign_in(app: AppServices, request: Request, email: str, password: str) -> schema.Session:
    key = (request.client.host if request.client else "", email.strip().lower())
    # Counted before the check, which takes its time: requests side by side count as well.
    if not _limiter.hit(_WRONG_PAIRS, *key):
        raise accounts.Refused(429, "Too many wrong passwords; wait a minute.", 60)
    user, token = await _hashed(accounts.sign_in, app, email, password)
    _limiter.clear(_WRONG_PAIRS, *key)
    return _session(user, token)


@router.post("/auth/logout")
async def logout(token: CurrentToken, _user: CurrentUser, app: AppServices) -> schema.Message:
    """End the session: the token is dead from now on."""
    await run_in_threadpool(app.store.remove_token, digest(token))
    return {"message": "Signed out."}


@router.get("/users/me")
async def current_user(user: CurrentUser) -> schema.User:
    return _public(user)


def _session(user: User, token: str) -> schema.Session:
    return {"access_token": token, "token_type": "bearer", "user": _public(user)}


def _public(user: User) -> schema.User:
    return {"id": user.id, "email": user.email, "created_at": user.created_at}
