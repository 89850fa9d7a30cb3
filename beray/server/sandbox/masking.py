"""Keep private directories out of the file system that a sandboxed command sees.

A command sees what is bound into its sandbox. A bound directory may contain private data: the
data directory below ``/opt``, or a second mount of it below an agent's path. ``masks`` finds every
place inside the sandbox at which private data would be visible; ``check`` rejects layouts in which
the command needs something that lies inside the private data itself.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_MOUNT_TABLE: Final = "/proc/self/mountinfo"


@dataclass(frozen=True, slots=True)
class Bind:
    """A path of the host that is visible in the sandbox.

    Attributes:
        path: the path on the host.
        writable: whether the command may change what is below it.
        inside: the path in the sandbox; the same as on the host unless given.
        origin: the reason for the bind, for error messages.
        private: the path may be part of the data directory, such as a task's own work_dir.
    """

    path: str
    writable: bool = False
    inside: str | None = None
    origin: str = field(default="", compare=False)
    private: bool = False

    @property
    def target(self) -> str:
        return self.inside or self.path


@dataclass(frozen=True, slots=True)
class PrivatePath:
    """A real path of the host at which private data is visible, and what that data is."""

    path: str
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Mask:
    """A path in the sandbox at which private data would be visible."""

    inside: str
    is_directory: bool


@dataclass(frozen=True, slots=True)
class HostMount:
    """One line of mountinfo(5)."""

    device: str
    root: str
    point: str
    kind: str


class UnmaskableLayout(OSError):
    """A directory that commands need is, or lies inside, private data."""


def private_paths(
    directories: Iterable[tuple[Path, str, str]], table: Sequence[HostMount] | None = None
) -> list[PrivatePath]:
    """Return all paths of the host that lead to ``directories``, and its process file systems.

    A directory is found under its real path, below other mounts of the same file system, and
    through mounts of its parts. A procfs of the host is private because ``/proc/PID/root`` leads
    to every directory of the process.

    Args:
        directories: path, description and remedy of each private directory.
        table: the mounts of the host; read from the kernel unless given.
    """
    mounts = mount_table() if table is None else table
    found: dict[str, PrivatePath] = {}
    for directory, what, remedy in directories:
        path = real_path(directory)
        for place in _places(path, mounts):
            also = "" if place == path else f", which is also mounted as {place},"
            found.setdefault(place, PrivatePath(place, f"{what} {path}{also}", remedy))
    for mount in mounts:
        if mount.kind == "proc":
            what = f"the process file system {mount.point}"
            found.setdefault(mount.point, PrivatePath(mount.point, what, ""))
    return list(found.values())


def check(binds: Iterable[Bind], private: Iterable[PrivatePath]) -> None:
    """Reject binds of private data that are not meant to show it.

    Raises:
        UnmaskableLayout: a bind is the root directory, is private, or lies inside something that
            is; the message names both paths, the reason and the next step.
    """
    known = list(private)
    for bind in binds:
        if bind.private:
            continue
        source = real_path(bind.path)
        if source == "/":
            raise UnmaskableLayout(
                f"{bind.path!r} ({bind.origin}) is the root directory, which contains private "
                "data and the host's processes. Name the directories that are needed instead."
            )
        for secret in known:
            if source == secret.path:
                reason = f"it is the directory that commands see as {bind.target} ({bind.origin})"
            elif is_below(source, secret.path):
                reason = f"it contains {bind.path}, which commands need ({bind.origin})"
            else:
                continue
            remedies = [secret.remedy] if secret.remedy else []
            if bind.origin.startswith("BERAY_"):
                remedies.append(f"remove {bind.path} from {bind.origin}")
            next_step = " or ".join(remedies) or "Change the mounts of the host"
            raise UnmaskableLayout(
                f"{secret.what} cannot be hidden from sandboxed commands: {reason}. "
                f"{next_step[0].upper()}{next_step[1:]}."
            )


def masks(
    binds: Sequence[Bind], private: Iterable[PrivatePath], uid: int | None = None
) -> list[Mask]:
    """Return where private data would be visible after ``binds`` were mounted in this order.

    Places below another mask, and places that a later bind covers, are left out.

    Args:
        uid: host uid that mounts the masks; None: the server's. Below a directory that this uid
            must not enter, it cannot mount anything; the whole directory is masked then.

    Raises:
        UnmaskableLayout: a mask would cover a bind.
    """
    known = list(private)
    found: dict[str, tuple[PrivatePath, str]] = {}
    for number, bind in enumerate(binds):
        source = real_path(bind.path)
        for secret in known:
            if is_below(secret.path, source):
                masked = secret.path if uid is None else _reachable(secret.path, source, uid)
                inside = _moved(masked, source, bind.target)
                later = binds[number + 1 :]
                if not any(is_at_or_below(inside, other.target) for other in later):
                    found[inside] = secret, masked
    for inside, (secret, _) in found.items():
        for bind in binds:
            if is_at_or_below(bind.target, inside):
                raise UnmaskableLayout(
                    f"{secret.what} cannot be hidden from sandboxed commands: this would also "
                    f"hide {bind.target}, which they need ({bind.origin})."
                )
    return [
        Mask(inside, os.path.isdir(masked))
        for inside, (_, masked) in found.items()
        if not any(is_below(inside, other) for other in found) and os.path.exists(masked)
    ]


def _reachable(path: str, top: str, uid: int) -> str:
    """Return ``path``, or the first directory from ``top`` to it that ``uid`` must not enter."""
    directory = top
    for name in os.path.relpath(path, top).split("/"):
        try:
            status = os.stat(directory)
        except OSError:
            return path
        needed = stat.S_IXUSR if status.st_uid == uid else stat.S_IXOTH
        if not status.st_mode & needed:
            return directory
        directory = os.path.join(directory, name)
    return path


def anchors(bind: Bind, fixed: Iterable[str]) -> Iterator[Bind]:
    """Yield the directories between a writable bind and paths below it, outermost first.

    Bound onto themselves they are mount points, which the kernel does not rename or remove.
    Otherwise a command could move private data to a path that the next command's masks do not
    cover, or put a link in the place of what the next command's binds name.

    Args:
        fixed: real paths that have to stay where they are.
    """
    if not bind.writable:
        return
    source = real_path(bind.path)
    found: set[str] = set()
    for path in fixed:
        parent = os.path.dirname(path)
        while is_below(parent, source):
            found.add(parent)
            parent = os.path.dirname(parent)
    for path in sorted(found):
        if os.path.isdir(path):
            yield Bind(path, True, _moved(path, source, bind.target))


def real_path(path: str | Path) -> str:
    """Return an absolute path without links, as far as the server may read them."""
    try:
        return os.path.realpath(path)
    except OSError:  # such as /proc/PID/root of another user
        return os.path.abspath(path)


def is_below(path: str, directory: str) -> bool:
    """Return whether ``path`` is strictly below ``directory``; both are absolute."""
    return path != directory and is_at_or_below(path, directory)


def is_at_or_below(path: str, directory: str) -> bool:
    """Return whether ``path`` is ``directory`` or below it; both are absolute."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def mount_table(path: str = _MOUNT_TABLE) -> list[HostMount]:
    """Return the mounts that this process sees; empty where the system has no such table."""
    try:
        with open(path, errors="surrogateescape") as file:
            return [_parsed(line) for line in file]
    except FileNotFoundError:
        return []


def _parsed(line: str) -> HostMount:
    fields = line.split(" ")
    kind = fields[fields.index("-", 6) + 1]
    return HostMount(fields[2], _unescaped(fields[3]), _unescaped(fields[4]), kind)


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _places(path: str, mounts: Sequence[HostMount]) -> Iterator[str]:
    """Yield ``path`` and the other paths that lead to it, to its parts or to mounts below it."""
    yield path
    holding: HostMount | None = None
    for mount in mounts:
        # Of several mounts on one directory, the last is visible.
        if is_at_or_below(path, mount.point) and (
            holding is None or len(mount.point) >= len(holding.point)
        ):
            holding = mount
    parts = [(mount.device, mount.root, mount.point) for mount in mounts]
    parts = [part for part in parts if is_below(part[2], path)]
    if holding is not None:
        parts.append((holding.device, _moved(path, holding.point, holding.root), path))
    for device, root, visible in parts:
        for mount in mounts:
            if mount.device != device:
                continue
            if is_below(mount.root, root):
                yield mount.point
            elif is_at_or_below(root, mount.root):
                place = _moved(root, mount.root, mount.point)
                if _is_same_file(place, visible):
                    yield place


def _moved(path: str, old: str, new: str) -> str:
    """Return ``path``, which is at or below ``old``, as a path at or below ``new``."""
    return os.path.normpath(os.path.join(new, os.path.relpath(path, old)))


def _is_same_file(one: str, other: str) -> bool:
    """Return whether both paths exist and are one file; a mount may be covered by another."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
