"""Routes of the user's own account: ``/users/me``."""

from __future__ import annotations

from contextlib import ExitStack

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from beray import schema
from beray.server.api.accounts import CodeRequest, NewPassword, user_to_wire
from beray.server.api.dependencies import (
    AnyUser,
    AppServices,
    CurrentActor,
    OwnAccountUser,
    SessionUser,
    bearer_token,
    end_requests,
)
from beray.server.api.error_statuses import error_statuses
from beray.server.files.file_response import ThreadedResponse
from beray.server.http.active_requests import request_state
from beray.server.http.strict_json import StrictRoute
from beray.server.storage.digests import secret_digest

router = APIRouter(prefix=f"{schema.API_PREFIX}/users", tags=["accounts"], route_class=StrictRoute)

_BUSY = {
    429: "Too many wrong passwords or codes.",
    503: "Too many clients wait for a password check.",
}


class PasswordRequest(BaseModel):
    """Body of a request that the user confirms with the password."""

    password: str = Field(max_length=1024)


class PasswordChangeRequest(PasswordRequest):
    """Body of a change of the password."""

    new_password: NewPassword


class EmailRequest(CodeRequest):
    """Body of a request for the codes of a change of the address."""

    password: str = Field(max_length=1024)


class EmailChangeRequest(CodeRequest):
    """Body of a change of the address."""

    current_code: str = Field(max_length=64, description="Code mailed to the current address.")
    new_code: str = Field(max_length=64, description="Code mailed to the new address.")


@router.get("/me")
async def current_user(user: AnyUser) -> schema.User:
    """Return the signed-in user."""
    return user_to_wire(user)


@router.post(
    "/me/password",
    responses=error_statuses(
        {
            403: "The current password is wrong.",
            409: "The password was changed by another request meanwhile.",
            422: "The new password is too short, common or derived from the address.",
            **_BUSY,
        }
    ),
)
async def change_password(
    body: PasswordChangeRequest,
    request: Request,
    user: OwnAccountUser,
    actor: CurrentActor,
    app: AppServices,
) -> schema.Message:
    """Change the password, and end all other sessions. BeRay extension."""
    ended = await app.accounts.change_password(
        user,
        secret_digest(bearer_token(request)),
        body.password,
        body.new_password,
        actor.as_user(user.email),
    )
    end_requests(app, ended)
    return {"message": "The password was changed. Other sessions were ended."}


@router.post(
    "/me/request-email-change",
    responses=error_statuses(
        {
            403: "The password is wrong, or the new address may not register.",
            409: "The new address is already registered.",
            422: "The new address is invalid.",
            **_BUSY,
        }
    ),
)
async def request_email_change(
    body: EmailRequest, user: SessionUser, actor: CurrentActor, app: AppServices
) -> schema.Message:
    """Mail a code to the current and to the new address. BeRay extension."""
    await app.accounts.request_email_change(
        user, body.email, body.password, actor.as_user(user.email)
    )
    return {"message": "A code is on its way to both addresses."}


@router.post(
    "/me/email",
    responses=error_statuses(
        {
            409: "The new address is already registered.",
            422: "A code is wrong or has expired.",
            429: "Too many wrong codes.",
        }
    ),
)
async def change_email(
    body: EmailChangeRequest, user: SessionUser, actor: CurrentActor, app: AppServices
) -> schema.User:
    """Change the address with the codes of both addresses. BeRay extension."""
    changed = await app.accounts.change_email(
        user, body.email, (body.current_code, body.new_code), actor.as_user(user.email)
    )
    return user_to_wire(changed)


@router.post(
    "/me/delete",
    responses=error_statuses(
        {
            403: "The password is wrong.",
            409: "The account is the last administrator.",
            **_BUSY,
        }
    ),
)
async def delete_account(
    body: PasswordRequest,
    request: Request,
    user: SessionUser,
    actor: CurrentActor,
    app: AppServices,
) -> schema.Message:
    """Delete the account with its tasks, events, files and keys. BeRay extension.

    Running tasks are stopped. The account is unusable at once; large amounts of data are removed
    in the background.
    """
    actor = actor.as_user(user.email)
    current = await app.accounts.require_password(user, body.password, actor)
    changed = await run_in_threadpool(
        app.administration.begin_deletion,
        user.id,
        actor,
        password_hash=current.password_hash,
    )
    end_requests(app, changed.ended, except_for=request_state(request.scope).active)
    if await app.account_deletion.remove_data(user.id):
        return {"message": "The account and its data were deleted."}
    return {"message": "The account was deleted; its data is being removed."}


@router.get(
    "/me/export",
    response_class=Response,
    responses={
        200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}
    },
)
def export_data(user: SessionUser, actor: CurrentActor, app: AppServices) -> Response:
    """Return a ZIP archive of the account, its tasks with events and files, and its chats.

    The archive is produced while it is sent; a file that changes meanwhile breaks the connection,
    so that no incomplete archive looks complete. BeRay extension.
    """
    app.audit_repository.add(actor.as_user(user.email).record("account.exported", user.email))
    return ThreadedResponse(
        app.account_export.stream(user),
        ExitStack(),
        headers={"Content-Disposition": 'attachment; filename="beray-export.zip"'},
        media_type="application/zip",
    )
