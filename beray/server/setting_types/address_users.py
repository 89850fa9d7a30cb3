"""Authentication of clients by their address, without a credential.

``BERAY_GATEWAY_ALLOW`` admits addresses to the gateway, ``BERAY_AGENT_WS_ALLOW`` to the agent
WebSocket, each as a fixed user. The same restrictions apply to both; see
``api.dependencies.is_admitted_by_address``.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Final, NamedTuple

from beray.server.http.client_address import in_networks

_EMAIL: Final = re.compile(r"[^@\s;,]+@[^@\s;,]+")


class AddressUser(NamedTuple):
    """Account that clients of a network use.

    Attributes:
        network: Address or network of the clients.
        email: E-mail address of the account.
    """

    network: str
    email: str


def parse_users(text: str) -> list[AddressUser]:
    """Return the entries of a comma-separated list of ``NETWORK=EMAIL``.

    Raises:
        ValueError: An entry is not ``NETWORK=EMAIL``, or its network is invalid.
    """
    entries = []
    for item in filter(None, map(str.strip, text.split(","))):
        network, _, email = (part.strip() for part in item.partition("="))
        try:
            ip_network(network)
        except ValueError:
            network = ""
        if not network or not _EMAIL.fullmatch(email):
            raise ValueError(
                f"{item!r} is not ADDRESS=EMAIL or NETWORK=EMAIL; give a comma-separated list "
                "such as 10.1.2.3=bot@example.com,10.2.0.0/16=team@example.com"
            )
        entries.append(AddressUser(network, email))
    return entries


def email_of(address: str, users: list[AddressUser]) -> str | None:
    """Return the e-mail address of the first entry that contains ``address``, or None."""
    return next((user.email for user in users if in_networks(address, user.network)), None)
