"""Notations of IP addresses in host names."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")


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
