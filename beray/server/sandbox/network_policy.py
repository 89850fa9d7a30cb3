"""Network of tasks: what the settings permit, and what this host can keep.

A command has one of three networks. ``own`` is a network namespace with slirp4netns, from which
only public addresses and ``BERAY_NETWORK_ALLOW`` are reachable. ``host`` is the server's network
namespace, which nothing protects. ``refused`` means that a task that needs a network is refused.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any, Final, Literal

HOST_NAME: Final = "beray"
"""Name of the host inside the sandbox."""
_SUBNETS: Final = ("10.0.2.0/24", "10.77.2.0/24", "10.177.2.0/24")
_RESOLVER: Final = 3
"""Number of slirp4netns' DNS forwarder in its subnet."""
GATEWAY_PLACE: Final = ("127.0.0.1", 61081)
"""Address and port of the gateway in an own namespace; not one that the kernel assigns."""
MAX_DESTINATIONS: Final = 64
INSTALL: Final = "install slirp4netns (apt install slirp4netns) and restart the server"
_TUN: Final = Path("/dev/net/tun")
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)
_LOCALHOST: Final = ("127.0.0.1", "::1")

Mode = Literal["own", "host", "refused"]


@dataclass(frozen=True, slots=True)
class Destination:
    """Service of the operator that tasks with a network reach through a relay."""

    host: str
    """Name, or IP address without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class NetworkState:
    """Network of sandboxed commands on this host."""

    mode: Mode
    reason: str = ""
    """Why it is not ``own``: what is missing and how to fix it."""
    allow: tuple[Destination, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkState:
        """Return the state that ``asdict`` was given."""
        allow = tuple(Destination(**one) for one in values["allow"])
        return cls(values["mode"], values["reason"], allow)

    @property
    def needs_attention(self) -> bool:
        """True if the operator should change something."""
        return self.mode != "own"

    def __str__(self) -> str:
        """One line for the operator's report."""
        if self.mode == "own":
            reach = "public addresses"
            if self.allow:
                reach += " and " + ", ".join(map(str, self.allow))
            return f"own namespace via slirp4netns; reaches {reach}"
        name = "network of the host" if self.mode == "host" else "refused"
        return f"{name}: {self.reason}"


@dataclass(frozen=True, slots=True)
class GatewayRelay:
    """Gateway of the server, as one process inside a sandbox reaches it."""

    url: str
    """URL outside of a network namespace."""
    socket: str | None
    """Unix socket that serves the gateway to holders of one token only; None: no sandbox."""
    token: str = field(default="", repr=False)
    """Internal token that the command gets; empty: none."""


@dataclass(frozen=True, slots=True)
class CommandNetwork:
    """Network of one command."""

    mode: Literal["none", "host", "own"]
    """``own``: the launcher creates a namespace, for a network, for relays, or for both."""
    public: bool = False
    """True if slirp4netns connects an own namespace with public addresses."""
    allow: tuple[Destination, ...] = ()
    gateway: GatewayRelay | None = None

    def listeners(self) -> list[Listener]:
        """Return where connections are relayed from, apart from the gateway's."""
        return listeners(self.allow) if self.mode == "own" else []

    def launcher_spec(self) -> dict[str, object] | None:
        """Return what the launcher is sent, or None if it has nothing to set up.

        Listening sockets are in the order of ``listeners``; the gateway's is the last.
        """
        if self.mode != "own":
            return None
        places = [(one.address, one.port) for one in self.listeners()]
        if self.gateway is not None:
            places.append(GATEWAY_PLACE)
        return {
            "slirp4netns": (program() or "slirp4netns") if self.public else None,
            "subnet": subnet(self.allow),
            "listen": places,
        }

    def environ(self) -> dict[str, str]:
        """Return the variables that tell the command how to reach the gateway."""
        if self.gateway is None:
            return {}
        host, port = GATEWAY_PLACE
        own = f"http://{host}:{port}"
        found = {"BERAY_GATEWAY_URL": own if self.mode == "own" else self.gateway.url}
        return found | ({"X_INTERNAL_TOKEN": self.gateway.token} if self.gateway.token else {})

    def etc_files(self) -> dict[str, str]:
        """Return the files in ``/etc`` that resolve names inside the sandbox, by name."""
        return _etc_files(self.mode, self.allow, public=self.public)


NO_NETWORK: Final = CommandNetwork("none")


def find(*, sandboxed: bool, shared: bool, allow: Sequence[Destination] = ()) -> NetworkState:
    """Return the network that commands have on this host.

    Only what does not change while the server runs is looked at: a failure to start slirp4netns
    refuses one command, and gives none the network of the host.

    Args:
        sandboxed: whether commands run in bubblewrap; others always have the host's network.
        shared: whether several people use the server; it never gives them the host's network.
    """
    if not sandboxed:
        reason = "commands are not sandboxed; they reach the services of this host"
        return NetworkState("host", reason)
    missing = _missing()
    if missing is None:
        return NetworkState("own", allow=tuple(allow))
    return _without_namespace(missing, _fix(), shared)


def not_permitted(problem: str, shared: bool) -> NetworkState:
    """Return the network of a host whose kernel does not permit network namespaces."""
    fix = "permit user namespaces to the server (kernel.apparmor_restrict_unprivileged_userns)"
    return _without_namespace(problem, fix, shared)


def _without_namespace(problem: str, fix: str, shared: bool) -> NetworkState:
    if shared:
        return NetworkState("refused", f"{problem}: tasks cannot have a network; {fix}")
    return NetworkState(
        "host", f"{problem}: tasks with a network reach the services of this host; {fix}"
    )


def program() -> str | None:
    """Return the path of slirp4netns, or None if it is not installed."""
    return shutil.which("slirp4netns")


def _missing() -> str | None:
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
        return f"permit it (chmod 0666 {_TUN}) and restart the server"
    return f"give the server's container {_TUN} (docker run --device {_TUN}) and restart it"


def parse_allow(text: str) -> list[Destination]:
    """Return the destinations of a comma-separated list of ``host:port``.

    Raises:
        ValueError: an entry is not ``host:port``, ``a.b.c.d:port`` or ``[v6]:port``; its address
            is not that of one host; or there are more than ``MAX_DESTINATIONS``.
    """
    found = [_destination(item) for item in map(str.strip, text.split(",")) if item]
    if len(found) > MAX_DESTINATIONS:
        raise ValueError(f"{len(found)} entries; at most {MAX_DESTINATIONS} are possible")
    if not any(_is_free(text, found) for text in _SUBNETS):
        raise ValueError(f"sandboxes need one of the subnets {', '.join(_SUBNETS)}")
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
        # A name that ends in a number would be taken for an address (WHATWG URL, section 3.5).
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
        raise ValueError(f"{item!r}: write {address.ipv4_mapped}, the IPv4 address")
    return Destination(str(address), port)


@dataclass(frozen=True, slots=True)
class Listener:
    """Place in a sandbox where connections for a destination are accepted."""

    address: str
    port: int
    destination: Destination


def listeners(allow: Iterable[Destination]) -> list[Listener]:
    """Return where each destination is reached inside a sandbox.

    Addresses are the same as outside. A name has a loopback address of its own, since several
    names may have the same port; ``localhost`` has both of its addresses.
    """
    found: dict[tuple[str, int], Listener] = {}
    names = _addresses_of_names(allow)
    for destination in allow:
        for address in names.get(destination.host, [destination.host]):
            if address == "::1" and not has_ipv6():
                continue
            place = Listener(address, destination.port, destination)
            found.setdefault((address, destination.port), place)
    return list(found.values())


def subnet(allow: Iterable[Destination]) -> str:
    """Return the subnet of the sandbox's interface; none of ``allow`` has an address in it."""
    return next(text for text in _SUBNETS if _is_free(text, allow))


def _is_free(subnet: str, allow: Iterable[Destination]) -> bool:
    addresses = (ip_address(one.host) for one in allow if _is_address(one.host))
    return not any(address in IPv4Network(subnet) for address in addresses)


def has_ipv6() -> bool:
    return os.path.exists("/proc/net/if_inet6")


def _addresses_of_names(allow: Iterable[Destination]) -> dict[str, Sequence[str]]:
    names = dict.fromkeys(one.host for one in allow if not _is_address(one.host))
    others = [name for name in names if name != "localhost"]
    found: dict[str, Sequence[str]] = {
        name: [f"127.77.0.{number}"] for number, name in enumerate(others, 1)
    }
    return found | {name: _LOCALHOST for name in names if name not in others}


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


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
        # Without it, the C library returns the first of several addresses of a name only.
        "host.conf": "multi on\n",
        # Other sources of names need services of the host.
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n",
    }
    if public:
        files["resolv.conf"] = f"nameserver {IPv4Network(subnet(allow))[_RESOLVER]}\n"
    return files
