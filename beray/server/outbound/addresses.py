"""Classification of IP addresses for requests to URLs that users supply.

Source of the ranges: ``address_ranges``, which also apply to sandboxed commands.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from beray.server.sandbox.launcher.address_ranges import NON_PUBLIC

Address = IPv4Address | IPv6Address

_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")


def is_public(address: Address) -> bool:
    """Return True if the address is a public unicast address.

    IPv6 addresses that embed an IPv4 address are never public.
    """
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    return not any(address in network for network in NON_PUBLIC)


def is_own(address: Address) -> bool:
    """Return True if the address belongs to this host.

    This uses the routing table: for a local destination, the kernel selects the same address as
    the source. Connecting a UDP socket sends no packet.
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
    """Return the address if ``host`` is an IP address in standard notation; otherwise None."""
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
