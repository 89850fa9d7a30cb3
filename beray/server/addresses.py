"""Client addresses and the networks that settings name."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

_MAPPED: Final = IPv6Network("::ffff:0:0/96")


def parsed(address: str) -> IPv4Address | IPv6Address | None:
    """Return the address that ``address`` names; ``None`` if it is not one.

    An IPv4 address that is written as an IPv6 one (RFC 4291, 2.5.5.2) is returned as IPv4.
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def is_loopback(address: str) -> bool:
    """Return whether ``address`` is of this machine only."""
    found = parsed(address)
    return found is not None and found.is_loopback


def is_listed(address: str, networks: str) -> bool:
    """Return whether ``address`` is in one of ``networks``, which are comma-separated."""
    found = parsed(address)
    return found is not None and any(found in network for network in _networks(networks))


@lru_cache(maxsize=8)
def _networks(text: str) -> list[IPv4Network | IPv6Network]:
    return [_unmapped(ip_network(item)) for item in map(str.strip, text.split(",")) if item]


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        first = int(network.network_address) & 0xFFFF_FFFF
        return IPv4Network((first, network.prefixlen - _MAPPED.prefixlen))
    return network
