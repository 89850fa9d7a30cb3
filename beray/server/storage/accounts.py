"""Repository of accounts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from beray.schema import Role
from beray.server.storage import invitations, tokens, verification_codes
from beray.server.storage.audit import AuditRecord
from beray.server.storage.database import Database
from beray.server.storage.tables import ApiKey, DayUsage, GatewayUsage, Task, User
from beray.server.storage.times import utc_now
from beray.server.storage.verification_codes import CodeKey

ADMINISTRATOR: Final = "administrator"
DELETED_PREFIX: Final = "deleted-"
"""Start of the stored address of an account whose data is being removed."""


class AccountExists(Exception):
    """The e-mail address is already registered."""


class NotInvited(Exception):
    """The e-mail address has no valid invitation."""


class CodeUsed(Exception):
    """The verification code was used by another request."""


class LastAdministrator(Exception):
    """The change would leave the server without an administrator."""


class AdministratorExists(Exception):
    """The server already has an administrator."""


class AccountGone(Exception):
    """The account does not exist, or is being deleted."""


class AccountUsage(NamedTuple):
    """Number of tasks of an account, and of the tokens that models have used for it."""

    tasks: int
    tokens: int


class AccountRepository:
    """Accounts of users. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def get(self, user_id: int) -> User | None:
        """Return the user with this id."""
        with self._database.reading() as session:
            return session.get(User, user_id)

    def find(self, email: str) -> User | None:
        """Return the user with this e-mail address in the stored spelling."""
        with self._database.reading() as session:
            return session.scalar(select(User).where(User.email == email))

    def create(
        self,
        email: str,
        password_hash: str | None,
        *,
        role: Role = "user",
        record: AuditRecord | None = None,
        must_be_first_administrator: bool = False,
    ) -> User:
        """Create an account.

        Args:
            email: Address in its canonical spelling.
            password_hash: Argon2 hash; ``None`` if the user cannot sign in with a password.
            role: Role of the account.
            record: Entry of the audit log.
            must_be_first_administrator: Whether another administrator is an error.

        Raises:
            AccountExists: The address is already registered.
            AdministratorExists: The server already has an administrator.
        """

        def add(session: Session) -> User:
            if must_be_first_administrator and _administrators(session):
                raise AdministratorExists
            return _add(session, email, password_hash, role, record)

        return self._created(email, add)

    def register(
        self, email: str, password_hash: str, *, needs_invitation: bool, record: AuditRecord
    ) -> User:
        """Create the account of a user who proved to own an address.

        An invitation of the address is used up and determines the role.

        Raises:
            AccountExists: The address is already registered.
            NotInvited: ``needs_invitation``, and the address has no valid invitation.
        """

        def add(session: Session) -> User:
            invitation = invitations.take(session, email)
            if needs_invitation and invitation is None:
                if session.scalar(select(exists().where(User.email == email))):
                    raise AccountExists(f"{email} is already registered")
                raise NotInvited
            role = "user" if invitation is None else invitation.role
            return _add(session, email, password_hash, role, record)

        return self._created(email, add)

    def _created(self, email: str, add: Callable[[Session], User]) -> User:
        try:
            with self._database.writing() as session:
                return add(session)
        except IntegrityError:
            raise AccountExists(f"{email} is already registered") from None

    # Passwords and addresses

    def rehash_password(self, user_id: int, old_hash: str, new_hash: str) -> None:
        """Replace the hash of an unchanged password, unless it has changed in the meantime."""
        unchanged = (User.id == user_id) & (User.password_hash == old_hash)
        replaced = update(User).where(unchanged).values(password_hash=new_hash)
        self._database.write_with_reserve(lambda session: session.execute(replaced))

    def reset_password(
        self, user_id: int, hashed: str, code: CodeKey, record: AuditRecord
    ) -> list[str]:
        """Set a new password with a mailed code, which is used up, and end all sessions.

        Returns:
            Digests of the sessions.

        Raises:
            CodeUsed: Another request has used the code.
            AccountGone: The account was deleted meanwhile.
        """

        def reset(session: Session) -> list[str]:
            user = _present(session, user_id)
            if not verification_codes.use(session, code):
                raise CodeUsed
            _set_password(user, hashed)
            record.add_to(session)
            return tokens.delete_of_user(session, user_id)

        return self._database.write_with_reserve(reset)

    def change_password(
        self, user_id: int, old_hash: str | None, hashed: str, keep: str, record: AuditRecord
    ) -> list[str] | None:
        """Set a new password and end all sessions except the one with the digest ``keep``.

        Returns:
            Digests of the ended sessions; ``None`` if the password is not ``old_hash`` any more,
            and nothing was changed.

        Raises:
            AccountGone: The account was deleted meanwhile.
        """

        def change(session: Session) -> list[str] | None:
            user = _present(session, user_id)
            if user.password_hash != old_hash:
                return None
            _set_password(user, hashed)
            record.add_to(session)
            return tokens.delete_of_user(session, user_id, keep)

        return self._database.write_with_reserve(change)

    def force_password(self, user_id: int, hashed: str, record: AuditRecord) -> list[str]:
        """Set a temporary password that the user has to change, and end all sessions.

        Returns:
            Digests of the sessions.

        Raises:
            AccountGone: The account does not exist.
        """

        def force(session: Session) -> list[str]:
            user = _present(session, user_id)
            _set_password(user, hashed)
            user.must_change_password = True
            record.add_to(session)
            return tokens.delete_of_user(session, user_id)

        return self._database.write_with_reserve(force)

    def change_email(
        self, user_id: int, email: str, codes: tuple[CodeKey, CodeKey], record: AuditRecord
    ) -> User:
        """Change the address of an account with codes that were mailed to both addresses.

        Raises:
            AccountExists: The new address is already registered.
            CodeUsed: Another request has used one of the codes.
            AccountGone: The account was deleted meanwhile.
        """
        try:
            with self._database.writing() as session:
                user = _present(session, user_id)
                if not all(verification_codes.use(session, code) for code in codes):
                    raise CodeUsed
                user.email = email
                record.add_to(session)
        except IntegrityError:
            raise AccountExists(f"{email} is already registered") from None
        return user

    # Administration

    def page(self, search: str, after: int, limit: int) -> list[User]:
        """Return accounts whose address contains ``search``, with an id above ``after``, by id."""
        found = select(User).where(User.id > after, User.deleted_at.is_(None))
        if search:
            found = found.where(User.email.contains(search.lower(), autoescape=True))
        with self._database.reading() as session:
            return list(session.scalars(found.order_by(User.id).limit(limit)))

    def usage(self, user_id: int) -> AccountUsage:
        """Return the usage of an account."""
        with self._database.reading() as session:
            tasks = session.scalar(select(func.count()).where(Task.user_id == user_id))
            spent = session.scalar(
                select(func.sum(DayUsage.tokens)).where(DayUsage.user_id == user_id)
            )
        return AccountUsage(tasks or 0, spent or 0)

    def has_administrator(self) -> bool:
        """Return True if an account that is not disabled has the role ``administrator``."""
        with self._database.reading() as session:
            return _administrators(session) > 0

    def set_role(self, user_id: int, role: Role, record: AuditRecord) -> User:
        """Change the role of an account. A new service account loses its password and sessions.

        Raises:
            LastAdministrator: The account is the only administrator.
            AccountGone: The account does not exist.
        """

        def change(session: Session) -> User:
            user = _present(session, user_id)
            if role != ADMINISTRATOR:
                _require_other_administrator(session, user)
            user.role = role
            if role == "service":
                user.password_hash = None
                tokens.delete_of_user(session, user_id)
            record.add_to(session)
            return user

        return self._database.write_with_reserve(change)

    def set_disabled(self, user_id: int, record: AuditRecord, *, disabled: bool) -> User:
        """Disable an account and end its sessions, or enable it.

        Raises:
            LastAdministrator: The account is the only administrator.
            AccountGone: The account does not exist.
        """

        def change(session: Session) -> User:
            user = _present(session, user_id)
            if disabled == (user.disabled_at is not None):
                return user
            if disabled:
                _require_other_administrator(session, user)
                user.disabled_at = utc_now()
                tokens.delete_of_user(session, user_id)
            else:
                user.disabled_at = None
            record.add_to(session)
            return user

        return self._database.write_with_reserve(change)

    def list_disabled(self) -> list[int]:
        """Return the ids of disabled and deleted accounts."""
        with self._database.reading() as session:
            disabled = select(User.id).where(User.disabled_at.is_not(None)).order_by(User.id)
            return list(session.scalars(disabled))

    def require_password_change(self, user_id: int, record: AuditRecord) -> User:
        """Have the user change the password before anything else.

        Raises:
            AccountGone: The account does not exist.
        """

        def change(session: Session) -> User:
            user = _present(session, user_id)
            user.must_change_password = True
            record.add_to(session)
            return user

        return self._database.write_with_reserve(change)

    # Deletion

    def begin_deletion(
        self, user_id: int, record: AuditRecord, *, password_hash: str | None = None
    ) -> None:
        """Make an account unusable and its address free. Its data is removed afterwards.

        Args:
            user_id: Account to delete.
            record: Entry of the audit log.
            password_hash: Hash that was verified; the password must not have changed since.

        Raises:
            LastAdministrator: The account is the only administrator.
            AccountGone: The account does not exist, or its password has changed.
        """

        def begin(session: Session) -> None:
            user = _present(session, user_id)
            if password_hash is not None and user.password_hash != password_hash:
                raise AccountGone
            _require_other_administrator(session, user)
            user.deleted_at = user.disabled_at = utc_now()
            user.email = f"{DELETED_PREFIX}{user_id}"
            user.password_hash = None
            user.role = "user"
            tokens.delete_of_user(session, user_id)
            session.execute(delete(ApiKey).where(ApiKey.user_id == user_id))
            record.add_to(session)

        self._database.write_with_reserve(begin)

    def list_deleted(self) -> list[int]:
        """Return the ids of accounts whose data has to be removed."""
        with self._database.reading() as session:
            deleted = select(User.id).where(User.deleted_at.is_not(None)).order_by(User.id)
            return list(session.scalars(deleted))

    def remove(self, user_id: int) -> bool:
        """Delete the row of a deleted account, and what refers to it, unless tasks are left.

        Returns:
            False if the account has tasks, which have to be deleted first.
        """
        has_tasks = exists().where(Task.user_id == user_id)

        def remove(session: Session) -> bool:
            if session.scalar(select(has_tasks)):
                return False
            session.execute(delete(User).where(User.id == user_id, User.deleted_at.is_not(None)))
            subject = GatewayUsage.subject == f"user:{user_id}"
            session.execute(delete(GatewayUsage).where(subject))
            return True

        return self._database.write_with_reserve(remove)


def _add(
    session: Session, email: str, password_hash: str | None, role: str, record: AuditRecord | None
) -> User:
    user = User(email=email, password_hash=password_hash, created_at=utc_now(), role=role)
    session.add(user)
    session.flush()
    if record is not None:
        record.add_to(session)
    return user


def _present(session: Session, user_id: int) -> User:
    user = session.get(User, user_id)
    if user is None or user.deleted_at is not None:
        raise AccountGone(f"account {user_id} does not exist")
    return user


def _set_password(user: User, hashed: str) -> None:
    user.password_hash = hashed
    user.must_change_password = False


def _administrators(session: Session, *, except_for: int | None = None) -> int:
    active = select(func.count()).where(User.role == ADMINISTRATOR, User.disabled_at.is_(None))
    if except_for is not None:
        active = active.where(User.id != except_for)
    return session.scalar(active) or 0


def _require_other_administrator(session: Session, user: User) -> None:
    is_active = user.role == ADMINISTRATOR and user.disabled_at is None
    if is_active and not _administrators(session, except_for=user.id):
        raise LastAdministrator(f"{user.email} is the only administrator")
