"""Authentication of clients by their address, without a credential.

``BERAY_GATEWAY_ALLOW`` admits addresses to the gateway, ``BERAY_AGENT_WS_ALLOW`` to the agent
WebSocket, each as a fixed user. The same restrictions apply to both; see ``is_credential``.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.requests import HTTPConnection

from beray.server.http.client_address import in_networks, is_own_address

if TYPE_CHECKING:
    from beray.server.api.dependencies import Services

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


def is_credential(app: Services, connection: HTTPConnection) -> bool:
    """Return True if the address of a client can replace a credential, provided it is listed.

    Addresses that processes of tasks may use are excluded. In a network namespace of its own, such
    a process reaches this server only with an address of this host: through a proxy elsewhere, or
    through a relay to this port that the operator has allowed. On the host's network it has the
    addresses of this host, and can impersonate a trusted proxy.

    Requests of web pages, which contain an ``Origin``, are also excluded: any page could send
    requests from the address of its user.
    """
    address = connection.client.host if connection.client else ""
    if not address or "Origin" in connection.headers:
        return False
    settings = app.settings
    own = is_own_address(address)
    if app.sandbox.networks.state.mode == "host":
        return not settings.trusted_proxies and not own
    forwarded = bool(settings.trusted_proxies) and "X-Forwarded-For" in connection.headers
    port = (connection.scope.get("server") or ("", None))[1]
    relayed = any(destination.port == port for destination in settings.network_destinations())
    return not (own and (forwarded or relayed))
