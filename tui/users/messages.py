"""Messages that background threads post to the screens of the account and of the users.

Each has the client of the request, so that an answer for an earlier account is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.message import Message

if TYPE_CHECKING:
    from beray.account_schema import Invitation, ManagedUser, ManagedUsers, SignedInDevice
    from beray.schema import User


@dataclass(eq=False, repr=False)
class AccountArrived(Message):
    """The account and its sessions were read."""

    client: Any
    user: User
    sessions: list[SignedInDevice]


@dataclass(eq=False, repr=False)
class AccountFailed(Message):
    """The account or its sessions could not be read."""

    client: Any
    error: Exception


@dataclass(eq=False, repr=False)
class SessionsEnded(Message):
    """Sessions were ended; ``text`` is the confirmation of the server."""

    client: Any
    text: str


@dataclass(eq=False, repr=False)
class UsersArrived(Message):
    """A page of the users was read with these arguments."""

    client: Any
    search: str
    after: int
    page: ManagedUsers


@dataclass(eq=False, repr=False)
class UsersFailed(Message):
    """A page of the users could not be read."""

    client: Any
    search: str
    after: int
    error: Exception


@dataclass(eq=False, repr=False)
class InvitationsArrived(Message):
    """The open invitations were read."""

    client: Any
    invitations: list[Invitation]


@dataclass(eq=False, repr=False)
class UserChanged(Message):
    """A user was changed; ``text`` describes the change."""

    client: Any
    user: ManagedUser
    text: str


@dataclass(eq=False, repr=False)
class UserDeleted(Message):
    """A user was deleted; ``text`` is the confirmation of the server."""

    client: Any
    user_id: int
    text: str


@dataclass(eq=False, repr=False)
class PasswordReset(Message):
    """A user has a temporary password, which is shown once."""

    client: Any
    user_id: int
    email: str
    password: str


@dataclass(eq=False, repr=False)
class ActionDone(Message):
    """An action succeeded that changes no user; ``text`` describes it."""

    client: Any
    text: str


@dataclass(eq=False, repr=False)
class AdministrationFailed(Message):
    """An action failed; ``action`` completes the sentence "Could not …"."""

    client: Any
    action: str
    error: Exception
