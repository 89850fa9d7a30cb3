"""What bubblewrap is told: a system to read from, a work_dir to write into, nothing else."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from beray.server.sandbox.network_policy import HOST_NAME

INSIDE: Final = "/workspace"
"""The work_dir as a sandboxed command sees it."""
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix")
_ETC: Final = (
    "alternatives", "ca-certificates", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
    "localtime", "passwd", "pki", "services", "ssl",
)  # fmt: skip
_ETC_NETWORK: Final = ("resolv.conf", "gai.conf")


@dataclass(frozen=True, slots=True)
class Bind:
    """A path outside that is the same path inside, unless another is given."""

    path: str
    writable: bool = False
    inside: str | None = None


def arguments(
    work_dir: Path,
    scratch: Path,
    *,
    network: bool,
    etc: Mapping[str, str],
    binds: Iterable[Bind] = (),
) -> list[str]:
    """The command line before the command itself.

    ``/tmp`` and ``/dev/shm`` are folders of ``scratch``: what a command writes there is on
    disk, where it is counted, and not in memory.

    Args:
        network: whether the command keeps the network namespace in which bwrap is started.
        etc: contents of files in ``/etc`` that differ from those of the host, by name.
    """
    return [
        "bwrap", "--unshare-all", "--unshare-user", *(["--share-net"] if network else []),
        "--die-with-parent", "--new-session", "--cap-drop", "ALL",
        "--hostname", HOST_NAME, "--proc", "/proc", "--dev", "/dev",
        *_system((*_ETC, *(_ETC_NETWORK if network else ())), without=etc),
        *_written(etc, scratch / "etc"), *_ids(),
        "--bind", _made(scratch / "tmp"), "/tmp", "--bind", _made(scratch / "shm"), "/dev/shm",
        *_bound(binds),
        "--bind", str(work_dir), INSIDE, "--chdir", INSIDE,
        "--remount-ro", "/dev", "--remount-ro", "/", "--",
    ]  # fmt: skip


def _made(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    return str(folder)


def _ids() -> list[str]:
    """Keep the ids of the server where the launcher maps them to root for the network."""
    uid, gid = os.geteuid(), os.getegid()
    return ["--uid", str(uid), "--gid", str(gid)] if uid else []


def _written(etc: Mapping[str, str], folder: Path) -> Iterator[str]:
    folder.mkdir(exist_ok=True)
    for name, content in etc.items():
        file = folder / name
        file.write_text(content)
        file.chmod(0o644)
        yield from ("--ro-bind", str(file), f"/etc/{name}")


def _system(etc: Iterable[str], without: Container[str]) -> Iterator[str]:
    """The system's programs, read-only. Home folders and the server's data are not there."""
    for path in _SYSTEM:
        # Today's /bin is a link to usr/bin, and must be one inside as well.
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.isdir(path):
            yield from ("--ro-bind", path, path)
    for name in etc:
        if name not in without and os.path.exists(f"/etc/{name}"):
            yield from ("--ro-bind", f"/etc/{name}", f"/etc/{name}")


def _bound(binds: Iterable[Bind]) -> Iterator[str]:
    for bind in binds:
        how = "--bind-try" if bind.writable else "--ro-bind-try"
        yield from (how, bind.path, bind.inside or bind.path)
