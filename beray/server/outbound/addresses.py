"""Classification of IP addresses for requests to URLs that users supply.

Source of the ranges: ``address_ranges``, which also apply to sandboxed commands.
"""

from __future__ import annotations

import socket
from ipaddress import IPv6Address, ip_address

from beray.server.sandbox.launcher.address_ranges import NON_PUBLIC
from beray.server.setting_types.ip_notation import Address


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
