"""Networks of tasks: the modes that a host supports, and the network of each command.

A host has one of three modes. ``own``: a command gets a network namespace with slirp4netns, from
which only public addresses and ``BERAY_NETWORK_ALLOW`` are reachable. ``host``: a command uses the
server's network namespace, without protection. ``unavailable``: tasks that need a network are
rejected.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final, Literal

from beray.server.setting_types.destinations import Destination, is_address, subnet

HOST_NAME: Final = "beray"
"""Name of the host inside the sandbox."""
_RESOLVER: Final = 3
"""Index of slirp4netns' DNS forwarder in its subnet."""
GATEWAY_ADDRESS: Final = ("127.0.0.1", 61081)
"""Address and port of the gateway in a command's network namespace. The port is outside the range
of ephemeral ports."""
INSTALL: Final = "install slirp4netns (apt install slirp4netns) and restart the server"
"""Instruction for the operator if slirp4netns is missing."""
_TUN: Final = Path("/dev/net/tun")
_LOCALHOST: Final = ("127.0.0.1", "::1")

Mode = Literal["own", "host", "unavailable"]


@dataclass(frozen=True, slots=True)
class NetworkState:
    """Network of sandboxed commands on this host."""

    mode: Mode
    reason: str = ""
    """Reason why ``mode`` is not ``own``, and how to fix it."""
    allow: tuple[Destination, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkState:
        """Return the state that ``dataclasses.asdict`` converted to ``values``."""
        allow = tuple(Destination(**destination) for destination in values["allow"])
        return cls(values["mode"], values["reason"], allow)

    @property
    def needs_attention(self) -> bool:
        """True if the operator should change something."""
        return self.mode != "own"

    def __str__(self) -> str:
        """Return one line for the startup report."""
        if self.mode == "own":
            reach = "public addresses"
            if self.allow:
                reach += " and " + ", ".join(map(str, self.allow))
            return f"own namespace via slirp4netns; reaches {reach}"
        name = "network of the host" if self.mode == "host" else "unavailable"
        return f"{name}: {self.reason}"


@dataclass(frozen=True, slots=True)
class GatewayRelay:
    """Access of one command to the server's gateway."""

    url: str
    """URL for commands on the host's network."""
    socket: str | None
    """Path of a Unix socket that serves the gateway to holders of one token only; None without a
    sandbox."""
    token: str = field(default="", repr=False)
    """Internal token that the command receives; empty: none."""


@dataclass(frozen=True, slots=True)
class CommandNetwork:
    """Network of one command."""

    mode: Literal["none", "host", "own"]
    """``own``: the launcher creates a namespace, for public addresses, for relays, or for both."""
    public: bool = False
    """True if slirp4netns connects the namespace with public addresses."""
    allow: tuple[Destination, ...] = ()
    gateway: GatewayRelay | None = None

    def listeners(self) -> list[Listener]:
        """Return the listeners of relayed destinations; the gateway's is not included."""
        return listeners(self.allow) if self.mode == "own" else []

    def launcher_spec(self) -> dict[str, object] | None:
        """Return the network part of the launcher's message, or None if there is nothing to set up.

        Listening sockets are in the order of ``listeners``, followed by the gateway's.
        """
        if self.mode != "own":
            return None
        addresses = [(listener.address, listener.port) for listener in self.listeners()]
        if self.gateway is not None:
            addresses.append(GATEWAY_ADDRESS)
        return {
            "slirp4netns": (program() or "slirp4netns") if self.public else None,
            "subnet": subnet(self.allow),
            "listen": addresses,
        }

    def environ(self) -> dict[str, str]:
        """Return the variables with the gateway's URL and token."""
        if self.gateway is None:
            return {}
        host, port = GATEWAY_ADDRESS
        url = f"http://{host}:{port}" if self.mode == "own" else self.gateway.url
        variables = {"BERAY_GATEWAY_URL": url}
        return variables | ({"X_INTERNAL_TOKEN": self.gateway.token} if self.gateway.token else {})

    def etc_files(self) -> dict[str, str]:
        """Return the contents of the files in ``/etc`` that configure name resolution, by name."""
        return _etc_files(self.mode, self.allow, public=self.public)


NO_NETWORK: Final = CommandNetwork("none")


def find_state(*, sandboxed: bool, shared: bool, allow: Sequence[Destination] = ()) -> NetworkState:
    """Return the network that commands have on this host.

    Only conditions that do not change while the server runs are checked. If slirp4netns later
    fails to start, that command is not started; it never gets the network of the host instead.

    Args:
        sandboxed: True if commands run in bubblewrap; otherwise they use the host's network.
        shared: True if several people use the server. A shared server never gives sandboxed
            commands the host's network.
        allow: Destinations of ``BERAY_NETWORK_ALLOW``.
    """
    if not sandboxed:
        reason = "commands are not sandboxed and can reach the services of this host"
        return NetworkState("host", reason)
    problem = _requirements_problem()
    if problem is None:
        return NetworkState("own", allow=tuple(allow))
    return _without_namespace(problem, _fix(), shared)


def not_permitted(problem: str, shared: bool) -> NetworkState:
    """Return the network of a host whose kernel does not permit network namespaces.

    Args:
        problem: Error of the probe.
        shared: True if several people use the server.
    """
    fix = "permit user namespaces to the server (kernel.apparmor_restrict_unprivileged_userns)"
    return _without_namespace(problem, fix, shared)


def _without_namespace(problem: str, fix: str, shared: bool) -> NetworkState:
    if shared:
        return NetworkState("unavailable", f"{problem}: tasks cannot have a network; {fix}")
    return NetworkState(
        "host", f"{problem}: tasks with a network can reach the services of this host; {fix}"
    )


def program() -> str | None:
    """Return the path of slirp4netns, or None if it is not installed."""
    return shutil.which("slirp4netns")


def _requirements_problem() -> str | None:
    """Return the missing requirement of slirp4netns, or None."""
    if program() is None:
        return "slirp4netns is not installed"
    if not _TUN.exists():
        return f"{_TUN} does not exist"
    if not os.access(_TUN, os.R_OK | os.W_OK):
        return f"the server's user cannot open {_TUN}"
    return None


def _fix() -> str:
    if program() is None:
        return INSTALL
    if _TUN.exists():
        return f"permit access (chmod 0666 {_TUN}) and restart the server"
    return f"add {_TUN} to the server's container (docker run --device {_TUN}) and restart it"


@dataclass(frozen=True, slots=True)
class Listener:
    """Address and port in a sandbox at which connections for a destination are accepted."""

    address: str
    port: int
    destination: Destination


def listeners(allow: Iterable[Destination]) -> list[Listener]:
    """Return the listeners in a sandbox through which the destinations are reached.

    An address is the same as outside. A name gets a loopback address of its own, because several
    names may have the same port; ``localhost`` keeps both of its addresses.
    """
    found: dict[tuple[str, int], Listener] = {}
    names = _addresses_of_names(allow)
    for destination in allow:
        for address in names.get(destination.host, [destination.host]):
            if address == "::1" and not has_ipv6():
                continue
            listener = Listener(address, destination.port, destination)
            found.setdefault((address, destination.port), listener)
    return list(found.values())


def has_ipv6() -> bool:
    """Return True if this host supports IPv6."""
    return Path("/proc/net/if_inet6").exists()


def _addresses_of_names(allow: Iterable[Destination]) -> dict[str, Sequence[str]]:
    hosts = [destination.host for destination in allow]
    names = dict.fromkeys(host for host in hosts if not is_address(host))
    others = [name for name in names if name != "localhost"]
    found: dict[str, Sequence[str]] = {
        name: [f"127.77.0.{number}"] for number, name in enumerate(others, 1)
    }
    return found | {name: _LOCALHOST for name in names if name not in others}


def _etc_files(
    network: Literal["none", "host", "own"], allow: Sequence[Destination], *, public: bool
) -> dict[str, str]:
    hosts = [f"127.0.0.1 localhost {HOST_NAME}", f"::1 localhost ip6-localhost {HOST_NAME}"]
    if network == "host":
        with suppress(OSError):
            hosts = [Path("/etc/hosts").read_text(errors="replace"), *hosts]
    for name, addresses in _addresses_of_names(allow).items():
        if addresses is not _LOCALHOST:
            hosts += [f"{address} {name}" for address in addresses]
    files = {
        "hosts": "\n".join(hosts) + "\n",
        # Without it, the C library returns only the first of several addresses of a name.
        "host.conf": "multi on\n",
        # Other name sources need services of the host.
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n",
    }
    if public:
        files["resolv.conf"] = f"nameserver {IPv4Network(subnet(allow))[_RESOLVER]}\n"
    return files
