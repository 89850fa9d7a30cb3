"""Public addresses, hosts in unusual notation, and the allow list."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from beray.server.outbound.addresses import is_own, is_public
from beray.server.setting_types.allow_list import AllowList
from beray.server.setting_types.ip_notation import is_unusual_notation


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1",
        "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255",
        "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
        "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "fe80::1", "fe80::1%1",
        "fc00::1", "fd12::1", "fec0::1", "ff02::1", "ff0e::1", "64:ff9b::7f00:1",
        "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::1", "2001:2::1",
        "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "5f00::1",
        "2606:4700::1111%eth0",
    ],
)  # fmt: skip
def test_these_addresses_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1",
     "192.0.1.1", "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "2001:4860::8888"],
)  # fmt: skip
def test_these_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host",
    ["127.1", "0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.1.", "1.2.3.4.5",
     "0x", "example.0x7f", "example.1", "0"],
)  # fmt: skip
def test_hosts_that_end_in_a_number_are_unusual(host: str) -> None:
    assert is_unusual_notation(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "a1.example", "1.example", "a"])
def test_usual_hosts_are_not(host: str) -> None:
    assert not is_unusual_notation(host)


def test_addresses_of_this_host_are_its_own() -> None:
    assert is_own(ip_address("127.0.0.1"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this host has no route to another network")
        own = probe.getsockname()[0]
    assert is_own(ip_address(own))
    assert not is_own(ip_address("192.0.2.1"))


def test_an_allow_list_has_hosts_addresses_and_networks() -> None:
    allow = AllowList.parse(
        "MCP.internal:8080, 10.1.2.3, 10.2.0.0/16,10.3.0.1:81, fd00::/8, [fd01::1]:82, 10.4.0.0/24:83"
    )
    assert allow.has_host("mcp.internal", 8080)
    assert not allow.has_host("mcp.internal", 8081)
    allowed = {
        ("10.1.2.3", 1), ("10.2.255.255", 65535), ("10.3.0.1", 81), ("fd12::1", 5),
        ("fd01::1", 82), ("10.4.0.9", 83),
    }  # fmt: skip
    forbidden = {
        ("10.1.2.4", 1), ("10.3.0.1", 82), ("10.4.0.9", 84), ("fe80::1", 5),
        ("::ffff:10.1.2.3", 1),
    }  # fmt: skip
    assert all(allow.has_address(ip_address(address), port) for address, port in allowed)
    assert not any(allow.has_address(ip_address(address), port) for address, port in forbidden)


@pytest.mark.parametrize(
    "entry",
    ["mcp.internal", "mcp.internal:0", "mcp.internal:65536", "mcp.internal:http", "http://a:80",
     "a b:80", "10.0.0.1/8", "10.0.0.1:", "127.1:80", "2130706433:80", "[fd00::1", ":80", "*:80",
     "mcp.internal:٣"],
)  # fmt: skip
def test_the_error_for_an_invalid_entry_contains_it(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a destination"):
        AllowList.parse(f"10.0.0.1,{entry}")
