"""Measurement of the kernel memory that belongs to the namespaces of one command.

This memory consists of System V segments, message queues and semaphores, and of the buffers of
sockets. It can exist without a process that has mapped or opened it. Linux only, standard library
only.

Sources: sysvipc(7), ioctl_ns(2), sock_diag(7), ``linux/unix_diag.h``, ``linux/inet_diag.h``,
``linux/netlink_diag.h`` and ``linux/sock_diag.h``.
"""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator

_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_NS_GET_USERNS = 0xB701
_SEMAPHORE_BYTES = 128
"""Maximum size of one semaphore: ``struct sem`` is aligned to cache lines."""
_NETLINK_SOCK_DIAG = 4
_DUMP = 0x301
_SOCK_DIAG_BY_FAMILY, _ERROR, _DONE = 20, 2, 3
_UNIX_LENGTHS, _UNIX_MEMORY, _INET_MEMORY, _NETLINK_MEMORY = 4, 5, 7, 0
_LISTENING = 10
"""State of a socket that accepts connections."""
_DEFAULT_BUFFER = 212_992
"""``net.core.wmem_default`` of Linux."""
_MAX_DATAGRAMS = 11
"""Maximum number of datagrams queued at a Unix socket: ``net.unix.max_dgram_qlen`` plus 1."""


def used_bytes(pids: Iterable[int], *, owns_network: bool) -> int:
    """Return the bytes in all namespaces of ``pids`` that are not the caller's.

    Args:
        pids: Ids of the command's processes.
        owns_network: True if the caller's network namespace is the command's, and also counts.
    """
    total = _socket_bytes() if owns_network else 0
    seen = {os.stat(f"/proc/self/ns/{name}").st_ino for name in ("ipc", "net")}
    for pid in pids:
        new = []
        for name in ("ipc", "net"):
            with contextlib.suppress(OSError):
                number = os.stat(f"/proc/{pid}/ns/{name}").st_ino
                if number not in seen:
                    seen.add(number)
                    new.append(name)
        if new:
            total += _used_bytes_of(pid, new)
    return total


def _used_bytes_of(pid: int, names: list[str]) -> int:
    """Measure the namespaces of ``pid`` in a child process that joins them."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _join(pid, names)
            total = _ipc_bytes() if "ipc" in names else 0
            os.write(write, b"%d\n" % total)
            total = _socket_bytes() if "net" in names else 0
            os.write(write, b"%d\n" % total)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        data = file.read()
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)
    return sum(map(int, data.split()))


def _join(pid: int, names: list[str]) -> None:
    """Join namespaces of ``pid``, through the user namespace that owns them if necessary.

    Raises:
        OSError: The kernel does not permit it, or the process has ended.
    """
    directory = os.open(f"/proc/{pid}/ns", os.O_RDONLY | os.O_DIRECTORY)
    flags = {"ipc": _CLONE_NEWIPC, "net": _CLONE_NEWNET}
    namespaces = [(os.open(name, os.O_RDONLY, dir_fd=directory), flags[name]) for name in names]
    try:
        _set_namespaces(namespaces)
    except PermissionError:
        # The process may be in a user namespace below the one that owns its other namespaces.
        owner = fcntl.ioctl(namespaces[0][0], _NS_GET_USERNS)
        _set_namespaces([(owner, _CLONE_NEWUSER), *namespaces])


def _set_namespaces(namespaces: list[tuple[int, int]]) -> None:
    """Join each namespace, given as a descriptor and a flag of clone(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    for descriptor, flag in namespaces:
        if libc.setns(descriptor, flag):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))


def _ipc_bytes() -> int:
    """Return the bytes of unattached segments, messages and semaphores.

    Attached segments are part of the resident memory of their processes.
    """
    segments = sum(
        int(row[14]) + int(row[15]) for row in _rows("/proc/sysvipc/shm") if int(row[6]) == 0
    )
    messages = sum(int(row[3]) for row in _rows("/proc/sysvipc/msg"))
    semaphores = sum(int(row[3]) for row in _rows("/proc/sysvipc/sem"))
    return segments + messages + semaphores * _SEMAPHORE_BYTES


def _rows(path: str) -> list[list[bytes]]:
    with open(path, "rb") as file:
        return [line.split() for line in file.read().splitlines()[1:]]


def _socket_bytes() -> int:
    """Return the bytes in the buffers of all sockets of the current network namespace.

    Families of sockets for which the kernel has no ``sock_diag`` support are not counted.
    """
    in_flight = queued = other = 0
    request = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, 0x30, 0, 0)
    for message in _sockets(request):
        found = dict(_attributes(message[16:]))
        in_flight += _memory(found.get(_UNIX_MEMORY, b""))
        (length,) = struct.unpack_from("=I", found.get(_UNIX_LENGTHS, bytes(4)))
        if message[2] == _LISTENING:
            # The length is the number of pending connections, which are not listed.
            queued += length * _DEFAULT_BUFFER
        elif length and message[1] == socket.SOCK_DGRAM:
            # The length is the size of the first datagram only.
            queued += max(length * _MAX_DATAGRAMS, _DEFAULT_BUFFER)
        else:
            queued += length
    for family in (socket.AF_INET, socket.AF_INET6):
        for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_UDPLITE):
            request = struct.pack("=BBBBI48x", family, protocol, 1 << 6, 0, 0xFFFFFFFF)
            for message in _sockets(request):
                other += _memory(dict(_attributes(message[72:])).get(_INET_MEMORY, b""))
    request = struct.pack("=BBHIIII", socket.AF_NETLINK, 255, 0, 0, 1, 0, 0)
    for message in _sockets(request):
        other += _memory(dict(_attributes(message[28:])).get(_NETLINK_MEMORY, b""))
    # Data that is queued at a Unix socket counts as memory of its sender. Closed senders are not
    # listed. The two sums therefore overlap, and each may miss some of the data.
    return max(in_flight, queued) + other


def _memory(values: bytes) -> int:
    """Return the bytes of a socket, from its ``SK_MEMINFO_…`` values."""
    if len(values) < 32:
        return 0
    received, _, sent, _, _, queued, options, backlog = struct.unpack_from("=8I", values)
    return int(received + max(sent, queued) + options + backlog)


def _sockets(request: bytes) -> Iterator[bytes]:
    """Yield the reply messages to a request for all sockets of a kind; nothing if it fails."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as diag:
            header = struct.pack("=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _DUMP, 1, 0)
            diag.send(header + request)
            while True:
                data = diag.recv(1 << 18)
                while len(data) >= 16:
                    length, kind = struct.unpack_from("=IH", data)
                    if kind in (_DONE, _ERROR):
                        return
                    yield data[16:length]
                    data = data[(length + 3) & ~3 :]
    except OSError:
        return


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind, data[4:length]
        data = data[(length + 3) & ~3 :]
