"""Delivery of verification codes by mail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.server.accounts.email_address import EmailAddress
from beray.server.accounts.mail import MailAddressRejected, MailDeliveryError, Mailer
from beray.server.accounts.mail_limits import MailLimits
from beray.server.accounts.verification_codes import CODE_SECONDS, Purpose, VerificationCodes
from beray.server.http.client_address import Client
from beray.server.http.errors import ApiHTTPError
from beray.server.storage.database_errors import StorageError

EXPIRY_INTERVAL_SECONDS: Final = 60.0
MAIL_RESPONSE_SECONDS: Final = 10.0
"""Maximum wait of a request for the mail server. A slower delivery continues in the background."""
MAX_DELIVERIES: Final = 100
_BUSY_SECONDS: Final = 30
_VALIDITY: Final = f"It is valid for {CODE_SECONDS / 60:.0f} minutes."
_TEXTS: Final[dict[Purpose, tuple[str, str]]] = {
    "registration": (
        "Your BeRay verification code",
        f"Your verification code is {{code}}\n\n{_VALIDITY} "
        "If you did not ask for it, ignore this mail.\n",
    ),
    "password reset": (
        "Reset your BeRay password",
        f"Your code for a new password is {{code}}\n\n{_VALIDITY} If you did not ask for it, "
        "ignore this mail; your password has not changed.\n",
    ),
    "old address": (
        "Change of the address of your BeRay account",
        "The e-mail address of your account is about to be changed to {new_address}.\n\n"
        f"The code of the current address is {{code}}\n\n{_VALIDITY} If you did not ask for it, "
        "another person knows your password: change it.\n",
    ),
    "new address": (
        "Confirm the address of your BeRay account",
        f"The code of the new address is {{code}}\n\n{_VALIDITY} "
        "If you did not ask for it, ignore this mail.\n",
    ),
}
"""Subject and text of the mail for each purpose."""
REGISTERED_SUBJECT: Final = "You already have a BeRay account"
REGISTERED_TEXT: Final = (
    "This address was entered to register an account, but it already has one.\n\n"
    "Sign in with your password. If you have forgotten it, request a new one: beray password "
    "reset\n"
)

log = structlog.get_logger("beray.accounts")


class CodeMails:
    """Mails with verification codes, and their deliveries. Used on one event loop.

    Args:
        mailer: Sender of mails.
        limits: Rate limits of mails.
        codes: Verification codes.
    """

    def __init__(self, *, mailer: Mailer, limits: MailLimits, codes: VerificationCodes) -> None:
        self._mailer = mailer
        self._limits = limits
        self._codes = codes
        self._deliveries: set[asyncio.Task[None]] = set()

    def add_request(self, client: Client) -> None:
        """Count a request for a code; raises as ``MailLimits.add_request``."""
        self._limits.add_request(client)

    async def send(
        self, purpose: Purpose, address: EmailAddress, client: Client, *, new_address: str = ""
    ) -> None:
        """Mail a new code; the one for the old address names the new one.

        Returns once the mail server has accepted the mail, or after ``MAIL_RESPONSE_SECONDS``;
        the delivery then continues, and a failure is logged.

        Raises:
            ApiHTTPError: 422, the mail server cannot deliver to the address; 429, too many codes
                were requested; 503, the mail cannot be sent now.
        """
        code = await self._issue(purpose, address, client)
        subject, text = _TEXTS[purpose]
        text = text.format(code=code, new_address=new_address)
        delivery = self._start(address, subject, text, (purpose, code))
        await asyncio.wait([delivery], timeout=MAIL_RESPONSE_SECONDS)
        if delivery.done():
            delivery.result()

    async def send_in_background(
        self, purpose: Purpose, address: EmailAddress, client: Client, *, has_recipient: bool
    ) -> None:
        """Issue a code, and mail it only if the address has an account.

        The response, its duration and later errors do not depend on ``has_recipient``.

        Raises:
            ApiHTTPError: 429, too many codes were requested; 503, the server is at a limit.
        """
        code = await self._issue(purpose, address, client)
        if has_recipient:
            subject, text = _TEXTS[purpose]
            self._start(address, subject, text.format(code=code), (purpose, code))

    async def send_registered_notice(self, address: EmailAddress, client: Client) -> None:
        """Mail a notice to a registered address instead of a code, which is issued as well.

        Raises:
            ApiHTTPError: As for ``send_in_background``.
        """
        await self._issue("registration", address, client)
        self._start(address, REGISTERED_SUBJECT, REGISTERED_TEXT)

    async def send_invitation(self, address: EmailAddress, text: str) -> None:
        """Mail an invitation.

        Raises:
            MailDeliveryError, MailAddressRejected: The mail cannot be sent.
        """
        await self._mailer.send(address, "Invitation to BeRay", text)

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

    async def _issue(self, purpose: Purpose, address: EmailAddress, client: Client) -> str:
        if len(self._deliveries) >= MAX_DELIVERIES:
            raise ApiHTTPError(
                503,
                f"The code could not be mailed: {MAX_DELIVERIES} mails are being sent, which is "
                f"the maximum. Try again in {_BUSY_SECONDS} s.",
                _BUSY_SECONDS,
            )
        self._limits.add_mail()
        try:
            return await run_in_threadpool(self._codes.issue, purpose, address.text, client)
        except BaseException:
            self._limits.undo_mail()
            raise

    def _start(
        self,
        address: EmailAddress,
        subject: str,
        text: str,
        code: tuple[Purpose, str] | None = None,
    ) -> asyncio.Task[None]:
        delivery = asyncio.create_task(self._deliver(address, subject, text, code))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._delivered)
        return delivery

    async def _deliver(
        self, address: EmailAddress, subject: str, text: str, code: tuple[Purpose, str] | None
    ) -> None:
        try:
            await self._mailer.send(address, subject, text)
        except BaseException as error:
            if code is not None:
                await run_in_threadpool(self._codes.withdraw, code[0], address.text, code[1])
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

    async def _expire(self) -> None:
        while True:
            try:
                await run_in_threadpool(self._codes.remove_expired)
                await run_in_threadpool(self._mailer.remove_older, CODE_SECONDS)
            except (OSError, StorageError) as error:
                log.error("could not remove expired verification codes", exc_info=error)
            await asyncio.sleep(EXPIRY_INTERVAL_SECONDS)
