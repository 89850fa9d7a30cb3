"""Administration of accounts in the data directory of a stopped server: a composition root.

The methods of ``OfflineAdministration`` are those of ``beray.administration.ServerAdministration``,
so that commands use either.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from beray import account_schema, schema
from beray.api_keys import new_key_body
from beray.exceptions import BeRayException
from beray.server.account_data.storage_usage import StorageUsage
from beray.server.accounts import administration
from beray.server.accounts.actors import LOCAL_OPERATOR
from beray.server.accounts.administration import Administration
from beray.server.accounts.password_hashing import hasher
from beray.server.api.admin import (
    InvitationRequest,
    audit_entry_to_wire,
    invitation_to_wire,
    managed_user_to_wire,
)
from beray.server.api.api_keys import ApiKeyRequest, created_to_wire
from beray.server.http.errors import ApiHTTPError
from beray.server.http.validation_errors import from_validation_error
from beray.server.lifecycle import CannotServe, DataDirInUse, load_settings, locked_data_dir
from beray.server.services import DATABASE_FILE
from beray.server.settings import Settings
from beray.server.storage.accounts import AccountRepository
from beray.server.storage.api_keys import ApiKeyRepository
from beray.server.storage.audit import AuditRepository
from beray.server.storage.database import Database, UnusableDatabase
from beray.server.storage.database_errors import StorageError, error_text
from beray.server.storage.disk_reserve import FILE_NAME, DiskReserve
from beray.server.storage.invitations import InvitationRepository
from beray.server.storage.tables import User
from beray.server.storage.tasks import TaskRepository
from beray.server.storage.tokens import TokenRepository

LOCK_SECONDS: Final = 1.0
"""Maximum wait for the end of another command on the same directory."""
PAGE_USERS: Final = 100


class OfflineAdministration:
    """Administration of the accounts of a stopped server. The actor is the operator.

    Args:
        settings: Settings of the environment, with the data directory, which is locked.
        database: Database of the server.

    Attributes:
        public_url: URL of the server, if ``BERAY_PUBLIC_URL`` is set.
    """

    def __init__(self, *, settings: Settings, database: Database) -> None:
        self.public_url = settings.public_url
        self._invitation_seconds = settings.invitation_seconds
        self._accounts = AccountRepository(database=database)
        self._storage_usage = StorageUsage(
            tasks=TaskRepository(database=database),
            path_of=lambda task_id: settings.data_dir / "workspaces" / str(task_id),
        )
        self._invitations = InvitationRepository(database=database)
        self._audit = AuditRepository(database=database)
        self._administration = Administration(
            accounts=self._accounts,
            tokens=TokenRepository(database=database),
            api_keys=ApiKeyRepository(database=database),
            invitations=self._invitations,
        )

    def iter_users(self, search: str = "") -> Iterator[account_schema.ManagedUser]:
        """Yield the accounts whose address contains ``search``, by id."""
        after = 0
        while users := self._accounts.page(search, after, PAGE_USERS):
            yield from map(self._to_wire, users)
            after = users[-1].id

    def find_user(self, email: str) -> account_schema.ManagedUser | None:
        """Return the account with an address; ``None`` if it does not exist."""
        user = self._administration.find(email)
        return None if user is None else self._to_wire(user)

    def create_administrator(self, email: str, password: str) -> account_schema.ManagedUser:
        """Create an administrator.

        Raises:
            ApiHTTPError: 422, the address or the password is invalid; 409, the address is
                already registered.
        """
        checked = administration.checked_password(password, email)
        hashed = hasher.hash(checked)
        return self._to_wire(
            self._administration.create(email, hashed, "administrator", LOCAL_OPERATOR)
        )

    def create_service_account(self, email: str) -> account_schema.ManagedUser:
        """Create a service account.

        Raises:
            ApiHTTPError: 422, the address is invalid; 409, it is already registered.
        """
        return self._to_wire(self._administration.create(email, None, "service", LOCAL_OPERATOR))

    def change_user(
        self,
        user_id: int,
        *,
        role: schema.Role | None = None,
        disabled: bool | None = None,
        must_change_password: bool | None = None,
    ) -> account_schema.ManagedUser:
        """Change an account. Arguments that are ``None`` leave their property unchanged.

        Raises:
            ApiHTTPError: 404, the account does not exist; 409, it is the last administrator, or
                has no password.
        """
        user = self._administration.get(user_id)
        if role is not None and role != user.role:
            user = self._administration.set_role(user_id, role, LOCAL_OPERATOR).user
        if disabled is not None:
            user = self._administration.set_disabled(
                user_id, LOCAL_OPERATOR, disabled=disabled
            ).user
        if must_change_password:
            user = self._administration.require_password_change(user_id, LOCAL_OPERATOR)
        return self._to_wire(user)

    def delete_user(self, user_id: int) -> schema.Message:
        """Make an account unusable; the server removes its data when it starts.

        Raises:
            ApiHTTPError: 404, the account does not exist; 409, it is the last administrator.
        """
        user = self._administration.begin_deletion(user_id, LOCAL_OPERATOR).user
        return {
            "message": f"The account of {user.email} was deleted; the server removes its data "
            "when it starts."
        }

    def reset_password(self, user_id: int) -> account_schema.TemporaryPassword:
        """Set a temporary password, and end all sessions.

        Raises:
            ApiHTTPError: 404, the account does not exist; 409, it has no password.
        """
        password = administration.temporary_password()
        user = self._administration.reset_password(
            user_id, hasher.hash(password), LOCAL_OPERATOR
        ).user
        return {"email": user.email, "password": password}

    def revoke_sessions(self, user_id: int) -> schema.Message:
        """End all sessions of an account.

        Raises:
            ApiHTTPError: 404, the account does not exist.
        """
        ended = self._administration.revoke_sessions(user_id, LOCAL_OPERATOR).ended
        return {"message": administration.sessions_ended_message(len(ended))}

    def create_api_key(
        self,
        user_id: int,
        name: str,
        agent_id: str | None = None,
        *,
        scopes: Iterable[str] | None = None,
        expires_in_seconds: float | None = None,
    ) -> schema.CreatedApiKey:
        """Create an API key of a service account.

        Raises:
            ApiHTTPError: 404, the account does not exist; 409, it is not a service account, or
                has the maximum number of keys.
            ValidationError: An argument is invalid.
        """
        body = new_key_body(name, agent_id, scopes, expires_in_seconds)
        new = ApiKeyRequest.model_validate(body).to_new_key()
        return created_to_wire(*self._administration.create_key(user_id, new, LOCAL_OPERATOR))

    def list_invitations(self) -> list[account_schema.Invitation]:
        """Return the valid invitations, newest first."""
        return [invitation_to_wire(invitation) for invitation in self._invitations.list_all()]

    def invite(
        self, email: str, role: schema.Role = "user", *, expires_in_seconds: float | None = None
    ) -> account_schema.Invitation:
        """Permit an address to register. Nothing is mailed.

        Raises:
            ApiHTTPError: 422, the address or the role is invalid; 409, it is already registered.
            ValidationError: An argument is invalid.
        """
        body = {"email": email, "role": role, "expires_in_seconds": expires_in_seconds}
        request = InvitationRequest.model_validate(body)
        seconds = request.expires_in_seconds or self._invitation_seconds
        invitation = self._administration.invite(email, request.role, seconds, LOCAL_OPERATOR)
        return {**invitation_to_wire(invitation), "mailed": False}

    def withdraw_invitation(self, email: str) -> schema.Message:
        """Withdraw an invitation.

        Raises:
            ApiHTTPError: 404, the address has no valid invitation.
        """
        self._administration.withdraw_invitation(email, LOCAL_OPERATOR)
        return {"message": f"The invitation of {email} was withdrawn."}

    def audit(
        self, after: int | None = None, limit: int | None = None
    ) -> list[account_schema.AuditEntry]:
        """Return entries of the audit log, oldest first; without ``after``, the newest ones."""
        number = 100 if limit is None else limit
        start = max(0, self._audit.newest_id() - number) if after is None else after
        return [audit_entry_to_wire(entry) for entry in self._audit.page(start, number)]

    def _to_wire(self, user: User) -> account_schema.ManagedUser:
        used = self._storage_usage.of_user(user.id)
        return managed_user_to_wire(user, self._accounts.usage(user.id), used)


@contextmanager
def opened(data_dir: Path) -> Iterator[OfflineAdministration]:
    """Lock the data directory of a stopped server, and open its database.

    Errors of the administration during the block are converted as well.

    Raises:
        BeRayException: The directory has no database, a server uses it, it cannot be used, or the
            administration rejected a change; the message contains the reason and the next step.
    """
    path = data_dir.absolute()
    if not (path / DATABASE_FILE).is_file():
        raise BeRayException(
            f"{data_dir} is not the data directory of a server: it has no {DATABASE_FILE}; pass "
            "the --data-dir of `beray serve`"
        )
    previous = os.umask(0o077)  # as for the server; SQLite creates files in the directory
    try:
        settings = load_settings(path)
        with (
            _log_to_stderr(),
            locked_data_dir(path, LOCK_SECONDS),
            _database(path) as database,
        ):
            yield OfflineAdministration(settings=settings, database=database)
    except DataDirInUse:
        raise BeRayException(
            f"a server uses {data_dir}; stop it, or omit --data-dir to use its API"
        ) from None
    except (CannotServe, UnusableDatabase, ApiHTTPError) as error:
        raise BeRayException(str(error)) from None
    except ValidationError as error:
        problems = [from_validation_error(details) for details in error.errors()]
        raise BeRayException("; ".join(map(str, problems))) from None
    except StorageError as error:
        raise BeRayException(f"{data_dir} cannot be used: {error_text(error)}") from None
    finally:
        os.umask(previous)


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Keep log lines out of stdout, which has the results of the command."""
    if structlog.is_configured():
        yield
        return
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        yield
    finally:
        structlog.reset_defaults()


@contextmanager
def _database(data_dir: Path) -> Iterator[Database]:
    # The reserve of the server keeps its size, which a setting of the server determines.
    reserve = data_dir / FILE_NAME
    size = reserve.stat().st_size if reserve.is_file() else 0
    database = Database(data_dir / DATABASE_FILE, DiskReserve(reserve, size))
    try:
        yield database
    finally:
        database.close()
