"""Senders of requests about accounts, as rate limits and the audit log identify them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

from beray.sanitize import one_line
from beray.server.http.client_address import Client
from beray.server.storage.audit import AuditRecord
from beray.server.storage.tokens import SessionOrigin

MAX_TEXT: Final = 320
"""Maximum length of a string from a client in the audit log, in characters."""
OPERATOR: Final = "operator"
"""Actor of commands on the server's host."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Sender of a request.

    Attributes:
        client: Client address, to which rate limits apply.
        address: IP address; empty on the server's host.
        device: ``User-Agent``.
        request_id: ``X-Request-ID`` of the response.
        email: Address of the signed-in user; empty for anonymous requests.
    """

    client: Client
    address: str = ""
    device: str = ""
    request_id: str = ""
    email: str = ""

    def as_user(self, email: str) -> Self:
        """Return the same sender, signed in as a user."""
        return replace(self, email=email)

    @property
    def origin(self) -> SessionOrigin:
        """Device and address of a new session."""
        return SessionOrigin(one_line(self.device, MAX_TEXT), self.address)

    def record(self, action: str, subject: str = "") -> AuditRecord:
        """Return the entry of the audit log for an action of this sender.

        Args:
            action: Name of the action.
            subject: What was changed; it may come from the client.
        """
        return AuditRecord(
            actor=self.email,
            address=self.address,
            action=action,
            object=one_line(subject, MAX_TEXT),
            request_id=self.request_id,
        )


LOCAL_OPERATOR: Final = Actor(client=Client("", local=True), email=OPERATOR)
"""Actor of commands on the data directory of a stopped server."""
