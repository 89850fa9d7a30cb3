"""Configuration of addresses, routes and rules of a network namespace through rtnetlink(7).

Linux only, standard library only. The numbers are those of ``linux/rtnetlink.h``,
``linux/fib_rules.h`` and ``linux/if_link.h``.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

TYPE_CHECKING = False  # as in typing, whose import would delay every command
if TYPE_CHECKING:
    from typing import Self

Network = IPv4Network | IPv6Network

MAIN_TABLE = 254
"""Number of the main routing table."""
_LOCAL_TABLE = 255
_NLM_REQUEST, _NLM_ACK, _NLM_DUMP, _NLM_NEW = 0x1, 0x4, 0x300, 0x600
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWLINK, _RTM_NEWADDR, _RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE, _RTM_NEWRULE = (
    16, 20, 24, 25, 26, 32,
)  # fmt: skip
_IFF_UP = 1
_IFLA_MTU = 4
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD = 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_RTN_UNICAST, _RTN_MULTICAST = 1, 5
_OWN_ROUTE_TYPES = (2, 3, 4)  # local, broadcast, anycast
_RTNH_F_ONLINK = 4
_RTPROT_STATIC = 4
_FRA_DST, _FRA_PRIORITY, _FRA_TABLE, _FRA_IP_PROTO, _FRA_DPORT_RANGE = 1, 6, 15, 22, 24
_FR_ACT_TO_TABLE, _FR_ACT_PROHIBIT = 1, 8


class Netlink:
    """Netlink socket of the network namespace in which it is created. A context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._number = 0

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def host_addresses(self) -> list[Network]:
        """Return the addresses to which packets are delivered locally in this namespace.

        These are the addresses of all interfaces, and further destinations of local routes.
        """
        found = set()
        self._send(_RTM_GETROUTE, _NLM_DUMP, _route(socket.AF_UNSPEC, 0, 0, 0))
        for body in self._replies():
            family, length, *_, kind = struct.unpack_from("=BBBBBBBB", body)
            if kind in _OWN_ROUTE_TYPES and family in (socket.AF_INET, socket.AF_INET6):
                for number, value in _attributes(body[12:]):
                    if number == _RTA_DST:
                        address = socket.inet_ntop(family, value)
                        found.add(ip_network(f"{address}/{length}"))
        return list(found)

    def set_up(self, interface: str, mtu: int | None = None) -> None:
        """Bring an interface up."""
        index = socket.if_nametoindex(interface)
        message = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP)
        if mtu is not None:
            message += _attribute(_IFLA_MTU, struct.pack("=I", mtu))
        self._request(_RTM_NEWLINK, 0, message)

    def add_address(self, interface: str, address: str, length: int) -> None:
        """Add an address to an interface, without duplicate address detection."""
        family, packed = _packed(address)
        index = socket.if_nametoindex(interface)
        message = struct.pack("=BBBBI", family, length, _IFA_F_NODAD, 0, index)
        message += _attribute(_IFA_ADDRESS, packed) + _attribute(_IFA_LOCAL, packed)
        self._request(_RTM_NEWADDR, _NLM_NEW, message)

    def add_default_route(self, interface: str, gateway: str) -> None:
        """Add a default route through an interface and a gateway on its link."""
        family, packed = _packed(gateway)
        message = _route(family, 0, MAIN_TABLE, _RTN_UNICAST, _RTNH_F_ONLINK)
        message += _attribute(_RTA_GATEWAY, packed) + self._out(interface)
        self._request(_RTM_NEWROUTE, _NLM_NEW, message)

    def remove_multicast_route(self, interface: str) -> None:
        """Remove the IPv6 multicast route that the kernel adds with each interface.

        It is in the local table, which takes precedence over all rules. Does nothing if the route
        does not exist.
        """
        message = _route(socket.AF_INET6, 8, _LOCAL_TABLE, _RTN_MULTICAST)
        message += _attribute(_RTA_DST, _packed("ff00::")[1]) + self._out(interface)
        try:
            self._request(_RTM_DELROUTE, 0, message)
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise

    def prohibit(self, network: Network, priority: int) -> None:
        """Add a rule with which sending to ``network`` fails (EACCES).

        A rule applies to sockets that are bound to any interface. A route does not: a process
        without privileges can bypass it in IPv6 with SO_BINDTODEVICE.
        """
        self._add_rule(network, priority, _FR_ACT_PROHIBIT, b"")

    def permit_port(self, address: str, protocol: int, port: int, priority: int) -> None:
        """Add a rule that routes packets to one port of one address."""
        attributes = _attribute(_FRA_TABLE, struct.pack("=I", MAIN_TABLE))
        attributes += _attribute(_FRA_IP_PROTO, bytes([protocol]))
        attributes += _attribute(_FRA_DPORT_RANGE, struct.pack("=HH", port, port))
        self._add_rule(ip_network(address), priority, _FR_ACT_TO_TABLE, attributes)

    def _add_rule(self, network: Network, priority: int, action: int, attributes: bytes) -> None:
        family, packed = _packed(str(network.network_address))
        table = MAIN_TABLE if action == _FR_ACT_TO_TABLE else 0
        message = struct.pack("=8BI", family, network.prefixlen, 0, 0, table, 0, 0, action, 0)
        if network.prefixlen:
            message += _attribute(_FRA_DST, packed)
        message += _attribute(_FRA_PRIORITY, struct.pack("=I", priority)) + attributes
        self._request(_RTM_NEWRULE, _NLM_NEW, message)

    def _out(self, interface: str) -> bytes:
        return _attribute(_RTA_OIF, struct.pack("=I", socket.if_nametoindex(interface)))

    def _request(self, kind: int, flags: int, body: bytes) -> None:
        self._send(kind, flags | _NLM_ACK, body)
        for _ in self._replies():
            continue

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._number += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, flags | _NLM_REQUEST, self._number, 0)
        self._socket.send(header + body)

    def _replies(self) -> Iterator[bytes]:
        """Yield the reply messages to the last request.

        Raises:
            OSError: The kernel reports an error.
        """
        while True:
            data = self._socket.recv(1 << 20)
            while data:
                length, kind, _, number = struct.unpack_from("=IHHI", data)
                body, data = data[16:length], data[(length + 3) & ~3 :]
                if number != self._number:
                    continue
                if kind == _NLMSG_ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                if kind == _NLMSG_DONE:
                    return
                yield body


def _route(family: int, length: int, table: int, kind: int, flags: int = 0) -> bytes:
    return struct.pack("=8BI", family, length, 0, 0, table, _RTPROT_STATIC, 0, kind, flags)


def _packed(address: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def _attribute(kind: int, value: bytes) -> bytes:
    data = struct.pack("=HH", 4 + len(value), kind) + value
    return data + bytes(-len(data) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind, data[4:length]
        data = data[(length + 3) & ~3 :]
