"""Give a command a network namespace of its own: public addresses only, and chosen services.

Linux only, standard library only. slirp4netns carries the traffic; what it must not carry is
prohibited by rules that are in place before the command starts. The namespace belongs to a user
namespace in which the command has no capabilities, so the command cannot change them.
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
MTU = 65520
READY_SECONDS = 10.0
BACKLOG = 64
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PERMIT_PRIORITY, _PROHIBIT_PRIORITY = 100, 200

_GATEWAY6, _OWN6 = "fd00::2", "fd00::100"  # slirp4netns has no option for these


class NetworkProblem(Exception):
    """The namespace cannot be set up; the text says why."""

    def __init__(self, reason: str, *, permission: bool = False) -> None:
        super().__init__(reason)
        self.permission = permission
        """True if the kernel does not permit it to this user."""


def prepare(spec: "dict[str, Any]", control: int) -> list[socket.socket]:
    """Enter a new network namespace and configure it; return its listening sockets.

    Args:
        spec: ``slirp4netns`` (path of the program, or null for no network but the listeners),
            ``subnet`` (of the interface) and ``listen`` (pairs of address and port).
        control: descriptor that becomes readable when the server gives up.

    Raises:
        NetworkProblem: a step failed. This process must not start a command then.
    """
    slirp = None
    step = "the addresses of this host cannot be read"
    try:
        with Netlink() as host:
            blocked = [*NON_PUBLIC, *_outside(host.host_addresses())]
        if spec["slirp4netns"] is not None:
            slirp = _Slirp(spec["slirp4netns"], spec["subnet"], _has_ipv6_route())
        step = "the kernel refuses a network namespace"
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
    """A slirp4netns process; it waits in the namespace in which it was created."""

    def __init__(self, program: str, subnet: str, ipv6: bool) -> None:
        self._subnet = IPv4Network(subnet)
        self._ipv6 = ipv6
        ready, told = os.pipe()
        waiting, self._go = os.pipe()
        self._output, output = os.pipe()
        # It ends when no process holds the other end: a command inherits neither.
        until, self._alive = os.pipe()
        target = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            try:
                supervisor.die_with(target)
                for end in (self._go, self._alive):
                    os.close(end)
                os.read(waiting, 1)
                for end in (1, 2):
                    os.dup2(output, end)
                for end in (told, until):
                    os.set_inheritable(end, True)
                os.execv(program, self._arguments(program, target, told, until))
            finally:
                os._exit(127)
        for end in (told, waiting, output, until):
            os.close(end)
        self._ready = ready

    def _arguments(self, program: str, target: int, ready: int, until: int) -> list[str]:
        namespace = (
            ["--netns-type=path", f"/proc/{target}/ns/net"] if os.geteuid() == 0 else [str(target)]
        )
        return [
            program, f"--mtu={MTU}", f"--cidr={self._subnet}", "--disable-host-loopback",
            "--enable-sandbox", "--enable-seccomp", *(["--enable-ipv6"] if self._ipv6 else []),
            f"--ready-fd={ready}", f"--exit-fd={until}", *namespace, INTERFACE,
        ]  # fmt: skip

    def attach(self, control: int) -> None:
        """Have it serve the namespace in which this process is now.

        Raises:
            NetworkProblem: it did not start.
        """
        os.write(self._go, b"1")
        os.close(self._go)
        readable, _, _ = select.select([self._ready, control], [], [], READY_SECONDS)
        if self._ready not in readable or os.read(self._ready, 1) != b"1":
            os.kill(self._pid, signal.SIGKILL)
            lines = os.read(self._output, 4096).decode(errors="replace").strip().splitlines()
            reason = "; ".join(lines[-3:]) or "it did not start, or not in time"
            raise NetworkProblem(f"slirp4netns does not work: {reason}")
        os.close(self._ready)
        tap_filter.attach(self._pid)
        # What it writes from now on is of no interest to the command.
        os.close(self._output)

    def configure(self, netlink: Netlink) -> None:
        own, gateway, resolver = (str(self._subnet[number]) for number in (100, 2, 3))
        netlink.set_up(INTERFACE, MTU)
        if _has_ipv6():
            netlink.remove_multicast_route(INTERFACE)
        netlink.add_address(INTERFACE, own, self._subnet.prefixlen)
        netlink.add_default_route(INTERFACE, gateway)
        # Other ports of the forwarder would be those of the host's resolver.
        for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
            netlink.permit_port(resolver, protocol, 53, _PERMIT_PRIORITY)
        if self._ipv6:
            netlink.add_address(INTERFACE, _OWN6, 64)
            netlink.add_default_route(INTERFACE, _GATEWAY6)


def _enter_namespace() -> None:
    """Create a network namespace; a user other than root creates a user namespace for it."""
    uid, gid = os.geteuid(), os.getegid()
    _unshare(_CLONE_NEWNET if uid == 0 else _CLONE_NEWUSER | _CLONE_NEWNET)
    if uid == 0:
        return
    # slirp4netns changes to the ids 0 of the user namespace.
    for name, line in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def _listen(netlink: Netlink, places: list[tuple[str, int]]) -> list[socket.socket]:
    """Return a listening socket for each place, on an address of the loopback interface."""
    listeners = []
    for text, port in places:
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


def _outside(addresses: list[Network]) -> list[Network]:
    """Return the addresses that are in no range of ``NON_PUBLIC``."""
    return [
        one
        for one in addresses
        if not any(one.version == area.version and one.subnet_of(area) for area in NON_PUBLIC)  # type: ignore[arg-type]
    ]


def _has_ipv6() -> bool:
    return os.path.exists("/proc/self/net/if_inet6")


def _has_ipv6_route() -> bool:
    """Return True if the host itself reaches public IPv6 addresses."""
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
