"""Masks that hide private directories from sandboxed commands.

A command sees the directories that are bound into its sandbox. A bound directory may contain
private data: the data directory below ``/opt``, or a second mount of it below an agent's path.
``masks`` finds every path inside the sandbox at which private data would be visible; ``check``
rejects layouts in which the command needs something inside the private data itself.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from beray.server.setting_types.binds import Bind

_MOUNT_TABLE: Final = "/proc/self/mountinfo"


@dataclass(frozen=True, slots=True)
class PrivatePath:
    """Real path of the host at which private data is visible.

    Attributes:
        path: Path without symbolic links.
        description: Description of the data, for error messages.
        remedy: Change that the operator can make to move the data; may be empty.
    """

    path: str
    description: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Mask:
    """Path in the sandbox at which private data would be visible."""

    inside: str
    is_directory: bool


@dataclass(frozen=True, slots=True)
class HostMount:
    """Mount of the host: one line of proc_pid_mountinfo(5).

    Attributes:
        device: Major and minor number of the file system's device.
        root: Directory of the file system that is mounted.
        point: Path at which it is mounted.
        kind: Type of the file system.
    """

    device: str
    root: str
    point: str
    kind: str


class UnmaskableLayout(OSError):
    """A directory that commands need is private, or is inside a private directory."""


def private_paths(
    directories: Iterable[tuple[Path, str, str]], table: Sequence[HostMount] | None = None
) -> list[PrivatePath]:
    """Return all paths of the host that lead to ``directories``, and its process file systems.

    A directory is found at its real path, below other mounts of the same file system, and
    through mounts of its parts. A procfs of the host is private because ``/proc/PID/root`` leads
    to every directory of the process.

    Args:
        directories: Path, description and remedy of each private directory.
        table: Mounts of the host; by default, they are read from the kernel.
    """
    mounts = mount_table() if table is None else table
    found: dict[str, PrivatePath] = {}
    for directory, description, remedy in directories:
        path = real_path(directory)
        for visible in _visible_paths(path, mounts):
            also = "" if visible == path else f", which is also mounted as {visible},"
            found.setdefault(visible, PrivatePath(visible, f"{description} {path}{also}", remedy))
    for mount in mounts:
        if mount.kind == "proc":
            description = f"the process file system {mount.point}"
            found.setdefault(mount.point, PrivatePath(mount.point, description, ""))
    return list(found.values())


def check(binds: Iterable[Bind], private: Iterable[PrivatePath]) -> None:
    """Reject binds that would expose private data. Binds that are marked as private are skipped.

    Raises:
        UnmaskableLayout: A bind is the root directory, or is at or below a private path; the
            message contains both paths, the reason and the next step.
    """
    private_paths = list(private)
    for bind in binds:
        if bind.private:
            continue
        source = real_path(bind.path)
        if source == "/":
            raise UnmaskableLayout(
                f"{bind.path!r} ({bind.origin}) is the root directory, which contains private "
                "data and the host's processes. Name the directories that are needed instead."
            )
        for hidden in private_paths:
            if source == hidden.path:
                reason = f"it is the directory that commands see as {bind.target} ({bind.origin})"
            elif is_below(source, hidden.path):
                reason = f"it contains {bind.path}, which commands need ({bind.origin})"
            else:
                continue
            remedies = [hidden.remedy] if hidden.remedy else []
            if bind.origin.startswith("BERAY_"):
                remedies.append(f"remove {bind.path} from {bind.origin}")
            next_step = " or ".join(remedies) or "Change the mounts of the host"
            raise UnmaskableLayout(
                f"{hidden.description} cannot be hidden from sandboxed commands: {reason}. "
                f"{next_step[0].upper()}{next_step[1:]}."
            )


def masks(
    binds: Sequence[Bind], private: Iterable[PrivatePath], uid: int | None = None
) -> list[Mask]:
    """Return the masks for private data that would be visible after mounting ``binds`` in order.

    Paths below another mask, and paths that a later bind covers, are left out.

    Args:
        binds: Binds of the sandbox, in the order in which they are mounted.
        private: Host paths that the command must not see.
        uid: Host uid that mounts the masks; None: the server's. This uid cannot mount anything
            below a directory that it must not enter; then the whole directory is masked.

    Raises:
        UnmaskableLayout: A mask would cover a bind.
    """
    private_paths = list(private)
    found: dict[str, tuple[PrivatePath, str]] = {}
    for number, bind in enumerate(binds):
        source = real_path(bind.path)
        for hidden in private_paths:
            if is_below(hidden.path, source):
                masked = hidden.path if uid is None else _reachable(hidden.path, source, uid)
                inside = _rebased(masked, source, bind.target)
                later = binds[number + 1 :]
                if not any(is_at_or_below(inside, other.target) for other in later):
                    found[inside] = hidden, masked
    for inside, (hidden, _) in found.items():
        for bind in binds:
            if is_at_or_below(bind.target, inside):
                raise UnmaskableLayout(
                    f"{hidden.description} cannot be hidden from sandboxed commands: this would "
                    f"also hide {bind.target}, which they need ({bind.origin})."
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

    They are bound onto themselves and thereby become mount points, which the kernel does not
    rename or remove. Otherwise a command could move private data to a path that the next command's
    masks do not cover, or replace a path of the next command's binds by a symbolic link.

    Args:
        bind: Bind in which the directories are searched.
        fixed: Real paths that must not be moved.
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
            yield Bind(path, True, _rebased(path, source, bind.target))


def real_path(path: str | Path) -> str:
    """Return an absolute path without symbolic links, as far as the server may read them."""
    try:
        return os.path.realpath(path)
    except OSError:  # such as /proc/PID/root of another user
        return os.path.abspath(path)


def is_below(path: str, directory: str) -> bool:
    """Return True if ``path`` is strictly below ``directory``; both are absolute."""
    return path != directory and is_at_or_below(path, directory)


def is_at_or_below(path: str, directory: str) -> bool:
    """Return True if ``path`` is ``directory`` or below it; both are absolute."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def mount_table(path: str = _MOUNT_TABLE) -> list[HostMount]:
    """Return the mounts that this process sees; empty if the system has no such table."""
    try:
        with Path(path).open(errors="surrogateescape") as file:
            return [_parse(line) for line in file]
    except FileNotFoundError:
        return []


def _parse(line: str) -> HostMount:
    fields = line.split(" ")
    kind = fields[fields.index("-", 6) + 1]
    return HostMount(fields[2], _unescaped(fields[3]), _unescaped(fields[4]), kind)


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _visible_paths(path: str, mounts: Sequence[HostMount]) -> Iterator[str]:
    """Yield ``path`` and the other paths that lead to it, to its parts or to mounts below it."""
    yield path
    containing: HostMount | None = None
    for mount in mounts:
        # If several file systems are mounted on one directory, the last one is visible.
        if is_at_or_below(path, mount.point) and (
            containing is None or len(mount.point) >= len(containing.point)
        ):
            containing = mount
    parts = [(mount.device, mount.root, mount.point) for mount in mounts]
    parts = [part for part in parts if is_below(part[2], path)]
    if containing is not None:
        parts.append((containing.device, _rebased(path, containing.point, containing.root), path))
    for device, root, visible in parts:
        for mount in mounts:
            if mount.device != device:
                continue
            if is_below(mount.root, root):
                yield mount.point
            elif is_at_or_below(root, mount.root):
                other = _rebased(root, mount.root, mount.point)
                if _is_same_file(other, visible):
                    yield other


def _rebased(path: str, old: str, new: str) -> str:
    """Return ``path``, which is at or below ``old``, as a path at or below ``new``."""
    return os.path.normpath(os.path.join(new, os.path.relpath(path, old)))


def _is_same_file(first: str, second: str) -> bool:
    """Return True if both paths exist and are the same file; a mount may cover another one."""
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False
