"""Responses about sessions, and those of the administration, as TypedDicts. BeRay extensions."""

from __future__ import annotations

from typing import Annotated, NotRequired

from typing_extensions import TypedDict  # required by pydantic before Python 3.12

from beray.schema import OR_NULL, ResponseSchema, lenient


@lenient
class SignedInDevice(TypedDict):
    """Session of the user's account. BeRay extension."""

    id: str
    current: NotRequired[bool]
    """True for the session of the request."""
    device: NotRequired[Annotated[str, OR_NULL]]
    """``User-Agent`` of the sign-in."""
    address: NotRequired[Annotated[str, OR_NULL]]
    """IP address of the sign-in."""
    created_at: NotRequired[Annotated[str, OR_NULL]]
    last_used_at: NotRequired[Annotated[str, OR_NULL]]
    expires_at: NotRequired[Annotated[str, OR_NULL]]


@lenient
class ManagedUser(TypedDict):
    """Account as administrators see it. BeRay extension."""

    id: int
    email: str
    role: str
    created_at: NotRequired[str]
    disabled: NotRequired[bool]
    must_change_password: NotRequired[bool]
    last_sign_in_at: NotRequired[str | None]
    tasks: NotRequired[int]
    """Number of tasks and chats."""
    storage_bytes: NotRequired[int]
    """Size of the work_dirs, up to a minute old."""
    tokens: NotRequired[int]
    """Tokens that models have used for the user."""


@lenient
class ManagedUsers(TypedDict):
    """Page of accounts. BeRay extension."""

    users: list[ManagedUser]
    next_after: NotRequired[int | None]
    """Value of ``after`` for the next page; null on the last page."""


@lenient
class TemporaryPassword(TypedDict):
    """Password that an administrator set. BeRay extension."""

    email: str
    password: str
    """The user has to change it at the next sign-in."""


@lenient
class Invitation(TypedDict):
    """Permission to register an address. BeRay extension."""

    email: str
    role: str
    invited_by: NotRequired[str]
    created_at: NotRequired[str]
    expires_at: NotRequired[str]
    mailed: NotRequired[bool]
    """True if the invitation was mailed; only in the response that creates it."""


@lenient
class AuditEntry(TypedDict):
    """Entry of the audit log. BeRay extension."""

    id: int
    created_at: str
    actor: str
    """Address of the user, ``operator`` on the server's host, or empty if unknown."""
    address: str
    """IP address of the client."""
    action: str
    object: str
    request_id: str


DEVICES: ResponseSchema[list[SignedInDevice]] = ResponseSchema(list[SignedInDevice], list)
MANAGED_USER: ResponseSchema[ManagedUser] = ResponseSchema(ManagedUser)
MANAGED_USERS: ResponseSchema[ManagedUsers] = ResponseSchema(ManagedUsers)
TEMPORARY_PASSWORD: ResponseSchema[TemporaryPassword] = ResponseSchema(TemporaryPassword)
INVITATION: ResponseSchema[Invitation] = ResponseSchema(Invitation)
INVITATIONS: ResponseSchema[list[Invitation]] = ResponseSchema(list[Invitation], list)
AUDIT_ENTRIES: ResponseSchema[list[AuditEntry]] = ResponseSchema(list[AuditEntry], list)
