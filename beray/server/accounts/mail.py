"""Delivery of mail by SMTP, or to ``.eml`` files in the outbox if no server is configured."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import ssl
import time
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTPUTF8
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.server.accounts.email_address import EmailAddress
from beray.server.settings import Settings

SMTP_TIMEOUT_SECONDS: Final = 20.0
"""Time limit of one delivery, from the connection to the last response."""
QUIT_SECONDS: Final = 2.0
SMTP_CONNECTIONS: Final = 4
CONNECTION_WAIT_SECONDS: Final = 60.0
"""Maximum wait for one of the connections."""
_OUTBOX_NAME: Final = re.compile(r"[0-9a-f]{16}\.eml")
_MAILBOX_REJECTED: Final = range(550, 560)
"""SMTP statuses that reject a recipient permanently (RFC 5321, 4.2.3)."""

log = structlog.get_logger("beray.mail")


class MailDeliveryError(Exception):
    """The mail could not be delivered; the message contains the reason."""


class MailAddressRejected(Exception):
    """The mail server cannot deliver to this address; the message contains the reason."""


class Mailer:
    """Sender of plain-text mail. Used on one event loop.

    Args:
        settings: Settings of the SMTP server.
        outbox: Directory of the ``.eml`` files; created when the first one is written.
    """

    def __init__(self, *, settings: Settings, outbox: Path) -> None:
        self._settings = settings
        self._outbox = outbox
        self._connections = asyncio.Semaphore(SMTP_CONNECTIONS)

    async def send(self, to: EmailAddress, subject: str, text: str) -> None:
        """Send a mail.

        Raises:
            MailAddressRejected: The mail server cannot deliver to ``to``.
            MailDeliveryError: The mail server rejected the mail, could not be reached or did not
                respond in time; or the file could not be written.
        """
        host = self._settings.smtp_host
        message = EmailMessage(policy=SMTPUTF8)
        message["From"] = self._settings.mail_from
        message["To"] = to.text if host is None else to.mailbox
        message["Subject"] = subject
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain="beray.invalid")
        message.set_content(text)
        if host is None:
            await run_in_threadpool(self._write, message)
            return
        try:
            async with asyncio.timeout(CONNECTION_WAIT_SECONDS):
                await self._connections.acquire()
        except TimeoutError:
            raise MailDeliveryError(
                f"{SMTP_CONNECTIONS} mails before it are still being sent"
            ) from None
        try:
            await self._deliver(message, to, host)
        finally:
            self._connections.release()

    def remove_older(self, seconds: float) -> int:
        """Remove the files of the outbox that are older than ``seconds``; return their number.

        Raises:
            OSError: The outbox cannot be read, or a file cannot be removed.
        """
        removed = 0
        with suppress(FileNotFoundError):
            for path in self._outbox.iterdir():
                if not _OUTBOX_NAME.fullmatch(path.name):
                    continue
                if path.lstat().st_mtime <= time.time() - seconds:
                    path.unlink()
                    removed += 1
        return removed

    def _write(self, message: EmailMessage) -> None:
        path = self._outbox / f"{secrets.token_hex(8)}.eml"
        try:
            self._outbox.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(message.as_bytes())
        except OSError as error:
            log.error("could not write a mail to the outbox", path=str(path), error=error.strerror)
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise MailDeliveryError(f"the outbox cannot be written ({error.strerror})") from error
        # Only the path is logged, because the mail may contain a code.
        log.info("wrote a mail to the outbox; no SMTP server is configured", path=str(path))

    async def _deliver(self, message: EmailMessage, to: EmailAddress, host: str) -> None:
        import aiosmtplib  # imported late: most servers on loopback never send mail

        settings = self._settings
        secret = settings.smtp_password
        client = aiosmtplib.SMTP(
            hostname=host,
            port=settings.smtp_port,
            username=settings.smtp_user if secret is not None else None,
            password=secret.get_secret_value() if secret is not None else None,
            timeout=SMTP_TIMEOUT_SECONDS,
            use_tls=settings.smtp_security == "tls",
            start_tls=settings.smtp_security == "starttls",
            tls_context=await run_in_threadpool(ssl.create_default_context),
        )
        try:
            async with asyncio.timeout(SMTP_TIMEOUT_SECONDS):
                await client.connect()
                await client.send_message(message, recipients=[to.mailbox])
            with suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=QUIT_SECONDS)
        except aiosmtplib.SMTPNotSupported as error:
            if not to.needs_smtputf8:
                raise self._failed(host, error) from error
            raise MailAddressRejected(
                "the mail server does not support SMTPUTF8, which addresses with non-ASCII "
                "characters before the @ require"
            ) from error
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [rejected.code for rejected in error.recipients]
            if all(code in _MAILBOX_REJECTED for code in codes):
                raise MailAddressRejected(
                    f"the mail server rejected the address (SMTP status {codes[0]})"
                ) from error
            raise self._failed(host, error) from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise self._failed(host, error) from error
        finally:
            client.close()

    def _failed(self, host: str, error: Exception) -> MailDeliveryError:
        log.warning("could not send a mail", host=host, error=type(error).__name__)
        return MailDeliveryError(f"the mail server did not accept it ({type(error).__name__})")
