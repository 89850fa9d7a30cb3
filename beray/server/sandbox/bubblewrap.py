"""Command line of bubblewrap: the system read-only, one writable work_dir, no private data.

Source: bwrap(1) of bubblewrap 0.8; its ``setup_newroot`` for what ``--proc`` covers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from beray.server.sandbox import masking, seccomp
from beray.server.sandbox.masking import Bind, Mask, PrivatePath
from beray.server.sandbox.network_policy import HOST_NAME
from beray.server.workspace.ownership import set_owner

INSIDE: Final = "/workspace"
"""The work_dir as a sandboxed command sees it."""
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix")

_ETC: Final = (
    "alternatives", "ca-certificates", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
    "pki", "services", "ssl",
)  # fmt: skip
_ACCOUNTS: Final = ("group", "passwd")
_ETC_NETWORK: Final = ("resolv.conf", "gai.conf")
_PROC_READ_ONLY: Final = (
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/pressure", "/proc/sys", "/proc/sysrq-trigger",
)  # fmt: skip
_PROC_HIDDEN: Final = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
)  # fmt: skip
_USERNS_RESTRICTIONS: Final = {
    "kernel/apparmor_restrict_unprivileged_userns": "1",
    "kernel/unprivileged_userns_clone": "0",
    "user/max_user_namespaces": "0",
}
_BIND_OPTIONS: Final = frozenset({"--bind", "--ro-bind"})
_FIRST_DATA: Final = 3
"""Descriptor that the launcher gives the first of ``CommandLine.data``."""
_ORIGIN: Final = "part of the system"
NEEDED: Final = [
    Bind(path, origin=_ORIGIN) for path in (*SYSTEM, *(f"/etc/{name}" for name in _ETC), "/bin/sh")
]
"""Paths of the system that no mask may cover. Not all of them are bound: some are links."""


def program() -> str | None:
    """Return the path of the bubblewrap program, or None if it is not installed.

    The path is absolute because commands run with a ``PATH`` that may not contain it.
    """
    return shutil.which("bwrap")


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

        The sources become ``directory``/0, 1, …, of which the first is bwrap itself; see
        ``launcher/mounts.py``.
        """
        arguments, sources = list(self.arguments), [self.arguments[0]]
        arguments[0] = f"{directory}/0"
        for place, argument in enumerate(arguments):
            if argument in _BIND_OPTIONS:
                sources.append(arguments[place + 1])
                arguments[place + 1] = f"{directory}/{len(sources) - 1}"
        return arguments, sources


def command_line(
    work_dir: Path | None,
    scratch: Path | None,
    *,
    network: bool,
    etc: Mapping[str, str],
    binds: Iterable[Bind] = (),
    private: Sequence[PrivatePath] = (),
    uid: int | None = None,
    init: bool = True,
) -> CommandLine:
    """Return the command line before the command itself.

    ``/tmp`` and ``/dev/shm`` are directories of ``scratch``: what a command writes there is on
    disk, where it is counted, and not in memory. Masks of private data are mounted last.

    Args:
        work_dir: visible as ``INSIDE``; an empty directory in memory if None, for a probe.
        scratch: directory of this command alone; None as for ``work_dir``.
        network: whether the command keeps the network namespace in which bwrap is started.
        etc: contents of files in ``/etc`` that differ from those of the host, by name.
        binds: further paths to mount; those that do not exist are left out.
        private: host paths that the command must not see.
        uid: host uid that the launcher changes to; None: the server's.
        init: whether the first process of the PID namespace is bubblewrap; otherwise the command.

    Raises:
        UnmaskableLayout: a path that the command needs is private or would be masked.
    """
    binds = list(binds)
    masking.check([*NEEDED, *binds], private)
    in_memory: list[str] = []
    own: list[Bind] = []
    if scratch is None or work_dir is None:
        in_memory = [
            option for path in ("/tmp", "/dev/shm", INSIDE) for option in ("--tmpfs", path)
        ]
    else:
        folders = {"/tmp": scratch / "tmp", "/dev/shm": scratch / "shm"}
        own = [_own(_made(folder, uid), inside) for inside, folder in folders.items()]
    present = [bind for bind in binds if os.path.exists(bind.path)]
    # Outer directories first: otherwise they would cover the inner ones.
    present.sort(key=lambda bind: bind.target)
    written = {name: content.encode() for name, content in etc.items()} | _accounts(uid)
    names = (*_ETC, *_ACCOUNTS, *(_ETC_NETWORK if network else ()))
    mounts = [*_system(name for name in names if name not in written), *own, *present]
    if work_dir is not None:
        mounts.append(_own(str(work_dir), INSIDE))
    fixed = [*(secret.path for secret in private), *(masking.real_path(b.path) for b in present)]
    data = _Data()
    arguments = [
        program() or "bwrap", "--unshare-all", "--unshare-user",
        *(["--share-net"] if network else []),
        *(["--disable-userns"] if can_disable_userns() else []),
        *([] if init else ["--as-pid-1"]),
        "--die-with-parent", "--new-session", "--cap-drop", "ALL",
        *_ids(), "--hostname", HOST_NAME, "--proc", "/proc", *_proc(), "--dev", "/dev",
        *_links(), *in_memory, *_seccomp(data),
        *(option for name, content in written.items()
          for option in ("--ro-bind-data", data.add(content), f"/etc/{name}")),
        *(option for bind in mounts for option in _bound(bind, fixed)),
        *(option for mask in masking.masks(mounts, private, uid) for option in _masked(mask)),
        "--chdir", INSIDE, "--remount-ro", "/dev", "--remount-ro", "/", "--",
    ]  # fmt: skip
    return CommandLine(arguments, data.contents, uid)


class _Data:
    """Contents that bwrap reads from descriptors."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def add(self, content: bytes) -> str:
        """Return the number of the descriptor that has ``content``."""
        self.contents.append(content)
        return str(_FIRST_DATA + len(self.contents) - 1)


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
    bwrap = program()
    if bwrap is None or limit.f_flag & os.ST_RDONLY:
        return False
    described = subprocess.run([bwrap, "--help"], capture_output=True, check=False)
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


def _ids() -> list[str]:
    """Keep the ids of the server where the launcher maps them to root for the network."""
    uid, gid = os.geteuid(), os.getegid()
    return ["--uid", str(uid), "--gid", str(gid)] if uid else []


def _seccomp(data: _Data) -> list[str]:
    filter_program = seccomp.program()
    return [] if filter_program is None else ["--seccomp", data.add(filter_program)]


def _accounts(uid: int | None) -> dict[str, bytes]:
    """Return ``passwd`` and ``group`` for a uid of its own: programs look up their ids."""
    if uid is None:
        return {}
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


def _own(path: str, inside: str) -> Bind:
    return Bind(path, True, inside, "the task's own directory", private=True)


def _made(folder: Path, uid: int | None) -> str:
    folder.mkdir(exist_ok=True)
    set_owner(folder, uid)
    return str(folder)


def _links() -> Iterator[str]:
    """Yield options for system directories that are links: today's /bin is one to usr/bin."""
    for path in SYSTEM:
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)


def _system(etc: Iterable[str]) -> Iterator[Bind]:
    """Yield the system's programs and the part of its configuration that they need."""
    for path in SYSTEM:
        if os.path.isdir(path) and not os.path.islink(path):
            yield Bind(path, origin=_ORIGIN)
    for name in etc:
        if os.path.exists(f"/etc/{name}"):
            yield Bind(f"/etc/{name}", origin=_ORIGIN)


def _bound(bind: Bind, fixed: Sequence[str]) -> Iterator[str]:
    for one in (bind, *masking.anchors(bind, fixed)):
        # The path that was checked: a link in it may change meanwhile.
        source = masking.real_path(one.path)
        yield from ("--bind" if one.writable else "--ro-bind", source, one.target)


def _masked(mask: Mask) -> Iterator[str]:
    """Yield options that put something empty in the place of private data."""
    if mask.is_directory:
        # Read-only: otherwise a command could fill memory that no quota counts.
        yield from ("--tmpfs", mask.inside, "--remount-ro", mask.inside)
    else:
        yield from ("--ro-bind", "/dev/null", mask.inside)


__all__ = ["INSIDE", "PATH", "SYSTEM", "Bind", "CommandLine", "command_line", "program"]
