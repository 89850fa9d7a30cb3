"""Entries of checkpoints: the state of one path without its content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from beray.history_schema import FileState
from beray.transfers import file_modes, wire_names

EntryKind = Literal["file", "directory", "link", "special"]


@dataclass(frozen=True, slots=True)
class Entry:
    """State of a file, directory, link or special file.

    Attributes:
        kind: Type. Special files are FIFOs, sockets and devices; they cannot be restored.
        mode: Permission bits (0o777); 0 for links.
        size: Size of a file in bytes; 0 for others.
        mtime_ns: Time of the last modification of a file, in nanoseconds since 1970; 0 for others.
        digest: SHA-256 of the content of a file; empty if it is not stored, and for others.
        target: Target of a link.
        reference: Digest of the blob with the manifest of a directory, or with the list of chunks
            of a large file; otherwise empty.
    """

    kind: EntryKind
    mode: int = 0
    size: int = 0
    mtime_ns: int = 0
    digest: bytes = b""
    target: bytes = b""
    reference: bytes = b""

    @property
    def is_stored(self) -> bool:
        """False for files without a stored content."""
        return self.kind != "file" or bool(self.digest)

    def is_same_content(self, other: Entry) -> bool:
        """Return True if both differ at most in their times of modification."""
        return (self.kind, self.mode, self.size, self.digest, self.target) == (
            other.kind, other.mode, other.size, other.digest, other.target,
        )  # fmt: skip

    def to_wire(self) -> FileState:
        """Return the entry in the format of the API."""
        state: FileState = {"type": self.kind}
        if self.kind in ("file", "directory"):
            state["mode"] = file_modes.format_mode(self.mode)
        if self.kind == "file":
            state["size"] = self.size
            if self.digest:
                state["sha256"] = self.digest.hex()
        if self.kind == "link":
            state["target"] = wire_names.encode(self.target)
        return state
