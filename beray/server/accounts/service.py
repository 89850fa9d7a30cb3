"""Service of accounts: registration, sign-in and access tokens.

Only the argon2 hash of a password is stored, and only the SHA-256 of a code or a token.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.sanitize import normalized_password
from beray.server.accounts.email_address import EmailAddress, account_key, parse_email
from beray.server.accounts.login_limits import LoginLimits
from beray.server.accounts.mail import MailAddressRejected, MailDeliveryError, Mailer
from beray.server.accounts.mail_limits import MailLimits
from beray.server.accounts.password_hashing import PasswordHashing
from beray.server.accounts.verification_codes import CODE_SECONDS, VerificationCodes
from beray.server.http.client_address import Client
from beray.server.http.errors import ApiHTTPError
from beray.server.settings import Settings
from beray.server.storage.accounts import AccountExists, AccountRepository
from beray.server.storage.database_errors import StorageError
from beray.server.storage.digests import secret_digest
from beray.server.storage.tables import User
from beray.server.storage.tokens import TokenRepository
from beray.server.storage.verification_codes import VerificationCodeRepository

LOCAL_EMAIL: Final = "local@localhost"
"""Address of the user of an embedded server."""
LOCAL_TOKEN_SECONDS: Final = 10 * 365 * 24 * 3600.0
EXPIRY_INTERVAL_SECONDS: Final = 60.0
MAIL_RESPONSE_SECONDS: Final = 10.0
"""Maximum wait of a request for the mail server. A slower delivery continues in the background."""
MAX_DELIVERIES: Final = 100
_BUSY_SECONDS: Final = 30

log = structlog.get_logger("beray.accounts")


class Accounts:
    """Registration and sign-in of users. Used on one event loop.

    Args:
        accounts: Repository of accounts.
        tokens: Repository of access tokens.
        mailer: Sender of verification codes.
        mail_limits: Rate limits of verification mails.
        codes: Verification codes.
        hashing: Workers that hash passwords.
        login_limits: Rate limits of wrong passwords.
        token_seconds: Lifetime of an access token.
    """

    def __init__(
        self,
        *,
        accounts: AccountRepository,
        tokens: TokenRepository,
        mailer: Mailer,
        mail_limits: MailLimits,
        codes: VerificationCodes,
        hashing: PasswordHashing,
        login_limits: LoginLimits,
        token_seconds: float,
    ) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._mailer = mailer
        self._mail_limits = mail_limits
        self._codes = codes
        self._hashing = hashing
        self._login_limits = login_limits
        self._token_seconds = token_seconds
        self._deliveries: set[asyncio.Task[None]] = set()

    async def send_code(self, email: str, client: Client) -> None:
        """Mail a new verification code to ``email``.

        Returns once the mail server has accepted the mail, or after ``MAIL_RESPONSE_SECONDS``;
        the delivery then continues, and a failure is logged.

        Raises:
            ApiHTTPError: 422, the address is invalid or the mail server cannot deliver to it;
                409, it is already registered; 429, too many codes were requested; 503, the mail
                cannot be sent now.
        """
        address = parse_email(email)
        self._mail_limits.add_request(client)
        if address.text == LOCAL_EMAIL or await self.user(address.spellings) is not None:
            raise _already_registered()
        if len(self._deliveries) >= MAX_DELIVERIES:
            raise ApiHTTPError(
                503,
                f"The code could not be mailed: {MAX_DELIVERIES} mails are being sent, which is "
                f"the maximum. Try again in {_BUSY_SECONDS} s.",
                _BUSY_SECONDS,
            )
        self._mail_limits.add_mail()
        try:
            code = await run_in_threadpool(self._codes.issue, address.text, client)
        except BaseException:
            self._mail_limits.undo_mail()
            raise
        delivery = asyncio.create_task(self._deliver(address, code))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._delivered)
        await asyncio.wait([delivery], timeout=MAIL_RESPONSE_SECONDS)
        if delivery.done():
            delivery.result()

    async def register(
        self, email: str, code: str, password: str, client: Client
    ) -> tuple[User, str]:
        """Create an account; return it with an access token.

        Raises:
            ApiHTTPError: 422, the address or the code is invalid; 409, the address is already
                registered; 429, too many wrong codes were sent; 429 or 503, too many passwords
                are waiting to be hashed.
        """
        address = parse_email(email)
        if await self.user(address.spellings) is not None:
            raise _already_registered()
        await run_in_threadpool(self._codes.check, address.text, client, code.strip())
        async with self._hashing.worker(client.key):
            hashed = await self._hashing.hash(normalized_password(password))
        try:
            user = await run_in_threadpool(self._accounts.create, address.text, hashed)
        except AccountExists:
            raise _already_registered() from None
        await run_in_threadpool(self._codes.remove, address.text)
        return user, await run_in_threadpool(self._new_token, user)

    async def sign_in(self, email: str, password: str, client: Client) -> tuple[User, str]:
        """Return the account with this address and password, and a new access token.

        Raises:
            ApiHTTPError: 401, the address or the password is wrong; 429, the client sent too
                many wrong passwords; 429 or 503, too many passwords are waiting to be checked.
        """
        spellings = account_key(email)
        account = spellings[0]
        self._login_limits.check(account, client)
        suspicious = self._login_limits.has_failed(client)
        async with self._hashing.worker(client.key, suspicious=suspicious):
            # Checked again, because earlier attempts in the queue may have failed meanwhile.
            self._login_limits.check(account, client)
            user = await self.user(spellings)
            matches = await self._matches(user, password)
            if user is None or not matches:
                self._login_limits.add_failure(account, client)
                raise ApiHTTPError(401, "The e-mail address or the password is wrong.")
            self._login_limits.clear(account, client)
        return user, await run_in_threadpool(self._new_token, user)

    def sign_in_locally(self) -> str:
        """Return a new token for the user of an embedded server, and end older tokens."""
        user = self._accounts.find(LOCAL_EMAIL) or self._accounts.create(LOCAL_EMAIL, None)
        self._tokens.delete_all(user.id)
        return self._new_token(user, LOCAL_TOKEN_SECONDS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Remove expired codes and mails every minute during the block, then cancel deliveries."""
        expiry = asyncio.create_task(self._expire())
        try:
            yield
        finally:
            ending = [expiry, *self._deliveries]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _expire(self) -> None:
        while True:
            try:
                await run_in_threadpool(self._codes.remove_expired)
                await run_in_threadpool(self._mailer.remove_older, CODE_SECONDS)
            except (OSError, StorageError) as error:
                log.error("could not remove expired verification codes", exc_info=error)
            await asyncio.sleep(EXPIRY_INTERVAL_SECONDS)

    async def _deliver(self, address: EmailAddress, code: str) -> None:
        try:
            await self._mailer.send(
                address,
                "Your BeRay verification code",
                f"Your verification code is {code}\n\n"
                f"It is valid for {CODE_SECONDS / 60:.0f} minutes. "
                "If you did not ask for it, ignore this mail.\n",
            )
        except BaseException as error:
            await run_in_threadpool(self._codes.withdraw, address.text, code)
            if isinstance(error, MailDeliveryError):
                raise ApiHTTPError(503, f"The code could not be mailed: {error}.") from error
            if isinstance(error, MailAddressRejected):
                raise ApiHTTPError(
                    422,
                    f"The code could not be mailed to {address.text}: {error}. "
                    "Use another address.",
                ) from error
            raise

    def _delivered(self, delivery: asyncio.Task[None]) -> None:
        self._deliveries.discard(delivery)
        error = None if delivery.cancelled() else delivery.exception()
        # The mailer has already logged a failure to send a mail.
        if error is not None and not isinstance(error, ApiHTTPError):
            log.error("the delivery of a verification mail crashed", exc_info=error)

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
            await run_in_threadpool(self._accounts.replace_password, user.id, stored, hashed)
        return True

    async def user(self, spellings: tuple[str, ...]) -> User | None:
        """Return the user that is registered under one of these forms of an e-mail address."""
        for spelling in spellings:
            user = await run_in_threadpool(self._accounts.find, spelling)
            if user is not None:
                return user
        return None

    def _new_token(self, user: User, seconds: float | None = None) -> str:
        token = secrets.token_urlsafe(32)
        self._tokens.create(secret_digest(token), user.id, seconds or self._token_seconds)
        return token


@asynccontextmanager
async def running_accounts(
    *,
    settings: Settings,
    accounts: AccountRepository,
    tokens: TokenRepository,
    codes: VerificationCodeRepository,
) -> AsyncIterator[Accounts]:
    """Create the accounts service of a server, and close it at the end of the block."""
    service = Accounts(
        accounts=accounts,
        tokens=tokens,
        mailer=Mailer(settings=settings, outbox=settings.data_dir / "outbox"),
        mail_limits=MailLimits(settings.mails_per_hour if settings.smtp_host else None),
        codes=VerificationCodes(codes=codes),
        hashing=PasswordHashing(),
        login_limits=LoginLimits(),
        token_seconds=settings.token_seconds,
    )
    async with service.running():
        yield service


def _already_registered() -> ApiHTTPError:
    return ApiHTTPError(409, "This e-mail address is already registered. Sign in instead.")
