"""Addresses of clients, as rate limits and allow-lists see them.

The address is that of the connection, or the one that a proxy from ``BERAY_TRUSTED_PROXIES``
reports in ``X-Forwarded-For``; uvicorn replaces it before the application sees the request.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, NamedTuple

from starlette.requests import HTTPConnection

IPV6_CLIENT_PREFIX: Final = 64
"""Bits of an IPv6 address that identify a client; it chooses the other 64 itself (RFC 4291)."""
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_LONGEST_NAME: Final = 64


class Client(NamedTuple):
    """The origin of a request.

    ``key`` is an IPv4 address, the /64 network of an IPv6 address, or a name where the proxy
    reports no address. ``local`` is True for loopback addresses and for a trusted proxy itself:
    many users may share them, so limits for all requests of one address do not apply.
    """

    key: str
    local: bool


def client_of(connection: HTTPConnection, trusted_proxies: str) -> Client:
    """Return the client of a request.

    Args:
        trusted_proxies: comma-separated addresses and networks.
    """
    return client_at(connection.client.host if connection.client else "", trusted_proxies)


def client_at(host: str, trusted_proxies: str = "") -> Client:
    """Return the client with the address ``host``.

    Args:
        trusted_proxies: comma-separated addresses and networks.
    """
    address = _parsed(host)
    if address is None:
        return Client(host[:_LONGEST_NAME], False)
    local = address.is_loopback or in_networks(host, trusted_proxies)
    if isinstance(address, IPv6Address):
        return Client(str(IPv6Network((address, IPV6_CLIENT_PREFIX), strict=False)), local)
    return Client(str(address), local)


def in_networks(address: str, networks: str) -> bool:
    """Return True if ``address`` is in one of the comma-separated ``networks``."""
    found = _parsed(address)
    return found is not None and any(found in network for network in _networks(networks))


def is_own_address(address: str) -> bool:
    """Return True if ``address`` belongs to this host."""
    found = _parsed(address)
    if found is None or found.is_loopback:
        return found is not None
    family = socket.AF_INET6 if isinstance(found, IPv6Address) else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(found), 0))
        except OSError:
            return False
    return True


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    """Return the address without its zone, as IPv4 if it is mapped into IPv6."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


@lru_cache(maxsize=256)
def _networks(text: str) -> list[IPv4Network | IPv6Network]:
    return [_unmapped(ip_network(item)) for item in map(str.strip, text.split(",")) if item]


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Return a network of IPv4-mapped addresses (RFC 4291, 2.5.5.2) as an IPv4 network."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        first = int(network.network_address) & 0xFFFF_FFFF
        return IPv4Network((first, network.prefixlen - _MAPPED.prefixlen))
    return network
