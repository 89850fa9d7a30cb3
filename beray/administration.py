"""Administration of the accounts of a server: ``client.admin``. BeRay extension."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from beray import account_schema, schema
from beray.account_schema import (
    AuditEntry,
    Invitation,
    ManagedUser,
    ManagedUsers,
    TemporaryPassword,
)
from beray.api_keys import new_key_body
from beray.exceptions import APIError, ConnectionFailed
from beray.http import retry
from beray.http.transport import Transport, quote_path_segment
from beray.schema import CreatedApiKey, Message, Role

WAIT_SECONDS: Final = 20.0
"""Maximum wait of a request of ``follow_audit`` for a new entry."""
RECONNECT_SECONDS: Final = 300.0
"""Default time for which ``follow_audit`` tries to reach a server again."""


class ServerAdministration:
    """Administration of accounts, by a client that is signed in as an administrator.

    All methods raise ``AuthenticationError`` if it is not (401 or 403), and the exceptions that
    ``BeRayClient`` lists. Requests that create or change something are never repeated.

    Args:
        transport: Sends the requests.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def public_url(self) -> str:
        """URL of the server, as this client uses it."""
        return self._transport.base_url

    # Accounts

    def list_users(
        self, search: str = "", after: int | None = None, limit: int | None = None
    ) -> ManagedUsers:
        """Return a page of the accounts with their usage, by id.

        Args:
            search: Part of the addresses to return.
            after: ``next_after`` of the previous page; ``None`` for the first page.
            limit: Maximum number of accounts; the server applies at most 100.

        Raises:
            UnprocessableEntityError: ``limit`` or ``after`` is out of range.
        """
        return self._users(search=search or None, after=after, limit=limit)

    def iter_users(self, search: str = "") -> Iterator[ManagedUser]:
        """Yield all accounts, by id, with only one page in memory at a time.

        Args:
            search: Part of the addresses to return.
        """
        after: int | None = None
        while True:
            page = self.list_users(search, after)
            yield from page["users"]
            following = page.get("next_after")
            if following is None or (after is not None and following <= after):
                return
            after = following

    def find_user(self, email: str) -> ManagedUser | None:
        """Return the account with an address, in any spelling; ``None`` if it does not exist.

        Args:
            email: Complete address.
        """
        users = self._users(email=email)["users"]
        return users[0] if users else None

    def get_user(self, user_id: int) -> ManagedUser:
        """Return an account with its usage.

        Args:
            user_id: Id of the account.

        Raises:
            NotFoundError: The account does not exist.
        """
        return self._transport.json(account_schema.MANAGED_USER, "GET", _user_path(user_id))

    def create_service_account(self, email: str) -> ManagedUser:
        """Create a service account, which has API keys and no password.

        Other accounts are invited; see ``invite``.

        Args:
            email: Name of the account in the form of an address, to which nothing is mailed.

        Raises:
            ConflictError: The address is already registered.
            UnprocessableEntityError: The address is invalid.
        """
        body = {"email": email, "role": "service"}
        return self._transport.json(account_schema.MANAGED_USER, "POST", "/admin/users", json=body)

    def change_user(
        self,
        user_id: int,
        *,
        role: Role | None = None,
        disabled: bool | None = None,
        must_change_password: bool | None = None,
    ) -> ManagedUser:
        """Change an account. Arguments that are ``None`` leave their property unchanged.

        Args:
            user_id: Id of the account.
            role: New role. A new service account loses its password and its sessions.
            disabled: True disables the account: it cannot sign in, its sessions and keys are
                invalid, and its tasks are stopped. False enables it.
            must_change_password: True requires a new password at the next use of the account.

        Returns:
            The account with the changes.

        Raises:
            NotFoundError: The account does not exist.
            ConflictError: The account is the last administrator, or has no password.
        """
        changes = {"role": role, "disabled": disabled, "must_change_password": must_change_password}
        body = {name: value for name, value in changes.items() if value is not None}
        return self._transport.json(
            account_schema.MANAGED_USER, "PATCH", _user_path(user_id), json=body
        )

    def delete_user(self, user_id: int) -> Message:
        """Delete an account with its tasks, events, files and keys.

        Args:
            user_id: Id of the account.

        Returns:
            A confirmation, which states whether data is still being removed.

        Raises:
            NotFoundError: The account does not exist.
            ConflictError: The account is the last administrator.
        """
        return self._transport.json(schema.MESSAGE, "DELETE", _user_path(user_id))

    def reset_password(self, user_id: int) -> TemporaryPassword:
        """Set a temporary password, and end all sessions of the account.

        The user has to change the password at the next sign-in.

        Args:
            user_id: Id of the account.

        Returns:
            The password, which is returned only in this response.

        Raises:
            NotFoundError: The account does not exist.
            ConflictError: The account has no password.
        """
        path = f"{_user_path(user_id)}/reset-password"
        return self._transport.json(account_schema.TEMPORARY_PASSWORD, "POST", path)

    def revoke_sessions(self, user_id: int) -> Message:
        """End all sessions of an account. Its API keys remain valid.

        Args:
            user_id: Id of the account.

        Raises:
            NotFoundError: The account does not exist.
        """
        path = f"{_user_path(user_id)}/revoke-sessions"
        return self._transport.json(schema.MESSAGE, "POST", path)

    def create_api_key(
        self,
        user_id: int,
        name: str,
        agent_id: str | None = None,
        *,
        scopes: Iterable[str] | None = None,
        expires_in_seconds: float | None = None,
    ) -> CreatedApiKey:
        """Create an API key of a service account.

        Args:
            user_id: Id of the service account.
            name: Description of the key.
            agent_id: Id of the agent that uses the key.
            scopes: Operations that the key permits, as for ``BeRayClient.create_api_key``.
            expires_in_seconds: Validity; ``None`` until the key is revoked.

        Returns:
            The key. ``key`` is returned only in this response.

        Raises:
            InvalidArgument: ``scopes`` is a string instead of a list.
            NotFoundError: The account does not exist.
            ConflictError: The account is not a service account, or has the maximum number of
                keys.
            UnprocessableEntityError: An argument is invalid.
        """
        body = new_key_body(name, agent_id, scopes, expires_in_seconds)
        path = f"{_user_path(user_id)}/apikeys"
        return self._transport.json(schema.CREATED_API_KEY, "POST", path, json=body)

    # Invitations

    def list_invitations(self) -> list[Invitation]:
        """Return the valid invitations, newest first."""
        return self._transport.json(account_schema.INVITATIONS, "GET", "/admin/invitations")

    def invite(
        self, email: str, role: Role = "user", *, expires_in_seconds: float | None = None
    ) -> Invitation:
        """Permit an address to register. An earlier invitation of the address is replaced.

        Args:
            email: Address of the new account.
            role: ``user`` or ``administrator``.
            expires_in_seconds: Validity; ``None`` for the default of the server.

        Returns:
            The invitation. ``mailed`` is false if the server could not mail it, and the user has
            to be informed in another way.

        Raises:
            ConflictError: The address is already registered.
            UnprocessableEntityError: An argument is invalid.
        """
        body: dict[str, Any] = {"email": email, "role": role}
        if expires_in_seconds is not None:
            body["expires_in_seconds"] = expires_in_seconds
        return self._transport.json(
            account_schema.INVITATION, "POST", "/admin/invitations", json=body
        )

    def withdraw_invitation(self, email: str) -> Message:
        """Withdraw an invitation.

        Args:
            email: Address that was invited.

        Raises:
            NotFoundError: The address has no valid invitation.
        """
        path = f"/admin/invitations/{quote_path_segment(email)}"
        return self._transport.json(schema.MESSAGE, "DELETE", path)

    # Audit log

    def audit(
        self,
        after: int | None = None,
        limit: int | None = None,
        wait_seconds: float | None = None,
    ) -> list[AuditEntry]:
        """Return entries of the audit log, oldest first.

        Args:
            after: Id after which the entries start; ``None`` for the newest entries.
            limit: Maximum number of entries, up to 1,000; 100 by default.
            wait_seconds: Maximum wait for the first entry, up to 25; by default none. It has to be
                shorter than the read timeout of the client.

        Raises:
            UnprocessableEntityError: An argument is out of range.
        """
        params = {"after": after, "limit": limit, "wait_seconds": wait_seconds}
        return self._transport.json(
            account_schema.AUDIT_ENTRIES, "GET", "/admin/audit", params=_present(params)
        )

    def follow_audit(
        self, after: int | None = None, *, reconnect: float = RECONNECT_SECONDS
    ) -> Iterator[AuditEntry]:
        """Yield entries of the audit log, and wait for new ones. The iterator does not end.

        If the connection breaks or the server restarts, it continues after the last entry.

        Args:
            after: Id after which the entries start; ``None`` for the newest 100 entries first.
            reconnect: Seconds to try to reach the server again.

        Raises:
            ConnectionFailed: The server could not be reached for ``reconnect`` seconds.
            APIError: The server returned an error that a repetition cannot correct, or did so for
                ``reconnect`` seconds.
        """
        # A request ends in time, whatever the timeout of the client is.
        wait = min(WAIT_SECONDS, self._transport.timeout[1] / 2, self._transport.deadline / 2)
        attempt, reached_at = 0, time.monotonic()
        while True:
            try:
                # Without ``after``, the request returns at once: there may be no entries yet.
                entries = self.audit(after, wait_seconds=None if after is None else wait)
            except (ConnectionFailed, APIError) as error:
                delay = retry.retry_delay(error, attempt := attempt + 1, idempotent=True)
                if delay is None or time.monotonic() + delay - reached_at > reconnect:
                    raise
                time.sleep(delay)
                continue
            attempt, reached_at = 0, time.monotonic()
            yield from entries
            after = entries[-1]["id"] if entries else after or 0
            reached_at = time.monotonic()  # the caller may have taken any time

    def _users(self, **params: Any) -> ManagedUsers:
        return self._transport.json(
            account_schema.MANAGED_USERS, "GET", "/admin/users", params=_present(params)
        )


def _user_path(user_id: int) -> str:
    return f"/admin/users/{quote_path_segment(user_id)}"


def _present(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}
