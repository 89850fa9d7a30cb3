"""Names of remote files on a local file system: one rule for all downloads.

A name is refused only if the file system of this platform cannot have it, if it would leave the
target directory, or if it would replace another file of the same download. ``a:b.txt`` is
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
"""PATH_MAX of Linux, with the final NUL."""
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
    """Return the path below ``folder`` for a file of a work_dir, whose names are those of the wire.

    Raises:
        InvalidResponseError: ``remote`` would leave the folder, or no file here can have it.
    """
    reason = problem(remote)
    if reason is not None:
        raise InvalidResponseError(
            f"{remote[:MAX_NAME_LENGTH]!r} cannot be saved here: the name {reason}",
            body=remote[:2048],
        )
    return Path(folder, on_disk(remote))


def on_disk(remote: str) -> str:
    """Return a relative path of a work_dir as the file system of this platform has it."""
    return os.fsdecode(wire_names.decode(remote))


def on_wire(local: str | os.PathLike[str]) -> str:
    """Return a relative local path as the wire has it, with ``/`` between its parts."""
    return wire_names.encode(os.fsencode(local)).replace(os.sep, "/")


def problem(path: str, system: System = SYSTEM) -> str | None:
    """Return why a file with this path cannot be saved below a directory; ``None`` if it can.

    Args:
        path: relative path with ``/`` between its parts, as the wire has it.
    """
    # The length comes first: what follows takes time in proportion to it.
    if len(path) >= MAX_PATH_BYTES * wire_names.LONGEST_BYTE:
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
    """The paths of one download as the target file system distinguishes them.

    A tree, so that its cost grows with the length of the paths only.
    """

    def __init__(self, system: System = SYSTEM) -> None:
        self._fold: Callable[[str], str] = _canonical if system == "linux" else _folded
        self._root: dict[str, _Node] = {}
        self.count = 0
        """Number of files and directories, including those that only occur in paths."""

    def add(self, path: str, *, is_folder: bool) -> str | None:
        """Add a path; return why it cannot exist beside the earlier ones, or ``None``."""
        parts = [self._fold(part) for part in path.split("/")]
        below = self._root
        for part in parts if is_folder else parts[:-1]:
            self.count += part not in below
            node = below.setdefault(part, _Node())
            if node.below is None:
                return "is, or is below, a file that is there as well"
            below = node.below
        if is_folder:
            return None
        if parts[-1] in below:
            return "is there twice, except for what this file system does not distinguish"
        below[parts[-1]] = _FILE
        self.count += 1
        return None


@dataclass(slots=True)
class _Node:
    below: dict[str, _Node] | None = field(default_factory=dict)
    """Content of a directory; ``None`` for a file."""


_FILE: Final = _Node(None)


def _canonical(part: str) -> str:
    """Return the one wire name of the file that ``part`` names."""
    name = wire_names.decode(part, any_bytes=True)
    return wire_names.encode(name, any_bytes=True)


def _folded(part: str) -> str:
    """Fold what APFS and NTFS do not distinguish: case, and on APFS the normalisation form."""
    return unicodedata.normalize("NFC", part).casefold()
