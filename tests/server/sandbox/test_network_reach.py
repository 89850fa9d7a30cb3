"""Addresses that commands with a network can reach: public ones, and none of the host."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.network_support import (
    HOST_LAN,
    HOST_PUBLIC,
    HOST_PUBLIC6,
    METADATA,
    NEIGHBOUR,
    PORT,
    PUBLIC,
    PUBLIC6,
    Namespace,
    host_and_internet,
    needs_namespaces,
    needs_own_network,
)

pytestmark = [needs_own_network, needs_namespaces]

FORBIDDEN = [
    "127.0.0.1", "127.0.0.53", HOST_LAN, HOST_PUBLIC, NEIGHBOUR, METADATA, "10.0.2.2", "10.0.2.3",
    "0.0.0.0", "::1", HOST_PUBLIC6, "fd12::1", "fd00::2", "fd00::3", "fe80::2%tap0",
    f"::ffff:{HOST_LAN}",
    f"::ffff:{HOST_PUBLIC}", f"64:ff9b::{HOST_LAN}", "2002:c0a8:3201::1",
]  # fmt: skip


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("network") / "reached"


@pytest.fixture(scope="module")
def host(log: Path) -> Iterator[Namespace]:
    with host_and_internet(log) as found:
        yield found


def test_public_addresses_are_reached(host: Namespace, tmp_path: Path) -> None:
    destinations = [f"{PUBLIC}@{PORT}", f"{PUBLIC6}@{PORT}"]
    assert host.reached(tmp_path, *destinations) == {
        destinations[0]: [PUBLIC, PUBLIC],
        destinations[1]: [PUBLIC6, PUBLIC6],
    }


@pytest.mark.parametrize("bound", [False, True])
def test_the_host_and_private_networks_are_not_reached(
    host: Namespace, log: Path, tmp_path: Path, bound: bool
) -> None:
    log.write_text("")
    destinations = [f"{address}@{PORT}" for address in FORBIDDEN]
    got = host.reached(tmp_path, *destinations, bound=bound)
    answered = {destination: found for destination, found in got.items() if not _only_errors(found)}
    assert answered == {}
    assert log.read_text() == ""
    if not bound:
        assert got[f"{HOST_LAN}@{PORT}"] == ["PermissionError", "PermissionError"]


def _only_errors(found: list[str]) -> bool:
    return all(result.endswith("Error") for result in found)


def test_multicast_and_broadcast_stay_inside(host: Namespace, log: Path, tmp_path: Path) -> None:
    log.write_text("")
    code = (
        "import socket\n"
        "for family, name, address in ((2, b'tap0', '224.0.0.1'), (2, b'tap0', '255.255.255.255'),"
        " (2, b'', '239.255.255.250'), (10, b'tap0', 'ff02::1'), (10, b'tap0', 'ff05::2')):\n"
        "    sock = socket.socket(family, socket.SOCK_DGRAM)\n"
        "    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\n"
        "    sock.setsockopt(*((0, 33, 9) if family == 2 else (41, 18, 9)))\n"
        "    name and sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)\n"
        "    try:\n"
        f"        sock.sendto(b'x', (address, {PORT}))\n"
        "    except OSError:\n"
        "        pass\n"
    )
    host.sandboxed(tmp_path, ["/usr/bin/python3", "-c", code])
    host.reached(tmp_path, f"{PUBLIC}@{PORT}")  # sent after the packets above
    assert set(log.read_text().split()) == {PUBLIC}


_CHANGES = [
    "ip rule del pref 200",
    "ip -6 rule del pref 200",
    "ip rule add pref 1 lookup main",
    "ip route add 192.168.50.0/24 dev tap0",
    "ip link set tap0 down",
    "ip link add x type dummy",
    "ip addr add 192.168.50.9/24 dev tap0",
    "echo 0 > /proc/sys/net/ipv4/ip_forward",
    "unshare -r ip rule del pref 200",
    "unshare -rn true && unshare -r ip route flush table main",
    "nsenter -t 1 -n ip rule del pref 200",
]


def test_a_command_cannot_change_its_network(host: Namespace, tmp_path: Path) -> None:
    commands = [f"({command}) >/dev/null 2>&1 && echo 'done: {command}'" for command in _CHANGES]
    script = "\n".join([*commands, "ip rule", "ip -6 rule"])
    finished = host.sandboxed(tmp_path, ["/bin/sh", "-c", script])
    assert "done:" not in finished.output
    for address in (HOST_PUBLIC, HOST_PUBLIC6, "192.168.0.0/16"):
        assert f"to {address} prohibit" in finished.output


def test_raw_sockets_are_denied(host: Namespace, tmp_path: Path) -> None:
    code = (
        "import socket\n"
        "for kind in ((17, 3, 3), (2, 3, 255), (2, 3, 1), (10, 3, 58)):\n"
        "    try:\n        socket.socket(*kind); print('created', kind)\n"
        "    except PermissionError:\n        print('denied')\n"
    )
    finished = host.sandboxed(tmp_path, ["/usr/bin/python3", "-c", code])
    assert finished.output.split() == ["denied"] * 4


def test_the_name_server_of_the_host_is_used(host: Namespace, tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.9\n")
    host.serve(tmp_path / "requests", 53, "127.0.0.9")
    mounted = host.command("mount", "--bind", str(resolver), "/etc/resolv.conf")
    subprocess.run(mounted, check=True)
    try:
        got = host.reached(tmp_path, "10.0.2.3@53", f"10.0.2.3@{PORT}", "127.0.0.9@53")
    finally:
        subprocess.run(host.command("umount", "/etc/resolv.conf"), check=True)
    assert got["10.0.2.3@53"] == ["127.0.0.9", "127.0.0.9"]
    assert _only_errors(got[f"10.0.2.3@{PORT}"])
    assert _only_errors(got["127.0.0.9@53"])


@pytest.mark.parametrize("network", [True, False])
def test_names_of_the_sandbox_itself_are_resolved(
    host: Namespace, tmp_path: Path, network: bool
) -> None:
    code = (
        "import json, socket\n"
        "with socket.create_server(('::', 5000), family=10, dualstack_ipv6=True):\n"
        "    for name in ('localhost', socket.gethostname(), '127.0.0.1', '::1'):\n"
        "        socket.create_connection((name, 5000)).close()\n"
        "found = {info[4][0] for info in socket.getaddrinfo('localhost', 80)}\n"
        "print(json.dumps([socket.gethostname(), sorted(found)]))\n"
    )
    finished = host.sandboxed(tmp_path, ["/usr/bin/python3", "-c", code], network=network)
    assert json.loads(finished.output) == ["beray", ["127.0.0.1", "::1"]]


@pytest.mark.parametrize(
    ("policy", "requested", "interfaces"),
    [
        ("task", True, ["lo", "tap0"]),
        ("task", False, ["lo"]),
        ("always", False, ["lo", "tap0"]),
        ("never", True, ["lo"]),
    ],
)
def test_the_network_depends_on_the_policy(
    host: Namespace, tmp_path: Path, policy: str, requested: bool, interfaces: list[str]
) -> None:
    command = ["/usr/bin/python3", "-c", "import socket; print(socket.if_nameindex())"]
    finished = host.sandboxed(tmp_path, command, network=requested, sandbox_network=policy)
    assert [name for name in ("lo", "tap0", "lan") if f"'{name}'" in finished.output] == interfaces
