"""Command line of bubblewrap: a system to read from and a work_dir to write into.

Source: bwrap(1) of bubblewrap 0.8; its ``setup_newroot`` for what ``--proc`` covers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from beray.server.sandbox import seccomp
from beray.server.sandbox.ownership import set_owner

INSIDE: Final = "/workspace"
"""The work_dir as a sandboxed command sees it."""
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix")
_ETC: Final = (
    "alternatives", "ca-certificates", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
    "nsswitch.conf", "pki", "ssl",
)  # fmt: skip
_ACCOUNTS: Final = ("group", "passwd")
_ETC_NETWORK: Final = ("hosts", "resolv.conf", "services", "gai.conf")
_PROC_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_PROC_HIDDEN: Final = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
)  # fmt: skip
_USERNS_RESTRICTIONS: Final = {
    "kernel/apparmor_restrict_unprivileged_userns": "1",
    "kernel/unprivileged_userns_clone": "0",
    "user/max_user_namespaces": "0",
}
_BIND_OPTIONS: Final = frozenset({"--bind", "--bind-try", "--ro-bind", "--ro-bind-try"})
_FIRST_DATA: Final = 3
"""Descriptor that the launcher gives the first of ``CommandLine.data``."""


@dataclass(frozen=True, slots=True)
class Bind:
    """A path outside that is the same path inside, unless another is given."""

    path: str
    writable: bool = False
    inside: str | None = None


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Arguments before the command itself, and what they read from descriptors."""

    arguments: list[str]
    data: list[bytes]
    """Contents of the descriptors 3, 4, … that ``arguments`` name."""
    uid: int | None
    """Host uid that executes it; None: the server's."""

    def staged(self, directory: str) -> tuple[list[str], list[str]]:
        """Return the arguments with other sources of bind mounts, and the original sources.

        The sources become ``directory``/0, 1, …; see ``launcher/mounts.py``.
        """
        arguments, sources = list(self.arguments), []
        for place, argument in enumerate(arguments):
            if argument in _BIND_OPTIONS:
                sources.append(arguments[place + 1])
                arguments[place + 1] = f"{directory}/{len(sources) - 1}"
        return arguments, sources


def command_line(
    work_dir: Path,
    scratch: Path,
    *,
    network: bool,
    binds: Iterable[Bind] = (),
    uid: int | None = None,
) -> CommandLine:
    """Return the command line before the command itself.

    ``/tmp`` and ``/dev/shm`` are folders of ``scratch``: what a command writes there is on
    disk, where it is counted, and not in memory.

    Args:
        uid: host uid that the launcher changes to; None: the server's.
    """
    data: list[bytes] = []

    def descriptor(content: bytes) -> str:
        data.append(content)
        return str(_FIRST_DATA + len(data) - 1)

    arguments = [
        "bwrap", "--unshare-all", "--unshare-user", *(["--share-net"] if network else []),
        *(["--disable-userns"] if can_disable_userns() else []),
        "--die-with-parent", "--new-session", "--cap-drop", "ALL",
        "--hostname", "beray", "--proc", "/proc", *_proc(), "--dev", "/dev",
        *_system(network),
    ]  # fmt: skip
    if uid is None:
        arguments += _etc(_ACCOUNTS)
    else:
        for name, content in _accounts(uid).items():
            arguments += ["--ro-bind-data", descriptor(content), f"/etc/{name}"]
    if (filter_program := seccomp.program()) is not None:
        arguments += ["--seccomp", descriptor(filter_program)]
    arguments += [
        "--bind", _made(scratch / "tmp", uid), "/tmp",
        "--bind", _made(scratch / "shm", uid), "/dev/shm",
        *_bound(binds),
        "--bind", str(work_dir), INSIDE, "--chdir", INSIDE,
        "--remount-ro", "/dev", "--remount-ro", "/", "--",
    ]  # fmt: skip
    return CommandLine(arguments, data, uid)


@cache
def can_disable_userns() -> bool:
    """Return True if bwrap can forbid further user namespaces by ``--disable-userns``.

    It writes to ``/proc/sys/user``, which containers make read-only. The seccomp filter refuses
    such namespaces in any case.
    """
    try:
        limit = os.statvfs("/proc/sys/user/max_user_namespaces")
    except OSError:
        return False
    program = shutil.which("bwrap")
    if program is None or limit.f_flag & os.ST_RDONLY:
        return False
    described = subprocess.run([program, "--help"], capture_output=True, check=False)
    return b"--disable-userns" in described.stdout + described.stderr


def userns_restriction(settings: Path = Path("/proc/sys")) -> str | None:
    """Return the kernel setting that keeps unprivileged users from creating user namespaces.

    bwrap needs them, also where the server is root: it runs under the uid of a user.
    """
    for name, value in _USERNS_RESTRICTIONS.items():
        try:
            found = (settings / name).read_text().strip()
        except OSError:
            continue
        if found == value:
            return f"{name.replace('/', '.')}={value}"
    return None


def _accounts(uid: int) -> dict[str, bytes]:
    """Return ``passwd`` and ``group``: programs look up the names of their ids."""
    passwd = f"root:x:0:0:root:/root:/bin/false\nberay:x:{uid}:{uid}:BeRay:/tmp:/bin/sh\n"
    group = f"root:x:0:\nberay:x:{uid}:\n"
    return {
        "passwd": f"{passwd}nobody:x:65534:65534:nobody:/:/bin/false\n".encode(),
        "group": f"{group}nogroup:x:65534:\n".encode(),
    }


def _proc() -> Iterator[str]:
    """Yield mounts over the parts of ``/proc`` that configure or describe the host.

    bwrap leaves out those that it takes for read-only by the mode of the directory, although
    files in them may be writable for the server's uid.
    """
    for path in _PROC_READ_ONLY:
        if os.path.exists(path):
            yield from ("--ro-bind", path, path)
    for path in _PROC_HIDDEN:
        if os.path.isdir(path):
            yield from ("--tmpfs", path, "--remount-ro", path)
        elif os.path.exists(path):
            # A device cannot be opened in a bind mount, which has the option nodev.
            yield from ("--ro-bind", "/dev/null", path)


def _made(folder: Path, uid: int | None) -> str:
    folder.mkdir(exist_ok=True)
    set_owner(folder, uid)
    return str(folder)


def _system(network: bool) -> Iterator[str]:
    """The system's programs, read-only. Home folders and the server's data are not there."""
    for path in _SYSTEM:
        # Today's /bin is a link to usr/bin, and must be one inside as well.
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.isdir(path):
            yield from ("--ro-bind", path, path)
    yield from _etc((*_ETC, *(_ETC_NETWORK if network else ())))


def _etc(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if os.path.exists(f"/etc/{name}"):
            yield from ("--ro-bind", f"/etc/{name}", f"/etc/{name}")


def _bound(binds: Iterable[Bind]) -> Iterator[str]:
    for bind in binds:
        how = "--bind-try" if bind.writable else "--ro-bind-try"
        yield from (how, bind.path, bind.inside or bind.path)
