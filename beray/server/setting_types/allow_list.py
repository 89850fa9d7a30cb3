"""Allow list ``BERAY_MCP_ALLOW``: destinations of users' URLs besides public addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Self

from beray.server.setting_types.ip_notation import Address, is_unusual_notation

_NAME: Final = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.|\Z))+")
_BRACKETED: Final = re.compile(r"\[([^\]]*)\](?::(.*))?")


@dataclass(frozen=True, slots=True)
class AllowList:
    """Destinations that the operator allows.

    Attributes:
        hosts: Host names, lower case, with ports.
        networks: Networks, each with a port or with None for every port.
    """

    hosts: frozenset[tuple[str, int]] = frozenset()
    networks: tuple[tuple[IPv4Network | IPv6Network, int | None], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the allow list of comma-separated entries.

        An entry is ``host:port``, an address, a network, or an address or network with a port;
        IPv6 addresses with a port are in brackets.

        Raises:
            ValueError: An entry is invalid; the message contains it.
        """
        hosts: set[tuple[str, int]] = set()
        networks: list[tuple[IPv4Network | IPv6Network, int | None]] = []
        for entry in filter(None, map(str.strip, text.split(","))):
            host, port = _split(entry)
            try:
                networks.append((ip_network(host), port))
            except ValueError:
                name = host.lower().removesuffix(".")
                if port is None or not _NAME.fullmatch(name) or is_unusual_notation(name):
                    raise _invalid(entry) from None
                hosts.add((name, port))
        return cls(frozenset(hosts), tuple(networks))

    def has_host(self, host: str, port: int) -> bool:
        """Return True if the list contains the lower-case host name with this port."""
        return (host, port) in self.hosts

    def has_address(self, address: Address, port: int) -> bool:
        """Return True if a network in the list contains the address, with this port."""
        return any(
            address in network and allowed_port in (None, port)
            for network, allowed_port in self.networks
        )


def _split(entry: str) -> tuple[str, int | None]:
    if bracketed := _BRACKETED.fullmatch(entry):
        host, digits = bracketed.groups()
    elif entry.count(":") == 1:
        host, _, digits = entry.partition(":")
    else:
        host, digits = entry, None
    if digits is None:
        return host, None
    if not (digits.isascii() and digits.isdecimal() and 0 < int(digits) < 65536):
        raise _invalid(entry)
    return host, int(digits)


def _invalid(entry: str) -> ValueError:
    return ValueError(
        f"{entry!r} is not a destination; give comma-separated entries such as "
        "mcp.internal:8080, 10.1.2.3, 10.1.0.0/16, 10.1.2.3:8080 or [fd00::1]:8080"
    )
