"""Policy for connections to hosts in URLs that users supply."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from beray.server.outbound.addresses import is_own, is_public
from beray.server.setting_types.allow_list import AllowList
from beray.server.setting_types.ip_notation import Address, is_unusual_notation, literal
from beray.server.settings import Settings

Resolver = Callable[[str, int], Awaitable[list[str]]]
"""Function that returns the addresses of a host name, and raises OSError if it has none."""

_PORTS = {"http": 80, "https": 443}


class ForbiddenDestination(Exception):
    """The policy does not permit connections to this host.

    The message is the same for a name that does not resolve and for a name with an address that
    is not permitted, so that it reveals nothing about the server's network.
    """


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host name in the system resolver's order.

    Raises:
        OSError: The name does not resolve.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class OutboundPolicy:
    """Policy that resolves a URL's host, and decides whether its addresses are permitted.

    Args:
        allow: Destinations that are always permitted.
        public: True to permit public addresses.
        internal: True to permit all other addresses.
        resolver: Returns the addresses of a host name.
    """

    def __init__(
        self,
        *,
        allow: AllowList | None = None,
        public: bool = True,
        internal: bool = False,
        resolver: Resolver = resolve,
    ) -> None:
        self._allow = allow or AllowList()
        self._public = public
        self._internal = internal
        self._resolver = resolver

    @classmethod
    def of(cls, settings: Settings, resolver: Resolver = resolve) -> OutboundPolicy:
        """Return the policy of a server.

        With ``sandbox_network=never``, only the operator's allow list is permitted. Otherwise
        public addresses are also permitted, and on personal servers all addresses.
        """
        networked = settings.sandbox_network != "never"
        return cls(
            allow=AllowList.parse(settings.mcp_allow),
            public=networked,
            internal=networked and not settings.shared,
            resolver=resolver,
        )

    @property
    def is_unrestricted(self) -> bool:
        """True if all addresses are permitted."""
        return self._public and self._internal

    async def addresses(self, host: str, port: int) -> list[str]:
        """Resolve ``host`` once and return its addresses, all of which are permitted.

        Raises:
            ForbiddenDestination: The host does not resolve, or an address is not permitted.
        """
        name = host.lower().removesuffix(".")
        if is_unusual_notation(name):
            raise self._forbidden(host, port)
        found = [address] if (address := literal(name)) else await self._resolved(name, port)
        if not found:
            raise self._forbidden(host, port)
        if not self._allow.has_host(name, port):
            for address in found:
                if not self._permits(address, port):
                    raise self._forbidden(host, port)
        return [str(address) for address in found]

    async def check(self, url: str) -> None:
        """Check a URL to which another program connects.

        That program resolves the name again, possibly to another address. Only its own network
        restrictions protect against that.

        Raises:
            ForbiddenDestination: The host is not permitted.
            ValueError: The URL has no host or an invalid port.
        """
        if not self.is_unrestricted:
            await self.addresses(*_host_and_port(url))

    def is_listed(self, url: str) -> bool:
        """Return True if the operator's allow list contains the URL's host itself.

        Raises:
            ValueError: The URL has no host or an invalid port.
        """
        host, port = _host_and_port(url)
        name = host.lower().removesuffix(".")
        address = literal(name)
        if address is not None:
            return self._allow.has_address(address, port)
        return self._allow.has_host(name, port)

    async def _resolved(self, name: str, port: int) -> list[Address]:
        try:
            found = await self._resolver(name, port)
        except (OSError, UnicodeError):
            return []
        addresses = [literal(address) for address in found]
        return [address for address in addresses if address is not None]

    def _permits(self, address: Address, port: int) -> bool:
        if self._allow.has_address(address, port) or self.is_unrestricted:
            return True
        return self._public and is_public(address) and not is_own(address)

    def _forbidden(self, host: str, port: int) -> ForbiddenDestination:
        destination = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if not self._public:
            return ForbiddenDestination(
                f"{destination} is not reachable: this server connects only to destinations that "
                "its operator lists in BERAY_MCP_ALLOW (BERAY_SANDBOX_NETWORK=never)"
            )
        return ForbiddenDestination(
            f"{destination} is not reachable: this server connects only to public addresses and to "
            "destinations that its operator lists in BERAY_MCP_ALLOW"
        )


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme)
    if not parts.hostname or port is None:
        raise ValueError(f"{url!r} has no host")
    return parts.hostname, port
