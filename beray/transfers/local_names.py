"""Validation of remote file names for the local file system, used by all downloads.

A name is rejected only if this platform does not allow it, if it would leave the target directory,
or if it would replace another file of the same download. ``a:b.txt`` is
an ordinary name on Linux and macOS, and an alternate data stream on Windows.

Sources: POSIX.1-2017, 3.170 "Filename"; Microsoft, "Naming Files, Paths, and Namespaces".
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from beray.exceptions import InvalidResponseError
from beray.sanitize import is_encodable
from beray.transfers import wire_names

MAX_DEPTH: Final = 500
MAX_PATH_BYTES: Final = 4096
"""PATH_MAX of Linux, including the final NUL."""
MAX_NAME_LENGTH: Final = 255
"""In bytes on Linux, in UTF-16 code units on macOS and Windows."""

System = Literal["linux", "macos", "windows"]
SYSTEM: Final[System] = (
    "windows" if os.name == "nt" else "macos" if sys.platform == "darwin" else "linux"
)
_WINDOWS_CHARACTERS: Final = re.compile(r'[\x00-\x1f<>:"|?*\\]')
_WINDOWS_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", "clock$", "conin$", "conout$"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³"}
)


def local_path(folder: str | os.PathLike[str], remote: str) -> Path:
    """Return the local path below ``folder`` for a file of a work_dir.

    Args:
        folder: Local directory.
        remote: Path relative to the work_dir, in wire form.

    Raises:
        InvalidResponseError: ``remote`` would leave the directory, or is not allowed as a name on
            this platform.
    """
    reason = name_problem(remote)
    if reason is not None:
        raise InvalidResponseError(
            f"{remote[:MAX_NAME_LENGTH]!r} cannot be saved here: the name {reason}",
            body=remote[:2048],
        )
    return Path(folder, on_disk(remote))


def on_disk(remote: str) -> str:
    """Return the local form of a relative path in wire form."""
    return os.fsdecode(wire_names.decode(remote))


def on_wire(local: str | os.PathLike[str]) -> str:
    """Return the wire form of a relative local path, with ``/`` as separator."""
    return wire_names.encode(os.fsencode(local)).replace(os.sep, "/")


def name_problem(path: str, system: System = SYSTEM) -> str | None:
    """Return why a file with this path cannot be saved below a directory; ``None`` if it can.

    Args:
        path: Relative path in wire form, with ``/`` as separator.
        system: Platform whose rules apply.

    Returns:
        The reason as the rest of a sentence, such as "is too long".
    """
    # The length is checked first, because the other checks take time in proportion to it.
    if len(path) >= MAX_PATH_BYTES * wire_names.MAX_BYTES_PER_NAME_BYTE:
        return "is too long"
    if not is_encodable(path):
        return "is not valid Unicode"
    if len(wire_names.decode(path, any_bytes=system == "linux")) >= MAX_PATH_BYTES:
        return "is too long"
    parts = path.split("/")
    if len(parts) > MAX_DEPTH:
        return f"has more than {MAX_DEPTH} parts"
    if ".." in parts:
        return "leaves the directory"
    if "" in parts or "." in parts:
        return "is absolute" if path.startswith("/") else "has an empty part or '.'"
    if any("\0" in part for part in parts):
        return "contains a NUL"
    if any(_length(part, system) > MAX_NAME_LENGTH for part in parts):
        return "is too long"
    return _windows_problem(parts) if system == "windows" else None


def _length(part: str, system: System) -> int:
    if system == "linux":
        return len(wire_names.decode(part, any_bytes=True))
    return len(part.encode("utf-16-le")) // 2


def _windows_problem(parts: list[str]) -> str | None:
    for part in parts:
        if found := _WINDOWS_CHARACTERS.search(part):
            return f"contains {found[0]!r}, which Windows does not allow"
        if part[-1] in ". ":
            return "has a part that ends with a dot or space, which Windows removes"
        if part.partition(".")[0].rstrip(" ").casefold() in _WINDOWS_DEVICES:
            return "is the name of a device on Windows"
    return None


class LocalNames:
    """The paths of one download, to detect those that the local file system does not distinguish.

    They are stored as a tree, so that the cost is proportional to the length of the paths.

    Attributes:
        count: Number of files and directories, including the parent directories of paths.
    """

    def __init__(self, system: System = SYSTEM) -> None:
        self._fold: Callable[[str], str] = _canonical if system == "linux" else _folded
        self._root: dict[str, _Node] = {}
        self.count = 0

    def add(self, path: str, *, is_directory: bool) -> str | None:
        """Add a path.

        Returns:
            Why the path conflicts with an earlier one, as the rest of a sentence; ``None`` if it
            does not.
        """
        parts = [self._fold(part) for part in path.split("/")]
        entries = self._root
        for part in parts if is_directory else parts[:-1]:
            self.count += part not in entries
            node = entries.setdefault(part, _Node())
            if node.entries is None:
                return "is, or is below, the path of another file"
            entries = node.entries
        if is_directory:
            return None
        if parts[-1] in entries:
            return "has the same name as another file on this file system"
        entries[parts[-1]] = _FILE
        self.count += 1
        return None


@dataclass(slots=True)
class _Node:
    entries: dict[str, _Node] | None = field(default_factory=dict)
    """Entries of a directory; ``None`` for a file."""


_FILE: Final = _Node(None)


def _canonical(part: str) -> str:
    """Return the canonical wire name of the file with the name ``part``."""
    name = wire_names.decode(part, any_bytes=True)
    return wire_names.encode(name, any_bytes=True)


def _folded(part: str) -> str:
    """Remove differences that APFS and NTFS ignore: case, and on APFS the normalization form."""
    return unicodedata.normalize("NFC", part).casefold()
