"""Command line of bubblewrap: a read-only system, one writable work_dir, no private data.

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
from beray.server.sandbox.masking import Mask, PrivatePath
from beray.server.sandbox.network_policy import HOST_NAME
from beray.server.setting_types.binds import Bind
from beray.server.workspace.ownership import set_owner

INSIDE: Final = "/workspace"
"""Path of the work_dir inside the sandbox."""
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Value of ``PATH`` inside the sandbox."""
SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix")
"""Directories of the host's system that every sandbox contains, read-only."""

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
"""Descriptor of the first item of ``CommandLine.data``, which the launcher assigns."""
_ORIGIN: Final = "part of the system"
NEEDED: Final = [
    Bind(path, origin=_ORIGIN) for path in (*SYSTEM, *(f"/etc/{name}" for name in _ETC), "/bin/sh")
]
"""System paths that no mask may cover. Not all of them are bound: some are symbolic links."""


def program() -> str | None:
    """Return the path of the bubblewrap program, or None if it is not installed.

    The path is absolute because commands run with a ``PATH`` that may not contain it.
    """
    return shutil.which("bwrap")


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Arguments before the command itself, and the data that bwrap reads from descriptors."""

    arguments: list[str]
    data: list[bytes]
    """Contents of the descriptors 3, 4, … that ``arguments`` refer to."""
    uid: int | None
    """Host uid that executes the command; None: the server's."""

    def staged(self, directory: str) -> tuple[list[str], list[str]]:
        """Return the arguments with staged sources of bind mounts, and the original sources.

        The sources become ``directory``/0, 1, …; the first one is bwrap itself. See
        ``launcher/mounts.py``.
        """
        arguments, sources = list(self.arguments), [self.arguments[0]]
        arguments[0] = f"{directory}/0"
        for index, argument in enumerate(arguments):
            if argument in _BIND_OPTIONS:
                sources.append(arguments[index + 1])
                arguments[index + 1] = f"{directory}/{len(sources) - 1}"
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

    ``/tmp`` and ``/dev/shm`` are directories of ``scratch``, so that files in them use disk space,
    which the quota counts, and not memory. Masks of private data are mounted last.

    Args:
        work_dir: Directory that is mounted as ``INSIDE``; None mounts an empty directory in
            memory, for a probe.
        scratch: Directory of this command only; None as for ``work_dir``.
        network: True if the command uses the network namespace in which bwrap is started.
        etc: Contents of files in ``/etc`` that differ from those of the host, by name.
        binds: Further paths to mount; paths that do not exist are left out.
        private: Host paths that the command must not see.
        uid: Host uid to which the launcher changes; None: the server's.
        init: True if the first process of the PID namespace is bubblewrap; otherwise it is the
            command.

    Raises:
        UnmaskableLayout: A path that the command needs is private or would be masked.
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
        directories = {"/tmp": scratch / "tmp", "/dev/shm": scratch / "shm"}
        own = [_own_bind(_create(path, uid), inside) for inside, path in directories.items()]
    present = [bind for bind in binds if os.path.exists(bind.path)]
    # Outer directories first, because they would cover the inner ones.
    present.sort(key=lambda bind: bind.target)
    etc_files = {name: content.encode() for name, content in etc.items()} | _account_files(uid)
    names = (*_ETC, *_ACCOUNTS, *(_ETC_NETWORK if network else ()))
    mounts = [*_system_binds(name for name in names if name not in etc_files), *own, *present]
    if work_dir is not None:
        mounts.append(_own_bind(str(work_dir), INSIDE))
    fixed = [*(secret.path for secret in private), *(masking.real_path(b.path) for b in present)]
    data = _Data()
    arguments = [
        program() or "bwrap", "--unshare-all", "--unshare-user",
        *(["--share-net"] if network else []),
        *(["--disable-userns"] if can_disable_userns() else []),
        *([] if init else ["--as-pid-1"]),
        "--die-with-parent", "--new-session", "--cap-drop", "ALL",
        *_id_options(), "--hostname", HOST_NAME, "--proc", "/proc", *_proc_options(),
        "--dev", "/dev", *_link_options(), *in_memory, *_seccomp_options(data),
        *(option for name, content in etc_files.items()
          for option in ("--ro-bind-data", data.add(content), f"/etc/{name}")),
        *(option for bind in mounts for option in _bind_options(bind, fixed)),
        *(option for mask in masking.masks(mounts, private, uid)
          for option in _mask_options(mask)),
        "--chdir", INSIDE, "--remount-ro", "/dev", "--remount-ro", "/", "--",
    ]  # fmt: skip
    return CommandLine(arguments, data.contents, uid)


class _Data:
    """Data that bwrap reads from descriptors."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def add(self, content: bytes) -> str:
        """Add ``content``; return the number of its descriptor."""
        self.contents.append(content)
        return str(_FIRST_DATA + len(self.contents) - 1)


@cache
def can_disable_userns() -> bool:
    """Return True if bwrap can forbid further user namespaces with ``--disable-userns``.

    This option writes to ``/proc/sys/user``, which containers make read-only. The seccomp filter
    denies such namespaces in any case.
    """
    try:
        limit = os.statvfs("/proc/sys/user/max_user_namespaces")
    except OSError:
        return False
    bwrap = program()
    if bwrap is None or limit.f_flag & os.ST_RDONLY:
        return False
    completed = subprocess.run([bwrap, "--help"], capture_output=True, check=False)
    return b"--disable-userns" in completed.stdout + completed.stderr


def userns_restriction(settings: Path = Path("/proc/sys")) -> str | None:
    """Return the kernel setting that prevents unprivileged users from creating user namespaces.

    bwrap needs such namespaces. This includes servers that are root, where bwrap runs under the
    uid of a user.

    Args:
        settings: Directory of the kernel's settings.
    """
    for name, value in _USERNS_RESTRICTIONS.items():
        try:
            current = (settings / name).read_text().strip()
        except OSError:
            continue
        if current == value:
            return f"{name.replace('/', '.')}={value}"
    return None


def _id_options() -> list[str]:
    """Return options that keep the server's ids, which the launcher may have mapped to root."""
    uid, gid = os.geteuid(), os.getegid()
    return ["--uid", str(uid), "--gid", str(gid)] if uid else []


def _seccomp_options(data: _Data) -> list[str]:
    filter_program = seccomp.program()
    return [] if filter_program is None else ["--seccomp", data.add(filter_program)]


def _account_files(uid: int | None) -> dict[str, bytes]:
    """Return ``passwd`` and ``group`` with the user's uid, because programs look up their ids."""
    if uid is None:
        return {}
    passwd = f"root:x:0:0:root:/root:/bin/false\nberay:x:{uid}:{uid}:BeRay:/tmp:/bin/sh\n"
    group = f"root:x:0:\nberay:x:{uid}:\n"
    return {
        "passwd": f"{passwd}nobody:x:65534:65534:nobody:/:/bin/false\n".encode(),
        "group": f"{group}nogroup:x:65534:\n".encode(),
    }


def _proc_options() -> Iterator[str]:
    """Yield options that cover the parts of ``/proc`` that configure or describe the host.

    bwrap itself leaves out directories whose mode is read-only, although files in them may be
    writable for the server's uid.
    """
    for path in _PROC_READ_ONLY:
        if os.path.exists(path):
            yield from ("--ro-bind", path, path)
    for path in _PROC_HIDDEN:
        if os.path.isdir(path):
            yield from ("--tmpfs", path, "--remount-ro", path)
        elif os.path.exists(path):
            # The bind mount has the option nodev, so that the device cannot be opened.
            yield from ("--ro-bind", "/dev/null", path)


def _own_bind(path: str, inside: str) -> Bind:
    return Bind(path, True, inside, "the task's own directory", private=True)


def _create(directory: Path, uid: int | None) -> str:
    directory.mkdir(exist_ok=True)
    set_owner(directory, uid)
    return str(directory)


def _link_options() -> Iterator[str]:
    """Yield options for system directories that are symbolic links, as /bin is to usr/bin."""
    for path in SYSTEM:
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)


def _system_binds(etc: Iterable[str]) -> Iterator[Bind]:
    """Yield the system's programs and the part of its configuration that they need."""
    for path in SYSTEM:
        if os.path.isdir(path) and not os.path.islink(path):
            yield Bind(path, origin=_ORIGIN)
    for name in etc:
        if os.path.exists(f"/etc/{name}"):
            yield Bind(f"/etc/{name}", origin=_ORIGIN)


def _bind_options(bind: Bind, fixed: Sequence[str]) -> Iterator[str]:
    for mounted in (bind, *masking.anchors(bind, fixed)):
        # Use the path that was checked: a symbolic link in the original may change meanwhile.
        source = masking.real_path(mounted.path)
        yield from ("--bind" if mounted.writable else "--ro-bind", source, mounted.target)


def _mask_options(mask: Mask) -> Iterator[str]:
    """Yield options that replace private data by something empty."""
    if mask.is_directory:
        # Read-only: otherwise a command could fill memory, which no quota counts.
        yield from ("--tmpfs", mask.inside, "--remount-ro", mask.inside)
    else:
        yield from ("--ro-bind", "/dev/null", mask.inside)


__all__ = ["INSIDE", "PATH", "SYSTEM", "CommandLine", "command_line", "program"]
