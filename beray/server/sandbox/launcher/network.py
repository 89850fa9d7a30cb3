"""Network namespace of a command, with access to public addresses and to allowed services only.

Linux only, standard library only. slirp4netns carries the traffic. Rules that are added before the
command starts prohibit all other destinations. The namespace belongs to a user namespace in which
the command has no capabilities, so that the command cannot change the rules.
"""

import ctypes
import os
import select
import signal
import socket
from ipaddress import IPv4Address, IPv4Network, ip_address

TYPE_CHECKING = False  # as in typing, whose import would delay every command
if TYPE_CHECKING:
    from typing import Any

    from beray.server.sandbox.launcher import supervisor, tap_filter
    from beray.server.sandbox.launcher.address_ranges import NON_PUBLIC
    from beray.server.sandbox.launcher.netlink import Netlink, Network
else:
    import supervisor
    import tap_filter
    from address_ranges import NON_PUBLIC
    from netlink import Netlink, Network

INTERFACE = "tap0"
"""Name of the interface that slirp4netns creates."""
MTU = 65520
READY_SECONDS = 10.0
"""Time limit for the start of slirp4netns."""
BACKLOG = 64
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PERMIT_PRIORITY, _PROHIBIT_PRIORITY = 100, 200

_GATEWAY6, _OWN6 = "fd00::2", "fd00::100"  # fixed in slirp4netns


class NetworkProblem(Exception):
    """The namespace cannot be set up; the message contains the reason."""

    def __init__(self, reason: str, *, permission: bool = False) -> None:
        super().__init__(reason)
        self.permission = permission
        """True if the kernel does not permit this user to create network namespaces."""


def prepare(spec: "dict[str, Any]", control: int) -> list[socket.socket]:
    """Enter a new network namespace and configure it; return its listening sockets.

    Args:
        spec: Mapping with the keys ``slirp4netns`` (path of the program, or None for listeners
            without a network), ``subnet`` (of the interface) and ``listen`` (pairs of address and
            port).
        control: Descriptor that becomes readable when the server gives up.

    Raises:
        NetworkProblem: A step failed. Then this process must not start a command.
    """
    slirp = None
    step = "the addresses of this host cannot be read"
    try:
        with Netlink() as host:
            blocked = [*NON_PUBLIC, *_without_non_public(host.host_addresses())]
        if spec["slirp4netns"] is not None:
            slirp = _Slirp(spec["slirp4netns"], spec["subnet"], _has_ipv6_route())
        step = "no network namespace can be created"
        _enter_namespace()
        step = "the network namespace cannot be configured"
        with Netlink() as netlink:
            netlink.set_up("lo")
            listeners = _listen(netlink, spec["listen"])
            if slirp is not None:
                slirp.attach(control)
                slirp.configure(netlink)
            for network in blocked:
                if network.version == 4 or _has_ipv6():
                    netlink.prohibit(network, _PROHIBIT_PRIORITY)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        permission = isinstance(error, PermissionError)
        raise NetworkProblem(f"{step}: {reason}", permission=permission) from None
    return listeners


class _Slirp:
    """slirp4netns process.

    It is created in the namespace of the host, whose network it uses, and waits there until
    ``attach`` is called.
    """

    def __init__(self, program: str, subnet: str, ipv6: bool) -> None:
        self._subnet = IPv4Network(subnet)
        self._ipv6 = ipv6
        self._ready, ready = os.pipe()
        start, self._start = os.pipe()
        self._output, output = os.pipe()
        # slirp4netns exits when the other end is closed. Commands do not inherit that end.
        exit_, self._exit = os.pipe()
        target = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            try:
                supervisor.die_with(target)
                for end in (self._start, self._exit):
                    os.close(end)
                os.read(start, 1)
                for stream in (1, 2):
                    os.dup2(output, stream)
                for end in (ready, exit_):
                    os.set_inheritable(end, True)
                os.execv(program, self._arguments(program, target, ready, exit_))
            finally:
                os._exit(127)
        for end in (ready, start, output, exit_):
            os.close(end)

    def _arguments(self, program: str, target: int, ready: int, exit_: int) -> list[str]:
        namespace = (
            ["--netns-type=path", f"/proc/{target}/ns/net"] if os.geteuid() == 0 else [str(target)]
        )
        return [
            program, f"--mtu={MTU}", f"--cidr={self._subnet}", "--disable-host-loopback",
            "--enable-sandbox", "--enable-seccomp", *(["--enable-ipv6"] if self._ipv6 else []),
            f"--ready-fd={ready}", f"--exit-fd={exit_}", *namespace, INTERFACE,
        ]  # fmt: skip

    def attach(self, control: int) -> None:
        """Connect the current namespace of this process with the network.

        Raises:
            NetworkProblem: slirp4netns did not start.
        """
        os.write(self._start, b"1")
        os.close(self._start)
        readable, _, _ = select.select([self._ready, control], [], [], READY_SECONDS)
        if self._ready not in readable or os.read(self._ready, 1) != b"1":
            os.kill(self._pid, signal.SIGKILL)
            lines = os.read(self._output, 4096).decode(errors="replace").strip().splitlines()
            reason = "; ".join(lines[-3:]) or "it did not start"
            raise NetworkProblem(f"slirp4netns does not work: {reason}")
        os.close(self._ready)
        tap_filter.attach(self._pid)
        # Its further output is discarded.
        os.close(self._output)

    def configure(self, netlink: Netlink) -> None:
        """Configure the interface in the current namespace."""
        own, gateway, resolver = (str(self._subnet[number]) for number in (100, 2, 3))
        netlink.set_up(INTERFACE, MTU)
        if _has_ipv6():
            netlink.remove_multicast_route(INTERFACE)
        netlink.add_address(INTERFACE, own, self._subnet.prefixlen)
        netlink.add_default_route(INTERFACE, gateway)
        # Only DNS: slirp4netns forwards other ports of this address to the host's resolver, too.
        for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
            netlink.permit_port(resolver, protocol, 53, _PERMIT_PRIORITY)
        if self._ipv6:
            netlink.add_address(INTERFACE, _OWN6, 64)
            netlink.add_default_route(INTERFACE, _GATEWAY6)


def _enter_namespace() -> None:
    """Create a network namespace, and a user namespace for it if this user is not root."""
    uid, gid = os.geteuid(), os.getegid()
    _unshare(_CLONE_NEWNET if uid == 0 else _CLONE_NEWUSER | _CLONE_NEWNET)
    if uid == 0:
        return
    # slirp4netns changes its uid and gid to 0 in the user namespace.
    for name, line in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def _listen(netlink: Netlink, addresses: list[tuple[str, int]]) -> list[socket.socket]:
    """Return a listening socket for each address and port, on the loopback interface."""
    listeners = []
    for text, port in addresses:
        address = ip_address(text)
        if not address.is_loopback:
            netlink.add_address("lo", text, address.max_prefixlen)
        family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
        listener = socket.socket(family, socket.SOCK_STREAM)
        listeners.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((text, port))
        listener.listen(BACKLOG)
    return listeners


def _without_non_public(addresses: list[Network]) -> list[Network]:
    """Return the addresses that are not in a range of ``NON_PUBLIC``."""
    return [
        address
        for address in addresses
        if not any(
            address.version == range_.version and address.subnet_of(range_)  # type: ignore[arg-type]
            for range_ in NON_PUBLIC
        )
    ]


def _has_ipv6() -> bool:
    return os.path.exists("/proc/self/net/if_inet6")


def _has_ipv6_route() -> bool:
    """Return True if the host has a route to public IPv6 addresses."""
    if not _has_ipv6():
        return False
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("2000::1", 9))  # sends nothing
        except OSError:
            return False
    return True


def _unshare(flags: int) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
