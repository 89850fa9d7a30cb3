"""Repository of accounts."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from beray.server.storage.database import Database
from beray.server.storage.tables import User
from beray.server.storage.times import utc_now


class AccountExists(Exception):
    """The e-mail address is already registered."""


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

    def create(self, email: str, password_hash: str | None) -> User:
        """Create an account.

        Args:
            email: Address in its canonical spelling.
            password_hash: Argon2 hash; ``None`` if the user cannot sign in with a password.

        Raises:
            AccountExists: The address is already registered.
        """
        user = User(email=email, password_hash=password_hash, created_at=utc_now())
        try:
            with self._database.writing() as session:
                session.add(user)
        except IntegrityError:
            raise AccountExists(f"{email} is already registered") from None
        return user

    def replace_password(self, user_id: int, old_hash: str, new_hash: str) -> None:
        """Replace the hash of a password, unless it has changed in the meantime."""
        unchanged = (User.id == user_id) & (User.password_hash == old_hash)
        replaced = update(User).where(unchanged).values(password_hash=new_hash)
        self._database.write_with_reserve(lambda session: session.execute(replaced))
