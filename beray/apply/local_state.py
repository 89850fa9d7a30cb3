"""State of local files, to be compared with the states in a checkpoint."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from beray.history_schema import FileState
from beray.transfers import digest, file_modes
from beray.transfers.local_files import SAFE_OPEN_FLAGS, is_link
from beray.transfers.local_names import on_disk
from beray.transfers.wire_names import encode

Kind = Literal["file", "directory", "link", "special"]
Signature = tuple[int, int, int, int] | None
"""Mode, inode, size and time of modification; ``None`` if the path does not exist."""


@dataclass(frozen=True, slots=True)
class LocalState:
    """State of an existing local path.

    Attributes:
        kind: Type. A Windows junction is a link.
        mode: Permission bits.
        size: Size in bytes.
        target: Target of a link, in wire form; "" for others.
    """

    kind: Kind
    mode: int
    size: int
    target: str


class LocalFiles:
    """The files below a local directory, by their paths in wire form.

    Nothing is followed: callers check that no part of a path above the last one is a link.

    Attributes:
        root: The directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._digests: dict[str, bytes] = {}

    def local(self, path: str) -> Path:
        """Return the local path."""
        return Path(self.root, on_disk(path))

    def state(self, path: str) -> LocalState | None:
        """Return the state of a path; ``None`` if it does not exist.

        Raises:
            OSError: The state cannot be read.
        """
        local = self.local(path)
        try:
            found = local.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        mode = found.st_mode & file_modes.BITS
        if is_link(found):
            target = encode(os.fsencode(local.readlink()))
            return LocalState("link", mode, found.st_size, target)
        kind: Kind = (
            "file"
            if stat.S_ISREG(found.st_mode)
            else "directory"
            if stat.S_ISDIR(found.st_mode)
            else "special"
        )
        return LocalState(kind, mode, found.st_size, "")

    def signature(self, path: str) -> Signature:
        """Return values that differ after a change of the path, except of entries of a directory.

        Raises:
            OSError: The state cannot be read.
        """
        try:
            found = self.local(path).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISDIR(found.st_mode):
            return found.st_mode, found.st_ino, 0, 0
        return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns

    def is_same_file(self, path: str, other: str) -> bool:
        """Return True if two existing paths are one file, or two hard links to it.

        Raises:
            OSError: The state cannot be read.
        """
        return os.path.samestat(self.local(path).lstat(), self.local(other).lstat())

    def has_content(self, path: str, expected: FileState) -> bool:
        """Return True if a path has the type and content of a state; modes may differ.

        Raises:
            OSError: The file cannot be read.
        """
        found = self.state(path)
        if found is None or found.kind != expected["type"]:
            return False
        match found.kind:
            case "file":
                if found.size != expected.get("size") or "sha256" not in expected:
                    return False
                return self._sha256(path).hex() == expected["sha256"].lower()
            case "link":
                return found.target == expected.get("target")
            case _:
                return True

    def read(self, path: str) -> bytes:
        """Return the content of a file.

        Raises:
            OSError: The file cannot be read.
        """
        with os.fdopen(self._open(path), "rb") as file:
            return file.read()

    def _sha256(self, path: str) -> bytes:
        if path not in self._digests:
            with os.fdopen(self._open(path), "rb") as file:
                self._digests[path] = digest.sha256_of_file(file)
        return self._digests[path]

    def _open(self, path: str) -> int:
        return os.open(self.local(path), os.O_RDONLY | SAFE_OPEN_FLAGS)
