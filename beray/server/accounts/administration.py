"""Administration of accounts, used by routes and by commands on a stopped server's data.

All methods are synchronous and called in threads.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from beray.schema import Role
from beray.server.accounts.actors import Actor
from beray.server.accounts.email_address import account_key, parse_email
from beray.server.accounts.password_policy import check_new_password
from beray.server.http.active_requests import api_key_credential_id
from beray.server.http.errors import ApiHTTPError
from beray.server.storage.accounts import (
    AccountExists,
    AccountGone,
    AccountRepository,
    LastAdministrator,
)
from beray.server.storage.api_keys import ApiKeyRepository, NewApiKey, TooManyKeys
from beray.server.storage.invitations import InvitationRepository
from beray.server.storage.tables import ApiKey, Invitation, User
from beray.server.storage.tokens import TokenRepository

TEMPORARY_BYTES: Final = 12
"""Random bytes of a temporary password."""


class Changed(NamedTuple):
    """A changed account, and the effect on its credentials.

    Attributes:
        ended: Credential ids whose active requests have to end.
        restored: Credential ids that are valid again.
    """

    user: User
    ended: list[str]
    restored: tuple[str, ...] = ()


class Administration:
    """Changes of accounts by an administrator or an operator.

    Args:
        accounts: Repository of accounts.
        tokens: Repository of sessions.
        api_keys: Repository of API keys.
        invitations: Repository of invitations.
    """

    def __init__(
        self,
        *,
        accounts: AccountRepository,
        tokens: TokenRepository,
        api_keys: ApiKeyRepository,
        invitations: InvitationRepository,
    ) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._api_keys = api_keys
        self._invitations = invitations

    def get(self, user_id: int) -> User:
        """Return an account.

        Raises:
            ApiHTTPError: 404, the account does not exist.
        """
        user = self._accounts.get(user_id)
        if user is None or user.deleted_at is not None:
            raise _missing(user_id)
        return user

    def find(self, email: str) -> User | None:
        """Return the account with an address in any spelling; ``None`` if it does not exist."""
        for spelling in account_key(email):
            user = self._accounts.find(spelling)
            if user is not None and user.deleted_at is None:
                return user
        return None

    def create(self, email: str, password_hash: str | None, role: Role, actor: Actor) -> User:
        """Create an account.

        Raises:
            ApiHTTPError: 422, the address is invalid; 409, it is already registered.
        """
        address = parse_email(email)
        record = actor.record("account.created", f"{address.text} ({role})")
        try:
            return self._accounts.create(address.text, password_hash, role=role, record=record)
        except AccountExists:
            raise ApiHTTPError(409, f"{address.text} is already registered.") from None

    def invite(self, email: str, role: Role, seconds: float, actor: Actor) -> Invitation:
        """Permit an address to register; replace an earlier invitation.

        Raises:
            ApiHTTPError: 422, the address or the role is invalid; 409, the address is already
                registered.
        """
        address = parse_email(email)
        if role == "service":
            raise ApiHTTPError(
                422, "A service account has no password and cannot register; create it instead."
            )
        for spelling in address.spellings:
            if self._accounts.find(spelling) is not None:
                raise ApiHTTPError(409, f"{address.text} is already registered.")
        record = actor.record("invitation.created", f"{address.text} ({role})")
        return self._invitations.put(address.text, role, actor.email, seconds, record)

    def withdraw_invitation(self, email: str, actor: Actor) -> None:
        """Withdraw an invitation.

        Raises:
            ApiHTTPError: 404, the address has no valid invitation.
        """
        spelling = account_key(email)[0]
        if not self._invitations.delete(spelling, actor.record("invitation.withdrawn", spelling)):
            raise ApiHTTPError(404, f"{email} has no valid invitation.")

    def set_role(self, user_id: int, role: Role, actor: Actor) -> Changed:
        """Change the role of an account.

        Raises:
            ApiHTTPError: 404, the account does not exist; 409, it is the last administrator.
        """
        before = self._tokens.digests(user_id) if role == "service" else []
        user = self.get(user_id)
        record = actor.record("role.changed", f"{user.email}: {user.role} to {role}")
        with _http_errors(user_id):
            changed = self._accounts.set_role(user_id, role, record)
        return Changed(changed, before)

    def set_disabled(self, user_id: int, actor: Actor, *, disabled: bool) -> Changed:
        """Disable an account and end its sessions, or enable it.

        Raises:
            ApiHTTPError: 404, the account does not exist; 409, it is the last administrator.
        """
        credentials = self._credentials(user_id)
        user = self.get(user_id)
        action = "account.disabled" if disabled else "account.enabled"
        with _http_errors(user_id):
            changed = self._accounts.set_disabled(
                user_id, actor.record(action, user.email), disabled=disabled
            )
        if disabled:
            return Changed(changed, credentials)
        return Changed(changed, [], tuple(credentials))

    def require_password_change(self, user_id: int, actor: Actor) -> User:
        """Have the user change the password before anything else.

        Raises:
            ApiHTTPError: 404, the account does not exist; 409, it has no password.
        """
        user = self._with_password(user_id)
        with _http_errors(user_id):
            return self._accounts.require_password_change(
                user_id, actor.record("password.change-required", user.email)
            )

    def reset_password(self, user_id: int, hashed: str, actor: Actor) -> Changed:
        """Set a temporary password, which the user has to change, and end all sessions.

        Raises:
            ApiHTTPError: 404, the account does not exist; 409, it has no password.
        """
        user = self._with_password(user_id)
        with _http_errors(user_id):
            ended = self._accounts.force_password(
                user_id, hashed, actor.record("password.reset", user.email)
            )
        return Changed(user, ended)

    def revoke_sessions(self, user_id: int, actor: Actor) -> Changed:
        """End all sessions of an account.

        Raises:
            ApiHTTPError: 404, the account does not exist.
        """
        user = self.get(user_id)
        record = actor.record("sessions.revoked", user.email)
        return Changed(user, self._tokens.delete_all(user_id, record=record))

    def begin_deletion(
        self, user_id: int, actor: Actor, *, password_hash: str | None = None
    ) -> Changed:
        """Make an account unusable; its data is removed afterwards.

        Args:
            user_id: Account to delete.
            actor: Sender of the request.
            password_hash: Hash that was verified; the password must not have changed since.

        Raises:
            ApiHTTPError: 404, the account does not exist, or its password has changed; 409, it is
                the last administrator.
        """
        before = self._credentials(user_id)
        user = self.get(user_id)
        with _http_errors(user_id):
            self._accounts.begin_deletion(
                user_id,
                actor.record("account.deleted", user.email),
                password_hash=password_hash,
            )
        return Changed(user, before)

    def create_key(self, user_id: int, new: NewApiKey, actor: Actor) -> tuple[ApiKey, str]:
        """Create an API key of a service account; return its row and the secret.

        Raises:
            ApiHTTPError: 404, the account does not exist; 409, it is not a service account, or
                has the maximum number of keys.
        """
        user = self.get(user_id)
        if user.role != "service":
            raise ApiHTTPError(
                409,
                f"{user.email} is not a service account. Other users create their keys themselves.",
            )
        try:
            return self._api_keys.create(
                user_id, new, actor.record("apikey.created", f"{user.email}: {new.name}")
            )
        except TooManyKeys:
            raise ApiHTTPError(409, f"{user.email} has the maximum number of API keys.") from None

    def _with_password(self, user_id: int) -> User:
        user = self.get(user_id)
        if user.password_hash is None:
            raise ApiHTTPError(409, f"{user.email} has no password.")
        return user

    def _credentials(self, user_id: int) -> list[str]:
        """Return the credential ids of all sessions and API keys of an account."""
        keys = [api_key_credential_id(key.id) for key in self._api_keys.list_all(user_id)]
        return [*self._tokens.digests(user_id), *keys]


def temporary_password() -> str:
    """Return a random password."""
    return secrets.token_urlsafe(TEMPORARY_BYTES)


def checked_password(password: str, email: str) -> str:
    """Return a new password in normalized form; raises as ``check_new_password``."""
    return check_new_password(password, parse_email(email).text)


def sessions_ended_message(number: int) -> str:
    """Return the confirmation that ``number`` sessions were ended."""
    return f"{number} session{'' if number == 1 else 's'} ended."


@contextmanager
def _http_errors(user_id: int) -> Iterator[None]:
    """Convert the errors of a change of an account to error responses."""
    try:
        yield
    except LastAdministrator as error:
        raise ApiHTTPError(
            409, f"{error}. Give another account the role administrator first."
        ) from None
    except AccountGone:
        raise _missing(user_id) from None


def _missing(user_id: int) -> ApiHTTPError:
    return ApiHTTPError(404, f"User {user_id} does not exist.")
