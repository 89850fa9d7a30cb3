"""Routes of the administration: ``/admin``. BeRay extension."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from beray import account_schema, schema
from beray.server.accounts import administration
from beray.server.accounts.administration import Changed
from beray.server.accounts.audit_feed import entries_after
from beray.server.accounts.email_address import parse_email
from beray.server.accounts.mail import MailAddressRejected, MailDeliveryError
from beray.server.api.accounts import CodeRequest
from beray.server.api.api_keys import ApiKeyRequest, created_to_wire
from beray.server.api.dependencies import (
    Administrator,
    AppServices,
    CurrentActor,
    end_requests,
)
from beray.server.api.error_statuses import error_statuses
from beray.server.http.integers import INTEGER_SCHEMA, parse_integer
from beray.server.http.strict_json import StrictRoute
from beray.server.services import Services
from beray.server.storage.accounts import ADMINISTRATOR, AccountUsage
from beray.server.storage.tables import AuditEntry, Invitation, User

MAX_USERS: Final = 100
MAX_AUDIT_ENTRIES: Final = 1_000
MAX_WAIT_SECONDS: Final = 25.0
MAX_INVITATION_SECONDS: Final = 366 * 24 * 3600

router = APIRouter(
    prefix=f"{schema.API_PREFIX}/admin", tags=["administration"], route_class=StrictRoute
)

_USER: Final = {404: "The account does not exist."}
_LAST: Final = {409: "The account is the last administrator."}


class NewUserRequest(CodeRequest):
    """Body of the creation of a service account."""

    role: schema.Role = Field(
        "service", description="Only `service`: other accounts are invited and register."
    )


class UserChangeRequest(BaseModel):
    """Body of a change of an account; missing values remain."""

    role: schema.Role | None = None
    disabled: bool | None = None
    must_change_password: bool | None = Field(
        None, description="True: the user has to change the password before anything else."
    )


class InvitationRequest(CodeRequest):
    """Body of an invitation."""

    role: schema.Role = "user"
    expires_in_seconds: float | None = Field(
        None,
        gt=0,
        le=MAX_INVITATION_SECONDS,
        description="Validity; null: `BERAY_INVITATION_SECONDS`.",
    )


UserId = Annotated[str, Path(json_schema_extra=INTEGER_SCHEMA, description="Id of the account.")]


def _number(user_id: str) -> int:
    number = parse_integer(user_id)
    if not number:
        raise HTTPException(404, f"User {user_id} does not exist.")
    return number


@router.get("/users")
async def list_users(
    _admin: Administrator,
    app: AppServices,
    search: Annotated[
        str, Query(max_length=320, description="Part of the addresses to return.")
    ] = "",
    email: Annotated[
        str | None,
        Query(max_length=320, description="Address of the only account to return."),
    ] = None,
    after: Annotated[int, Query(ge=0, lt=2**63, description="Id after which the page starts.")] = 0,
    limit: Annotated[
        int, Query(ge=1, le=MAX_USERS, description="Maximum number of accounts.")
    ] = 50,
) -> account_schema.ManagedUsers:
    """Return accounts with their usage, by id. BeRay extension."""
    if email is not None:
        user = await run_in_threadpool(app.administration.find, email)
        single = [] if user is None else [await run_in_threadpool(_to_wire, app, user)]
        return {"users": single, "next_after": None}
    found = await run_in_threadpool(app.account_repository.page, search, after, limit + 1)
    users = await run_in_threadpool(lambda: [_to_wire(app, user) for user in found[:limit]])
    return {"users": users, "next_after": found[limit - 1].id if len(found) > limit else None}


@router.post(
    "/users",
    status_code=201,
    responses=error_statuses(
        {409: "The address is already registered.", 422: "The address or the role is invalid."}
    ),
)
async def create_user(
    body: NewUserRequest, admin: Administrator, actor: CurrentActor, app: AppServices
) -> account_schema.ManagedUser:
    """Create a service account, which has API keys and no password. BeRay extension."""
    if body.role != "service":
        raise HTTPException(
            422, f"An account with the role {body.role} is not created, but invited."
        )
    user = await run_in_threadpool(
        app.administration.create, body.email, None, body.role, actor.as_user(admin.email)
    )
    return await run_in_threadpool(_to_wire, app, user)


@router.get("/users/{user_id}", responses=error_statuses(_USER))
async def get_user(
    user_id: UserId, _admin: Administrator, app: AppServices
) -> account_schema.ManagedUser:
    """Return an account with its usage. BeRay extension."""
    user = await run_in_threadpool(app.administration.get, _number(user_id))
    return await run_in_threadpool(_to_wire, app, user)


@router.patch("/users/{user_id}", responses=error_statuses({**_USER, **_LAST}))
async def change_user(
    user_id: UserId,
    body: UserChangeRequest,
    admin: Administrator,
    actor: CurrentActor,
    app: AppServices,
) -> account_schema.ManagedUser:
    """Change the role of an account, disable or enable it, or require a new password.

    A disabled account cannot sign in, its sessions and keys are invalid, and its tasks are
    stopped. BeRay extension.
    """
    number, actor = _number(user_id), actor.as_user(admin.email)
    changes = app.administration
    user = await run_in_threadpool(changes.get, number)
    if body.role is not None and body.role != user.role:
        user = _applied(app, await run_in_threadpool(changes.set_role, number, body.role, actor))
    if body.disabled is not None:
        user = _applied(
            app,
            await run_in_threadpool(
                lambda: changes.set_disabled(number, actor, disabled=body.disabled is True)
            ),
        )
        if body.disabled:
            await app.account_deletion.stop_tasks(number)
    if body.must_change_password:
        user = await run_in_threadpool(changes.require_password_change, number, actor)
    return await run_in_threadpool(_to_wire, app, user)


@router.delete("/users/{user_id}", responses=error_statuses({**_USER, **_LAST}))
async def delete_user(
    user_id: UserId, admin: Administrator, actor: CurrentActor, app: AppServices
) -> schema.Message:
    """Delete an account with its tasks, events, files and keys. BeRay extension."""
    number = _number(user_id)
    user = _applied(
        app,
        await run_in_threadpool(
            app.administration.begin_deletion, number, actor.as_user(admin.email)
        ),
    )
    if await app.account_deletion.remove_data(number):
        return {"message": f"The account of {user.email} and its data were deleted."}
    return {"message": f"The account of {user.email} was deleted; its data is being removed."}


@router.post(
    "/users/{user_id}/reset-password",
    responses=error_statuses({**_USER, 409: "The account has no password."}),
)
async def reset_password(
    user_id: UserId, admin: Administrator, actor: CurrentActor, app: AppServices
) -> account_schema.TemporaryPassword:
    """Set a temporary password, which only this response contains, and end all sessions.

    The user has to change it at the next sign-in. BeRay extension.
    """
    number, actor = _number(user_id), actor.as_user(admin.email)
    password = administration.temporary_password()
    hashed = await app.accounts.passwords.hash(password, actor)
    changed = await run_in_threadpool(app.administration.reset_password, number, hashed, actor)
    return {"email": _applied(app, changed).email, "password": password}


@router.post("/users/{user_id}/revoke-sessions", responses=error_statuses(_USER))
async def revoke_sessions(
    user_id: UserId, admin: Administrator, actor: CurrentActor, app: AppServices
) -> schema.Message:
    """End all sessions of an account. Its API keys remain. BeRay extension."""
    changed = await run_in_threadpool(
        app.administration.revoke_sessions, _number(user_id), actor.as_user(admin.email)
    )
    _applied(app, changed)
    return {"message": administration.sessions_ended_message(len(changed.ended))}


@router.post(
    "/users/{user_id}/apikeys",
    status_code=201,
    responses=error_statuses({**_USER, 409: "The account is not a service account."}),
)
async def create_api_key(
    user_id: UserId,
    body: ApiKeyRequest,
    admin: Administrator,
    actor: CurrentActor,
    app: AppServices,
) -> schema.CreatedApiKey:
    """Create an API key of a service account. BeRay extension.

    `key` is returned only in this response.
    """
    row, key = await run_in_threadpool(
        app.administration.create_key,
        _number(user_id),
        body.to_new_key(),
        actor.as_user(admin.email),
    )
    return created_to_wire(row, key)


@router.get("/invitations")
async def list_invitations(
    _admin: Administrator, app: AppServices
) -> list[account_schema.Invitation]:
    """Return the valid invitations, newest first. BeRay extension."""
    found = await run_in_threadpool(app.invitation_repository.list_all)
    return [invitation_to_wire(invitation) for invitation in found]


@router.post(
    "/invitations",
    status_code=201,
    responses=error_statuses(
        {409: "The address is already registered.", 422: "The address or the role is invalid."}
    ),
)
async def invite(
    body: InvitationRequest, admin: Administrator, actor: CurrentActor, app: AppServices
) -> account_schema.Invitation:
    """Permit an address to register, and mail it if a mail server is configured.

    An earlier invitation of the address is replaced. BeRay extension.
    """
    invitation = await run_in_threadpool(
        app.administration.invite,
        body.email,
        body.role,
        body.expires_in_seconds or app.settings.invitation_seconds,
        actor.as_user(admin.email),
    )
    mailed = False
    if app.settings.smtp_host is not None:
        try:
            await app.accounts.mails.send_invitation(
                parse_email(invitation.email), _invitation_text(app, invitation)
            )
            mailed = True
        except (MailDeliveryError, MailAddressRejected):
            mailed = False  # the mailer has logged the reason; the response reports it
    return {**invitation_to_wire(invitation), "mailed": mailed}


@router.delete(
    "/invitations/{email:path}", responses=error_statuses({404: "The address has no invitation."})
)
async def withdraw_invitation(
    email: Annotated[str, Path(description="Invited address.")],
    admin: Administrator,
    actor: CurrentActor,
    app: AppServices,
) -> schema.Message:
    """Withdraw an invitation. BeRay extension."""
    await run_in_threadpool(
        app.administration.withdraw_invitation, email, actor.as_user(admin.email)
    )
    return {"message": f"The invitation of {email} was withdrawn."}


@router.get("/audit")
async def list_audit_entries(
    admin: Administrator,
    app: AppServices,
    after: Annotated[
        int | None,
        Query(
            ge=0,
            lt=2**63,
            description="Id after which the page starts; without it, the newest entries.",
        ),
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_AUDIT_ENTRIES, description="Maximum number of entries.")
    ] = 100,
    wait_seconds: Annotated[
        float,
        Query(ge=0, le=MAX_WAIT_SECONDS, description="Maximum wait for the first entry."),
    ] = 0.0,
) -> list[account_schema.AuditEntry]:
    """Return entries of the audit log, oldest first. BeRay extension.

    Sign-ins, failed sign-ins, changes of passwords, keys, roles and sessions, and all actions of
    administrators are recorded.
    """
    if after is None:
        after = max(0, await run_in_threadpool(app.audit_repository.newest_id) - limit)
    entries = await entries_after(app.audit_repository, after, limit, wait_seconds)
    current = await run_in_threadpool(app.account_repository.get, admin.id)
    if current is None or current.role != ADMINISTRATOR:  # changed during the wait
        raise HTTPException(403, "Only administrators can do this.")
    return [audit_entry_to_wire(entry) for entry in entries]


def _applied(app: Services, changed: Changed) -> User:
    """End the requests of revoked credentials; return the changed account."""
    end_requests(app, changed.ended)
    app.active_requests.restore(changed.restored)
    return changed.user


def _to_wire(app: Services, user: User) -> account_schema.ManagedUser:
    """Return an account with its usage in the format of the API. Blocks."""
    usage = app.account_repository.usage(user.id)
    return managed_user_to_wire(user, usage, app.storage_usage.of_user(user.id))


def managed_user_to_wire(
    user: User, usage: AccountUsage, storage_bytes: int
) -> account_schema.ManagedUser:
    """Return an account with its usage in the format of the API."""
    return {
        "id": user.id,
        "email": user.email,
        "role": user.role,
        "created_at": user.created_at,
        "disabled": user.disabled_at is not None,
        "must_change_password": user.must_change_password,
        "last_sign_in_at": user.last_sign_in_at,
        "tasks": usage.tasks,
        "storage_bytes": storage_bytes,
        "tokens": usage.tokens,
    }


def invitation_to_wire(invitation: Invitation) -> account_schema.Invitation:
    """Return an invitation in the format of the API."""
    return {
        "email": invitation.email,
        "role": invitation.role,
        "invited_by": invitation.invited_by,
        "created_at": invitation.created_at,
        "expires_at": invitation.expires_at,
    }


def _invitation_text(app: Services, invitation: Invitation) -> str:
    server = app.settings.public_url or "the server of your administrator"
    register = "beray register" + (
        f" --url {app.settings.public_url}" if app.settings.public_url else ""
    )
    return (
        f"{invitation.invited_by} invites you to BeRay on {server}.\n\n"
        f"Create your account with this address until {invitation.expires_at}:\n\n"
        f"    {register}\n"
    )


def audit_entry_to_wire(entry: AuditEntry) -> account_schema.AuditEntry:
    """Return an entry of the audit log in the format of the API."""
    return {
        "id": entry.id,
        "created_at": entry.created_at,
        "actor": entry.actor,
        "address": entry.address,
        "action": entry.action,
        "object": entry.object,
        "request_id": entry.request_id,
    }
