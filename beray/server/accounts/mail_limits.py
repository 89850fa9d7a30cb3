"""Rate limits for verification mails."""

from __future__ import annotations

from typing import Final

import structlog

from beray.server.http.client_address import Client
from beray.server.http.errors import ApiHTTPError
from beray.server.runtime.sliding_window import SlidingWindow

_CLIENT_SECONDS: Final = 600.0
_LOCAL_SECONDS: Final = 60.0
_HOUR: Final = 3600.0
_TOTAL: Final = "total"

log = structlog.get_logger("beray.mail")


class MailLimits:
    """Counters of code requests per client address, and of mails of the whole server.

    Args:
        mails_per_hour: Maximum number of mails that the server sends within an hour, so that
            many addresses together cannot make it flood mailboxes. ``None`` if mail is written
            to the outbox, whose size the number of pending codes limits.
    """

    def __init__(self, mails_per_hour: int | None) -> None:
        self._of_client = SlidingWindow(20, _CLIENT_SECONDS)
        self._of_local_client = SlidingWindow(100, _LOCAL_SECONDS)
        self._total = None if mails_per_hour is None else SlidingWindow(mails_per_hour, _HOUR)

    def add_request(self, client: Client) -> None:
        """Count a request for a code.

        Raises:
            ApiHTTPError: 429, the client has made too many requests.
        """
        window = self._of_local_client if client.local else self._of_client
        wait = window.try_add(client.key)
        if wait:
            raise ApiHTTPError(
                429,
                f"Too many verification codes were requested from your address "
                f"(limit: {window.limit} in {window.seconds:.0f} s). Try again in {wait} s.",
                wait,
            )

    def add_mail(self) -> None:
        """Count a mail that is about to be sent.

        Raises:
            ApiHTTPError: 503, the server has sent too many mails.
        """
        wait = self._total.try_add(_TOTAL) if self._total is not None else 0
        if wait and self._total is not None:
            log.warning("verification mail limit reached", mails_per_hour=self._total.limit)
            raise ApiHTTPError(
                503,
                f"This server has reached its limit of {self._total.limit} verification mails "
                f"per hour. Try again in {wait} s.",
                wait,
            )

    def undo_mail(self) -> None:
        """Remove the last counted mail, which was not sent."""
        if self._total is not None:
            self._total.undo(_TOTAL)
