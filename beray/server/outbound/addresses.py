"""Classification of IP addresses for requests to URLs that users supply.

Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries; RFC 6890, RFC 6052 (NAT64),
RFC 3056 (6to4), RFC 4380 (Teredo).
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address

_NOT_PUBLIC_IPV4: Final = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_GLOBAL_UNICAST_IPV6: Final = ip_network("2000::/3")
"""The only IPv6 range that IANA assigns for public use. IPv4-mapped addresses, NAT64, unique
local, link-local and multicast addresses are outside."""
_NOT_PUBLIC_IPV6: Final = tuple(
    ip_network(network)
    for network in (
        "2001::/23",  # protocol assignments, with Teredo and benchmarking
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which embeds an IPv4 address
        "3fff::/20",  # documentation
    )
)
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")


def is_public(address: Address) -> bool:
    """Return True if the address is a public unicast address.

    IPv6 addresses that embed an IPv4 address are not public, whichever address they embed.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_IPV4)
    if address.scope_id is not None or address not in _GLOBAL_UNICAST_IPV6:
        return False
    return not any(address in network for network in _NOT_PUBLIC_IPV6)


def is_own(address: Address) -> bool:
    """Return True if the address belongs to this host.

    Asks the routing table: for a local destination, the kernel chooses that address as the
    source. Connecting a UDP socket sends no packet.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:
            return False
        source: str = probe.getsockname()[0]
    return ip_address(source) == address


def literal(host: str) -> Address | None:
    """Return the address that ``host`` is in standard notation, else None."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def is_unusual_notation(host: str) -> bool:
    """Return True if the C library reads ``host`` as an IPv4 address in unusual notation.

    Examples are ``127.1``, ``0x7f.1`` and ``2130706433``. A host whose last label is a number
    is never a DNS name (WHATWG URL, "ends in a number checker").
    """
    if literal(host) is not None:
        return False
    return _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) is not None
