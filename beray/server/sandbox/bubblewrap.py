"""Command line of bubblewrap: the system read-only, one writable work_dir, no private data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from beray.server.sandbox import masking
from beray.server.sandbox.masking import Bind, Mask, PrivatePath

INSIDE: Final = "/workspace"
"""The work_dir as a sandboxed command sees it."""
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix")

_ETC: Final = (
    "alternatives", "ca-certificates", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
    "localtime", "nsswitch.conf", "passwd", "pki", "ssl",
)  # fmt: skip
_ETC_NETWORK: Final = ("hosts", "resolv.conf", "services", "gai.conf")
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


def arguments(
    work_dir: Path | None,
    scratch: Path | None,
    *,
    network: bool,
    binds: Iterable[Bind] = (),
    private: Sequence[PrivatePath] = (),
) -> list[str]:
    """Return the command line before the command itself.

    ``/tmp`` and ``/dev/shm`` are directories of ``scratch``: what a command writes there is on
    disk, where it is counted, and not in memory. Masks of private data are mounted last.

    Args:
        work_dir: visible as ``INSIDE``; an empty directory in memory if None, for a probe.
        scratch: directory of this command alone; None as for ``work_dir``.
        binds: further paths to mount; those that do not exist are left out.
        private: host paths that the command must not see.

    Raises:
        UnmaskableLayout: a path that the command needs is private or would be masked.
    """
    binds = list(binds)
    system = list(_system(network))
    masking.check([*NEEDED, *binds], private)
    in_memory: list[str] = []
    temporary: list[Bind] = []
    work: list[Bind] = []
    if scratch is None or work_dir is None:
        in_memory = [
            option for path in ("/tmp", "/dev/shm", INSIDE) for option in ("--tmpfs", path)
        ]
    else:
        folders = {"/tmp": scratch / "tmp", "/dev/shm": scratch / "shm"}
        temporary = [_own(_made(folder), inside) for inside, folder in folders.items()]
        work = [_own(str(work_dir), INSIDE)]
    present = [bind for bind in binds if os.path.exists(bind.path)]
    # Outer directories first: otherwise they would cover the inner ones.
    present.sort(key=lambda bind: bind.target)
    mounts = [*system, *temporary, *present, *work]
    fixed = [*(secret.path for secret in private), *(masking.real_path(b.path) for b in present)]
    return [
        program() or "bwrap", "--unshare-all", *(["--share-net"] if network else []),
        "--die-with-parent", "--new-session", "--cap-drop", "ALL",
        "--hostname", "beray", "--proc", "/proc", "--dev", "/dev",
        *_links(), *in_memory,
        *(option for bind in mounts for option in _bound(bind, fixed)),
        *(option for mask in masking.masks(mounts, private) for option in _masked(mask)),
        "--chdir", INSIDE, "--remount-ro", "/dev", "--remount-ro", "/", "--",
    ]  # fmt: skip


def _own(path: str, inside: str) -> Bind:
    return Bind(path, True, inside, "the task's own directory", private=True)


def _made(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    return str(folder)


def _links() -> Iterator[str]:
    """Yield options for system directories that are links: today's /bin is one to usr/bin."""
    for path in SYSTEM:
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)


def _system(network: bool) -> Iterator[Bind]:
    """Yield the system's programs and the part of its configuration that they need."""
    for path in SYSTEM:
        if os.path.isdir(path) and not os.path.islink(path):
            yield Bind(path, origin=_ORIGIN)
    for name in (*_ETC, *(_ETC_NETWORK if network else ())):
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


__all__ = ["INSIDE", "PATH", "SYSTEM", "Bind", "arguments", "program"]
