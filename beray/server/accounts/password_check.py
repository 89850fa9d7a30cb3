"""Verification of passwords, with rate limits for wrong ones."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool

from beray.sanitize import normalized_password
from beray.server.accounts.actors import Actor
from beray.server.accounts.login_limits import LoginLimits
from beray.server.accounts.password_hashing import PasswordHashing
from beray.server.http.errors import ApiHTTPError
from beray.server.storage.accounts import AccountRepository
from beray.server.storage.tables import User


class PasswordCheck:
    """Checks of passwords. Used on one event loop.

    Args:
        accounts: Repository of accounts.
        hashing: Workers that hash passwords.
        limits: Rate limits of wrong passwords.
    """

    def __init__(
        self, *, accounts: AccountRepository, hashing: PasswordHashing, limits: LoginLimits
    ) -> None:
        self._accounts = accounts
        self._hashing = hashing
        self._limits = limits

    async def find(self, spellings: tuple[str, ...]) -> User | None:
        """Return the user that is registered under one of these forms of an e-mail address."""
        for spelling in spellings:
            user = await run_in_threadpool(self._accounts.find, spelling)
            if user is not None:
                return user
        return None

    async def matching_user(
        self, spellings: tuple[str, ...], password: str, actor: Actor
    ) -> User | None:
        """Return the user with this address and password; count a wrong password.

        Args:
            spellings: Forms in which the address may be stored; the first is canonical.
            password: The password as the user entered it.
            actor: Sender of the request.

        Returns:
            The user as read before the password was verified; ``None`` if the address or the
            password is wrong.

        Raises:
            ApiHTTPError: 429, the client sent too many wrong passwords; 429 or 503, too many
                passwords are waiting to be checked.
        """
        account, client = spellings[0], actor.client
        self._limits.check(account, client)
        suspicious = self._limits.has_failed(client)
        async with self._hashing.worker(client.key, suspicious=suspicious):
            # Checked again, because earlier attempts in the queue may have failed meanwhile.
            self._limits.check(account, client)
            user = await self.find(spellings)
            matches = await self._matches(user, password)
            if user is None or not matches:
                self._limits.add_failure(account, client)
                return None
            self._limits.clear(account, client)
        return user

    async def hash(self, password: str, actor: Actor) -> str:
        """Return the hash of a new password in normalized form.

        Raises:
            ApiHTTPError: 429 or 503, too many passwords are waiting to be hashed.
        """
        async with self._hashing.worker(actor.client.key):
            return await self._hashing.hash(password)

    async def _matches(self, user: User | None, password: str) -> bool:
        """Return True if ``password`` is the password of ``user``. Call it within ``worker``.

        Passwords are hashed in NFKC form. Hashes of an earlier version, of the password as it
        was typed, are also accepted and then replaced. The work does not depend on whether the
        account exists, so that the duration of a response does not reveal it.
        """
        stored = user.password_hash if user is not None else None
        normalized = normalized_password(password)
        if await self._hashing.verify(stored, normalized):
            return True
        if normalized == password or not await self._hashing.verify(stored, password):
            return False
        if user is not None and stored is not None:
            hashed = await self._hashing.hash(normalized)
            await run_in_threadpool(self._accounts.rehash_password, user.id, stored, hashed)
            user.password_hash = hashed
        return True


def wrong_password() -> ApiHTTPError:
    """Return the 401 for a wrong address or password, which it does not distinguish."""
    return ApiHTTPError(401, "The e-mail address or the password is wrong.")
