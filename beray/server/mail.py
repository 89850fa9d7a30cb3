"""Mail: by SMTP where it is configured, else as ``.eml`` files in the outbox."""

from __future__ import annotations

import os
import secrets
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

import structlog

from beray.server.settings import Settings

log = structlog.get_logger("beray.mail")
SMTP_SECONDS = 20.0


class MailFailed(Exception):
    """The mail server did not take the mail."""


class Mailer:
    """Sends mail. Synchronous; the server calls it in a thread."""

    def __init__(self, settings: Settings, outbox: Path) -> None:
        self._settings = settings
        self._outbox = outbox

    def send(self, to: str, subject: str, text: str) -> None:
        """Send a plain-text mail.

        Raises:
            MailFailed: the mail server refused it or could not be reached.
        """
        message = EmailMessage()
        message["From"] = self._settings.mail_from
        message["To"] = to
        message["Subject"] = subject
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain="beray.invalid")
        message.set_content(text)
        if self._settings.smtp_host is None:
            self._keep(message)
        else:
            self._deliver(message, self._settings.smtp_host)

    def _keep(self, message: EmailMessage) -> None:
        self._outbox.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._outbox / f"{secrets.token_hex(8)}.eml"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(message.as_bytes())
        # The path and not the text: the mail may hold a code.
        log.info("mail written, no SMTP server is configured", path=str(path))

    def _deliver(self, message: EmailMessage, host: str) -> None:
        settings = self._settings
        tls = ssl.create_default_context()
        try:
            if settings.smtp_security == "tls":
                server: smtplib.SMTP = smtplib.SMTP_SSL(
                    host, settings.smtp_port, timeout=SMTP_SECONDS, context=tls
                )
            else:
                server = smtplib.SMTP(host, settings.smtp_port, timeout=SMTP_SECONDS)
            with server:
                if settings.smtp_security == "starttls":
                    server.starttls(context=tls)
                if settings.smtp_user is not None and settings.smtp_password is not None:
                    server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
                server.send_message(message)
        except (smtplib.SMTPException, OSError) as error:
            log.warning("mail not sent", host=host, error=type(error).__name__)
            raise MailFailed(f"the mail server did not take it ({type(error).__name__})") from error
