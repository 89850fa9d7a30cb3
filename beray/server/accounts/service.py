"""Service of accounts: registration, sign-in, passwords and addresses.

Only the argon2 hash of a password is stored, and only the SHA-256 of a code or a token.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from starlette.concurrency import run_in_threadpool

from beray.server.accounts.actors import Actor
from beray.server.accounts.code_mails import CodeMails
from beray.server.accounts.email_address import EmailAddress, account_key, parse_email
from beray.server.accounts.login_limits import LoginLimits
from beray.server.accounts.mail import Mailer
from beray.server.accounts.mail_limits import MailLimits
from beray.server.accounts.password_check import PasswordCheck, wrong_password
from beray.server.accounts.password_hashing import PasswordHashing
from beray.server.accounts.password_policy import check_new_password
from beray.server.accounts.registration_policy import RegistrationPolicy
from beray.server.accounts.verification_codes import VerificationCodes, code_expired
from beray.server.http.errors import ApiHTTPError, InvalidField
from beray.server.settings import Settings
from beray.server.storage.accounts import (
    DELETED_PREFIX,
    AccountExists,
    AccountGone,
    AccountRepository,
    AdministratorExists,
    CodeUsed,
    NotInvited,
)
from beray.server.storage.audit import AuditRepository
from beray.server.storage.digests import secret_digest
from beray.server.storage.invitations import InvitationRepository
from beray.server.storage.tables import User
from beray.server.storage.tokens import (
    PasswordChanged,
    SessionLifetime,
    SessionOrigin,
    TokenRepository,
)
from beray.server.storage.verification_codes import VerificationCodeRepository

LOCAL_EMAIL: Final = "local@localhost"
"""Address of the user of an embedded server."""
LOCAL_TOKEN_SECONDS: Final = 10 * 365 * 24 * 3600.0
_LOCAL_LIFETIME: Final = SessionLifetime(LOCAL_TOKEN_SECONDS, LOCAL_TOKEN_SECONDS)


class SignedIn(NamedTuple):
    """A user, the access token of a new session, and the digests of sessions that ended."""

    user: User
    token: str
    ended: list[str]


class Accounts:
    """Accounts of users. Used on one event loop.

    Args:
        accounts: Repository of accounts.
        tokens: Repository of sessions.
        audit: Repository of the audit log.
        mails: Sender of verification codes.
        codes: Verification codes.
        passwords: Checks of passwords.
        policy: Decision who may register.
        lifetime: Durations of sessions.
    """

    def __init__(
        self,
        *,
        accounts: AccountRepository,
        tokens: TokenRepository,
        audit: AuditRepository,
        mails: CodeMails,
        codes: VerificationCodes,
        passwords: PasswordCheck,
        policy: RegistrationPolicy,
        lifetime: SessionLifetime,
    ) -> None:
        self.mails = mails
        self.passwords = passwords
        self._accounts = accounts
        self._tokens = tokens
        self._audit = audit
        self._codes = codes
        self._policy = policy
        self._lifetime = lifetime

    async def user(self, spellings: tuple[str, ...]) -> User | None:
        """Return the user that is registered under one of these forms of an e-mail address."""
        return await self.passwords.find(spellings)

    # Registration

    async def send_code(self, email: str, actor: Actor) -> None:
        """Mail a new verification code to ``email``.

        With ``BERAY_HIDE_ACCOUNTS``, a registered address gets a notice instead, and the result
        does not reveal whether the address is registered or invited.

        Raises:
            ApiHTTPError: 422, the address is invalid or the mail server cannot deliver to it;
                403, the address may not register; 409, it is already registered; 429, too many
                codes were requested; 503, the mail cannot be sent now.
        """
        address = parse_email(email)
        self.mails.add_request(actor.client)
        if not self._policy.hides_accounts:
            await self._require_new(address)
            await self.mails.send("registration", address, actor.client)
            return
        self._require_permitted(self._policy.public_problem(address))
        if await self._is_taken(address):
            await self.mails.send_registered_notice(address, actor.client)
            return
        may_register = await self._policy.problem(address) is None
        await self.mails.send_in_background(
            "registration", address, actor.client, has_recipient=may_register
        )

    async def register(self, email: str, code: str, password: str, actor: Actor) -> SignedIn:
        """Create an account, and start a session.

        Raises:
            ApiHTTPError: 422, the address, the password or the code is invalid; 403, the address
                may not register; 409, it is already registered; 429, too many wrong codes were
                sent; 429 or 503, too many passwords are waiting to be hashed.
        """
        address = parse_email(email)
        if self._policy.hides_accounts:
            self._require_permitted(self._policy.public_problem(address))
        else:
            await self._require_new(address)
        normalized = await run_in_threadpool(check_new_password, password, address.text)
        await run_in_threadpool(
            self._codes.check, "registration", address.text, actor.client, code.strip()
        )
        hashed = await self.passwords.hash(normalized, actor)
        record = actor.as_user(address.text).record("account.registered", address.text)
        try:
            user = await run_in_threadpool(
                self._accounts.register,
                address.text,
                hashed,
                needs_invitation=self._policy.needs_invitation,
                record=record,
            )
        except (AccountExists, NotInvited) as error:
            if self._policy.hides_accounts:
                raise code_expired() from None
            if isinstance(error, AccountExists):
                raise _already_registered() from None
            raise ApiHTTPError(403, f"The invitation of {address.text} was used.") from None
        await run_in_threadpool(self._codes.remove, "registration", address.text)
        return SignedIn(user, await self._new_session(user, actor), [])

    async def create_first_administrator(self, email: str, password: str, actor: Actor) -> SignedIn:
        """Create the first administrator of a server, and start a session.

        Raises:
            ApiHTTPError: 422, the address or the password is invalid; 409, the address is already
                registered, or the server has an administrator.
        """
        address = parse_email(email)
        normalized = await run_in_threadpool(check_new_password, password, address.text)
        hashed = await self.passwords.hash(normalized, actor)
        record = actor.as_user(address.text).record("account.created", address.text)
        try:
            user = await run_in_threadpool(
                self._accounts.create,
                address.text,
                hashed,
                role="administrator",
                record=record,
                must_be_first_administrator=True,
            )
        except AccountExists:
            raise ApiHTTPError(
                409,
                f"{address.text} is already registered. To make it an administrator, stop the "
                f"server and run: beray admin promote {address.text} --data-dir DIR",
            ) from None
        except AdministratorExists:
            raise ApiHTTPError(409, "The server already has an administrator.") from None
        return SignedIn(user, await self._new_session(user, actor), [])

    # Sessions

    async def sign_in(self, email: str, password: str, actor: Actor) -> SignedIn:
        """Start a session of the account with this address and password.

        Raises:
            ApiHTTPError: 401, the address or the password is wrong; 403, the account is disabled;
                429, the client sent too many wrong passwords; 429 or 503, too many passwords are
                waiting to be checked.
        """
        spellings = account_key(email)
        user = await self.passwords.matching_user(spellings, password, actor)
        if user is None:
            await run_in_threadpool(self._audit.add, actor.record("sign-in.failed", spellings[0]))
            raise wrong_password()
        actor = actor.as_user(user.email)
        if user.disabled_at is not None:
            await run_in_threadpool(self._audit.add, actor.record("sign-in.refused", user.email))
            raise ApiHTTPError(403, "The account is disabled. Ask an administrator.")
        return SignedIn(user, await self._new_session(user, actor, "sign-in"), [])

    def sign_in_locally(self) -> str:
        """Return a new token for the user of an embedded server, and end older tokens."""
        user = self._accounts.find(LOCAL_EMAIL) or self._accounts.create(LOCAL_EMAIL, None)
        self._tokens.delete_all(user.id)
        token = secrets.token_urlsafe(32)
        self._tokens.create(secret_digest(token), user, _LOCAL_LIFETIME, SessionOrigin())
        return token

    # Passwords

    async def request_password_reset(self, email: str, actor: Actor) -> None:
        """Mail a code for a new password, if the address has an account with a password.

        The result does not reveal whether it has one.

        Raises:
            ApiHTTPError: 422, the address is invalid; 429, too many codes were requested; 503,
                the server is at a limit.
        """
        address = parse_email(email)
        self.mails.add_request(actor.client)
        user = await self.user(address.spellings)
        await self.mails.send_in_background(
            "password reset", address, actor.client, has_recipient=_has_password(user)
        )

    async def reset_password(self, email: str, code: str, password: str, actor: Actor) -> SignedIn:
        """Set a new password with a mailed code, end all sessions and start a new one.

        Raises:
            ApiHTTPError: 422, the address, the password or the code is invalid; 401, the account
                was changed by another request meanwhile; 429, too many wrong codes were sent; 429
                or 503, too many passwords are waiting to be hashed.
        """
        address = parse_email(email)
        normalized = await run_in_threadpool(check_new_password, password, address.text)
        key = await run_in_threadpool(
            self._codes.check, "password reset", address.text, actor.client, code.strip()
        )
        user = await self.user(address.spellings)
        if user is None or not _has_password(user):
            raise code_expired()
        hashed = await self.passwords.hash(normalized, actor)
        actor = actor.as_user(user.email)
        try:
            ended = await run_in_threadpool(
                self._accounts.reset_password,
                user.id,
                hashed,
                key,
                actor.record("password.reset", user.email),
            )
        except (CodeUsed, AccountGone):
            raise code_expired() from None
        await run_in_threadpool(self._codes.remove, "password reset", address.text)
        user.password_hash, user.must_change_password = hashed, False
        return SignedIn(user, await self._new_session(user, actor), ended)

    async def change_password(
        self, user: User, session: str, password: str, new_password: str, actor: Actor
    ) -> list[str]:
        """Change the password of a signed-in user, and end the other sessions.

        Args:
            user: The user.
            session: Digest of the session that remains.
            password: Current password.
            new_password: New password.
            actor: Sender of the request.

        Returns:
            Digests of the sessions that ended.

        Raises:
            ApiHTTPError: 403, the current password is wrong; 422, the new one is invalid; 409,
                the password was changed meanwhile; 429 or 503, as for ``sign_in``.
        """
        normalized = await run_in_threadpool(
            check_new_password, new_password, user.email, "new_password"
        )
        current = await self.require_password(user, password, actor)
        if normalized == password:
            raise InvalidField("new_password", "is the current one; choose another one")
        hashed = await self.passwords.hash(normalized, actor)
        ended = await run_in_threadpool(
            self._accounts.change_password,
            user.id,
            current.password_hash,
            hashed,
            session,
            actor.record("password.changed", user.email),
        )
        if ended is None:
            raise ApiHTTPError(409, "The password was changed by another request meanwhile.")
        return ended

    async def require_password(self, user: User, password: str, actor: Actor) -> User:
        """Verify the password of a signed-in user, and return the account with its hash.

        Raises:
            ApiHTTPError: 403, the password is wrong or the account has none; 429 or 503, as for
                ``sign_in``.
        """
        if user.password_hash is None:
            raise ApiHTTPError(403, "This account has no password.")
        current = await self.passwords.matching_user((user.email,), password, actor)
        if current is None or current.id != user.id:
            await run_in_threadpool(self._audit.add, actor.record("password.wrong", user.email))
            raise ApiHTTPError(403, "The password is wrong.")
        return current

    # Addresses

    async def request_email_change(
        self, user: User, email: str, password: str, actor: Actor
    ) -> None:
        """Mail a code to the current and to the new address of an account.

        Raises:
            ApiHTTPError: 403, the password is wrong; 422, the address is invalid; 409, it is
                already registered; 429, too many codes were requested; 503, the mail cannot be
                sent now.
        """
        address = parse_email(email)
        self.mails.add_request(actor.client)
        await self.require_password(user, password, actor)
        taken = await self._is_taken(address)
        if address.text == parse_email(user.email).text:
            raise InvalidField("email", "is already the address of your account")
        if taken and not self._policy.hides_accounts:
            raise ApiHTTPError(
                409, f"{address.text} is the address of another account. Choose another one."
            )
        if not taken:
            self._require_permitted(self._policy.public_problem(address))
        current = parse_email(user.email)
        await self.mails.send("old address", current, actor.client, new_address=address.text)
        await self.mails.send_in_background(
            "new address", address, actor.client, has_recipient=not taken
        )

    async def change_email(
        self, user: User, email: str, codes: tuple[str, str], actor: Actor
    ) -> User:
        """Change the address of an account with the codes of both addresses.

        Args:
            user: The user.
            email: New address.
            codes: Code of the current address, and of the new one.
            actor: Sender of the request.

        Raises:
            ApiHTTPError: 422, a code is wrong or has expired; 409, the new address was registered
                meanwhile; 429, too many wrong codes were sent.
        """
        address = parse_email(email)
        current = parse_email(user.email)
        old = await run_in_threadpool(
            self._codes.check, "old address", current.text, actor.client, codes[0].strip()
        )
        new = await run_in_threadpool(
            self._codes.check, "new address", address.text, actor.client, codes[1].strip()
        )
        record = actor.record("email.changed", f"{user.email} to {address.text}")
        try:
            return await run_in_threadpool(
                self._accounts.change_email, user.id, address.text, (old, new), record
            )
        except AccountExists:
            raise _already_registered() from None
        except (CodeUsed, AccountGone):
            raise code_expired() from None

    async def _require_new(self, address: EmailAddress) -> None:
        if await self._is_taken(address):
            raise _already_registered()
        problem = await self._policy.problem(address)
        # The invitation may be missing because another request has just used it to register.
        if problem is not None and await self._is_taken(address):
            raise _already_registered()
        self._require_permitted(problem)

    @staticmethod
    def _require_permitted(problem: str | None) -> None:
        if problem is not None:
            raise ApiHTTPError(403, problem)

    async def _is_taken(self, address: EmailAddress) -> bool:
        return address.text == LOCAL_EMAIL or await self.user(address.spellings) is not None

    async def _new_session(self, user: User, actor: Actor, action: str = "") -> str:
        """Start a session and return its access token.

        Raises:
            ApiHTTPError: 401, the password or the account was changed meanwhile.
        """
        token = secrets.token_urlsafe(32)
        record = actor.record(action, user.email) if action else None
        try:
            await run_in_threadpool(
                self._tokens.create,
                secret_digest(token),
                user,
                self._lifetime,
                actor.origin,
                record,
            )
        except PasswordChanged:
            raise wrong_password() from None
        return token


@asynccontextmanager
async def running_accounts(
    *,
    settings: Settings,
    accounts: AccountRepository,
    tokens: TokenRepository,
    codes: VerificationCodeRepository,
    invitations: InvitationRepository,
    audit: AuditRepository,
) -> AsyncIterator[Accounts]:
    """Create the accounts service of a server, and close it at the end of the block."""
    verification = VerificationCodes(codes=codes)
    mails = CodeMails(
        mailer=Mailer(settings=settings, outbox=settings.data_dir / "outbox"),
        limits=MailLimits(settings.mails_per_hour if settings.smtp_host else None),
        codes=verification,
    )
    service = Accounts(
        accounts=accounts,
        tokens=tokens,
        audit=audit,
        mails=mails,
        codes=verification,
        passwords=PasswordCheck(accounts=accounts, hashing=PasswordHashing(), limits=LoginLimits()),
        policy=RegistrationPolicy(settings=settings, invitations=invitations),
        lifetime=SessionLifetime(settings.token_seconds, settings.token_max_seconds),
    )
    async with mails.running():
        yield service


def _has_password(user: User | None) -> bool:
    if user is None or user.email == LOCAL_EMAIL or user.email.startswith(DELETED_PREFIX):
        return False
    return user.role != "service" and user.disabled_at is None


def _already_registered() -> ApiHTTPError:
    return ApiHTTPError(409, "This e-mail address is already registered. Sign in instead.")
