"""Servers whose administrator is a test, and mails that servers send in the background."""

from __future__ import annotations

import email
import email.policy
import re

from beray import BeRayClient
from beray.testing import RunningServer
from tests.support import until

ADMIN_EMAIL = "root@example.test"
ADMIN_PASSWORD = "an administrator's password"


def setup_link(server: RunningServer) -> str:
    """Return the newest link that creates the first administrator, from the server's log."""
    pattern = re.compile(r"https?://\S+/setup#\S+")
    until(lambda: pattern.search(server.log.read_text()) is not None)
    return str(pattern.findall(server.log.read_text())[-1])


def first_administrator(server: RunningServer) -> BeRayClient:
    """Create the first administrator of a server; return a client that is signed in to it."""
    client = server.client()
    token = setup_link(server).partition("#")[2]
    client.create_first_administrator(token, ADMIN_EMAIL, ADMIN_PASSWORD)
    return client


def mail_count(server: RunningServer, address: str) -> int:
    """Return the number of mails to an address in the outbox of a server."""
    return sum(
        email.message_from_bytes(path.read_bytes(), policy=email.policy.default)["To"] == address
        for path in server.data_dir.glob("outbox/*.eml")
    )


class Outbox:
    """Mails of a server to one address.

    Args:
        server: The server.
        address: The address.
    """

    def __init__(self, server: RunningServer, address: str) -> None:
        self._server = server
        self._address = address
        self._seen = mail_count(server, address)

    def new_code(self) -> str:
        """Return the code of the next mail, which the server sends in the background."""
        until(lambda: mail_count(self._server, self._address) > self._seen)
        self._seen = mail_count(self._server, self._address)
        return self._server.mailed_code(self._address)
