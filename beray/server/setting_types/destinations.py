"""Setting ``BERAY_NETWORK_ALLOW``: services that sandboxed commands reach through a relay."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address
from typing import Final

MAX_DESTINATIONS: Final = 64
"""Maximum number of entries in ``BERAY_NETWORK_ALLOW``."""
_SUBNETS: Final = ("10.0.2.0/24", "10.77.2.0/24", "10.177.2.0/24")
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Destination:
    """Service in ``BERAY_NETWORK_ALLOW``, which tasks with a network reach through a relay."""

    host: str
    """Host name, or IP address without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_allow(text: str) -> list[Destination]:
    """Return the destinations of a comma-separated list of ``host:port``.

    Raises:
        ValueError: An entry is not ``host:port``, ``a.b.c.d:port`` or ``[v6]:port``; its address
            is unspecified, multicast, link-local or IPv4-mapped; there are more than
            ``MAX_DESTINATIONS`` entries; or they leave no subnet for sandboxes.
    """
    found = [_destination(item) for item in map(str.strip, text.split(",")) if item]
    if len(found) > MAX_DESTINATIONS:
        raise ValueError(f"{len(found)} entries; at most {MAX_DESTINATIONS} are possible")
    if not any(_is_free(subnet, found) for subnet in _SUBNETS):
        raise ValueError(
            f"the entries are in all subnets that sandboxes can use ({', '.join(_SUBNETS)}); "
            "leave one of them free"
        )
    return list(dict.fromkeys(found))


def _destination(item: str) -> Destination:
    host, _, digits = item.rpartition(":")
    invalid = f"{item!r} is not HOST:PORT, such as 127.0.0.1:11434, [::1]:8080 or mirror.lan:443"
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits[:6]) < 65536):
        raise ValueError(invalid)
    port = int(digits)
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        # A name that ends in a number is parsed as an address (WHATWG URL, section 3.5).
        if (
            bracketed
            or not _NAME.fullmatch(host)
            or host.removesuffix(".").split(".")[-1].isdigit()
        ):
            raise ValueError(invalid) from None
        return Destination(host.lower().removesuffix("."), port)
    if bracketed != (address.version == 6):
        raise ValueError(invalid)
    if address.is_unspecified or address.is_multicast or address.is_link_local:
        raise ValueError(f"{item!r}: {address} is not the address of one host")
    if address.version == 6 and address.ipv4_mapped is not None:
        raise ValueError(f"{item!r}: write the IPv4 address {address.ipv4_mapped} instead")
    return Destination(str(address), port)


def subnet(allow: Iterable[Destination]) -> str:
    """Return a subnet for the sandbox's interface that contains none of the destinations."""
    return next(text for text in _SUBNETS if _is_free(text, allow))


def _is_free(subnet: str, allow: Iterable[Destination]) -> bool:
    hosts = [destination.host for destination in allow]
    addresses = (ip_address(host) for host in hosts if is_address(host))
    return not any(address in IPv4Network(subnet) for address in addresses)


def is_address(host: str) -> bool:
    """Return True if ``host`` is an IP address, not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
