"""Clients that are admitted by their address, without a credential.

``BERAY_GATEWAY_ALLOW`` admits addresses to the gateway, ``BERAY_AGENT_WS_ALLOW`` to the agent
WebSocket, each as a fixed user. Both follow the same rules, which are in ``is_credential``.
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
    """The user that clients of a network are."""

    network: str
    email: str


def parse_users(text: str) -> list[AddressUser]:
    """Return the entries of a comma-separated list of ``NETWORK=EMAIL``.

    Raises:
        ValueError: An entry has another form, or its network is invalid.
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
    """Return the e-mail address of the first entry that ``address`` belongs to."""
    return next((user.email for user in users if in_networks(address, user.network)), None)


def is_credential(app: Services, connection: HTTPConnection) -> bool:
    """Return True if the address of a client may stand for a credential, where it is listed.

    The address never does so for a process of a task. With a network namespace of its own, it
    reaches this server as this host only: through a proxy elsewhere, or through a relay to this
    port that the operator has listed. On the host's network it has the addresses of this host,
    and can be taken for a trusted proxy.

    It never does so for a page in a browser either, which sends an ``Origin``: any page could
    make requests with the address of its reader.
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
    relayed = any(one.port == port for one in settings.network_destinations())
    return not (own and (forwarded or relayed))
