"""Filter that drops multicast and broadcast packets at a tap device. Linux only.

Routing rules do not apply to them: the kernel sends such packets through the interface to which a
socket is bound (``__ip_route_output_key_hash_rcu``), and slirp4netns forwards them to the network
of the host. The filter is classic BPF, attached to the tap device of another process with
``TUNATTACHFILTER``.
"""

import ctypes
import fcntl
import os
import struct

_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
_MAX_DESCRIPTOR = 64
_TUN = os.makedev(10, 200)
_FPROG = "HP"  # struct sock_fprog
_TUNATTACHFILTER = 1 << 30 | struct.calcsize(_FPROG) << 16 | ord("T") << 8 | 213
_LOAD_HALF, _LOAD_BYTE, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x28, 0x30, 0x15, 0x35, 0x06
_PROGRAM = [
    (_LOAD_HALF, 0, 0, 12),  # 0: type of the Ethernet frame
    (_IF_EQUAL, 0, 2, 0x0800),  # IPv4, or go to 4
    (_LOAD_BYTE, 0, 0, 30),  # its destination
    (_IF_AT_LEAST, 7, 6, 224),  # drop multicast, reserved and broadcast addresses, or pass
    (_IF_EQUAL, 0, 4, 0x86DD),  # 4: IPv6, or go to 9
    (_LOAD_BYTE, 0, 0, 38),  # its destination
    (_IF_EQUAL, 0, 3, 0xFF),  # multicast, or pass
    (_LOAD_BYTE, 0, 0, 20),  # its next header
    (_IF_EQUAL, 1, 2, 58),  # pass ICMPv6, which finds neighbours, or drop
    (_IF_EQUAL, 0, 1, 0x0806),  # 9: pass ARP, or drop
    (_RETURN, 0, 0, 0x40000),  # 10: pass all bytes
    (_RETURN, 0, 0, 0),  # 11: drop
]


def attach(pid: int) -> None:
    """Attach the filter to the tap device that the process ``pid`` has opened.

    Raises:
        OSError: The process has no tap device, or this process may not access it.
    """
    descriptor = _descriptor_of(pid)
    try:
        code = b"".join(struct.pack("=HBBI", *instruction) for instruction in _PROGRAM)
        buffer = ctypes.create_string_buffer(code, len(code))
        program = struct.pack(_FPROG, len(_PROGRAM), ctypes.addressof(buffer))
        fcntl.ioctl(descriptor, _TUNATTACHFILTER, program)
    finally:
        os.close(descriptor)


def _descriptor_of(pid: int) -> int:
    """Return a duplicate of the descriptor of the tap device."""
    process = _syscall(_PIDFD_OPEN, pid, 0)
    try:
        for number in range(3, _MAX_DESCRIPTOR):
            try:
                found = _syscall(_PIDFD_GETFD, process, number, 0)
            except OSError as error:
                if isinstance(error, PermissionError):
                    raise
                continue
            if os.fstat(found).st_rdev == _TUN:
                return found
            os.close(found)
    finally:
        os.close(process)
    raise OSError(2, "slirp4netns has no tap device")


def _syscall(number: int, *arguments: int) -> int:
    result: int = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
