"""Seccomp filter of sandboxed commands, as classic BPF for ``bwrap --seccomp``.

The filter reduces the attack surface of the kernel; the isolation itself comes from namespaces
and the uid. System calls that manage the system, or that have been a frequent source of privilege
escalation, fail. Ordinary programs do not need them, or fall back to other calls.

Source: seccomp(2), the numbers of Linux 6.x (``asm/unistd_64.h``, ``asm-generic/unistd.h``).
"""

from __future__ import annotations

import errno
import platform
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

# Offsets in struct seccomp_data. For arguments these are the offsets of the low halves, because
# both architectures are little-endian.
_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_FIRST_ARGUMENT: Final = 16
_SECOND_ARGUMENT: Final = 24

# Instructions: BPF_LD | BPF_W | BPF_ABS, then jumps with a constant, then BPF_RET | BPF_K.
_LOAD: Final = 0x20
_IF_EQUAL: Final = 0x15
_IF_AT_LEAST: Final = 0x35
_IF_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06

_KILL_PROCESS: Final = 0x8000_0000
_ERRNO: Final = 0x0005_0000
_ALLOW: Final = 0x7FFF_0000

_X32_BIT: Final = 0x4000_0000
_CLONE_NEWUSER: Final = 0x1000_0000
_AF_VSOCK: Final = 40
_TIOCSTI: Final = 0x5412
_TIOCLINUX: Final = 0x541C

# System calls since Linux 5.1, which have the same number on every architecture.
_COMMON: Final = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "clone3": 435,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "memfd_secret": 447,
    "open_tree_attr": 467,
}
_X86_64: Final = {
    "ioctl": 16,
    "socket": 41,
    "clone": 56,
    "syslog": 103,
    "uselib": 134,
    "ustat": 136,
    "sysfs": 139,
    "vhangup": 153,
    "modify_ldt": 154,
    "pivot_root": 155,
    "_sysctl": 156,
    "acct": 163,
    "settimeofday": 164,
    "mount": 165,
    "umount2": 166,
    "swapon": 167,
    "swapoff": 168,
    "reboot": 169,
    "iopl": 172,
    "ioperm": 173,
    "create_module": 174,
    "init_module": 175,
    "delete_module": 176,
    "get_kernel_syms": 177,
    "query_module": 178,
    "quotactl": 179,
    "nfsservctl": 180,
    "lookup_dcookie": 212,
    "clock_settime": 227,
    "kexec_load": 246,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "unshare": 272,
    "perf_event_open": 298,
    "name_to_handle_at": 303,
    "open_by_handle_at": 304,
    "clock_adjtime": 305,
    "setns": 308,
    "finit_module": 313,
    "kexec_file_load": 320,
    "bpf": 321,
    "userfaultfd": 323,
}
_AARCH64: Final = {
    "lookup_dcookie": 18,
    "ioctl": 29,
    "umount2": 39,
    "mount": 40,
    "pivot_root": 41,
    "nfsservctl": 42,
    "vhangup": 58,
    "quotactl": 60,
    "acct": 89,
    "unshare": 97,
    "kexec_load": 104,
    "init_module": 105,
    "delete_module": 106,
    "clock_settime": 112,
    "syslog": 116,
    "reboot": 142,
    "settimeofday": 170,
    "socket": 198,
    "add_key": 217,
    "request_key": 218,
    "keyctl": 219,
    "clone": 220,
    "swapon": 224,
    "swapoff": 225,
    "perf_event_open": 241,
    "name_to_handle_at": 264,
    "open_by_handle_at": 265,
    "clock_adjtime": 266,
    "setns": 268,
    "finit_module": 273,
    "bpf": 280,
    "userfaultfd": 282,
    "kexec_file_load": 294,
}

_BY_ARGUMENT: Final = frozenset({"clone", "ioctl", "socket"})
_UNIMPLEMENTED: Final = frozenset(
    # Programs fall back to an older call if the kernel does not implement these. The flags of
    # clone3 are in memory, where a filter cannot read them.
    {"clone3", "io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd"}
    | {"open_tree", "open_tree_attr", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick"}
    | {"mount_setattr"}
    # Its memory is not attributed to any process once it is unmapped.
    | {"memfd_secret"}
)


@dataclass(frozen=True, slots=True)
class Architecture:
    """Numbers of an architecture and its system calls in the kernel."""

    audit: int
    """AUDIT_ARCH_… of ``linux/audit.h``."""
    calls: Mapping[str, int]
    """Numbers of the filtered system calls, by name."""
    has_x32: bool = False
    """True if programs can also use the calls of the x32 ABI."""


ARCHITECTURES: Final = {
    "x86_64": Architecture(0xC000_003E, _X86_64 | _COMMON, has_x32=True),
    "aarch64": Architecture(0xC000_00B7, _AARCH64 | _COMMON),
}


@cache
def program() -> bytes | None:
    """Return the filter for this machine, or None if it is neither x86_64 nor aarch64."""
    machine = platform.machine()
    if sys.maxsize < 2**32 or machine not in ARCHITECTURES:
        return None
    return assemble(ARCHITECTURES[machine])


def assemble(architecture: Architecture) -> bytes:
    """Return the filter as an array of ``struct sock_filter``."""
    calls = architecture.calls
    kill = _instruction(_RETURN, _KILL_PROCESS)
    code = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_IF_EQUAL, architecture.audit, if_so=1),
        kill,
        _instruction(_LOAD, _NUMBER),
    ]
    if architecture.has_x32:
        code += [_instruction(_IF_AT_LEAST, _X32_BIT, if_not=1), kill]
    for name, number in calls.items():
        if name not in _BY_ARGUMENT:
            error = errno.ENOSYS if name in _UNIMPLEMENTED else errno.EPERM
            code += [_instruction(_IF_EQUAL, number, if_not=1), _fail(error)]
    code += _fail_if(calls["clone"], _FIRST_ARGUMENT, _IF_ANY_BIT, [_CLONE_NEWUSER])
    code += _fail_if(calls["ioctl"], _SECOND_ARGUMENT, _IF_EQUAL, [_TIOCSTI, _TIOCLINUX])
    # Sockets of this family reach the hypervisor from every network namespace.
    code += _fail_if(calls["socket"], _FIRST_ARGUMENT, _IF_EQUAL, [_AF_VSOCK])
    return b"".join([*code, _instruction(_RETURN, _ALLOW)])


def _fail_if(number: int, argument: int, test: int, values: list[int]) -> list[bytes]:
    """Return code that fails the call ``number`` if its argument matches any of ``values``.

    Args:
        number: Number of the system call.
        argument: Offset of the argument in ``struct seccomp_data``.
        test: Jump instruction that compares the argument with a value.
        values: Values with which the call fails.
    """
    tests = [_instruction(_LOAD, argument)]
    for value in values:
        tests += [_instruction(test, value, if_not=1), _fail(errno.EPERM)]
    tests.append(_instruction(_RETURN, _ALLOW))
    return [_instruction(_IF_EQUAL, number, if_not=len(tests)), *tests]


def _fail(error: int) -> bytes:
    return _instruction(_RETURN, _ERRNO | error)


def _instruction(code: int, constant: int, *, if_so: int = 0, if_not: int = 0) -> bytes:
    """Pack one instruction; ``if_so`` and ``if_not`` are the numbers of instructions to skip."""
    return struct.pack("=HBBI", code, if_so, if_not, constant)
