"""Contents of two entries for a comparison: text, binary, or omitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.errors import DamagedContent

ReadContent = Callable[[Entry], bytes]
"""Function that returns the content of a stored file, or raises ``DamagedContent``."""

MAX_COMPARED_BYTES: Final = 4 * 1024 * 1024
"""Maximum size of a file whose content is compared."""
TOO_LARGE: Final = f"larger than {MAX_COMPARED_BYTES // 1024**2} MiB"
NOT_STORED: Final = "not stored"

_BINARY_PREFIX_BYTES: Final = 8000


@dataclass(frozen=True, slots=True)
class ContentPair:
    """Contents before and after a change.

    Attributes:
        old: Content of a file or target of a link; empty for other entries, or if both contents
            are equal.
        new: The same after the change.
        is_binary: True if one of the contents is not text.
        omitted: Reason why the contents are not available; None if they are.
    """

    old: bytes = b""
    new: bytes = b""
    is_binary: bool = False
    omitted: str | None = None


def is_binary(content: bytes) -> bool:
    """Return True if content is not text: it has a NUL near its start, as in git."""
    return b"\0" in content[:_BINARY_PREFIX_BYTES]


def is_unchanged(old: Entry | None, new: Entry | None) -> bool:
    """Return True if two entries have the same content, without reading it.

    Files without stored content are equal if their size and time of modification are.
    """
    if old is None or new is None or old.kind != new.kind:
        return False
    if old.kind != "file" or (old.digest and new.digest):
        return (old.digest, old.target) == (new.digest, new.target)
    return (old.digest, old.size, old.mtime_ns) == (new.digest, new.size, new.mtime_ns)


def is_compared(old: Entry | None, new: Entry | None) -> bool:
    """Return True if ``read_pair`` reads the content of a file."""
    return not is_unchanged(old, new) and _reason_to_omit(old, new) is None


def read_pair(old: Entry | None, new: Entry | None, read: ReadContent) -> ContentPair:
    """Read the contents of two entries, unless they are equal."""
    if is_unchanged(old, new):
        return ContentPair()
    reason = _reason_to_omit(old, new)
    if reason is not None:
        return ContentPair(omitted=reason)
    try:
        old_content, new_content = _content(old, read), _content(new, read)
    except DamagedContent as error:
        return ContentPair(omitted=f"damaged: {error.reason}")
    return ContentPair(old_content, new_content, is_binary(old_content) or is_binary(new_content))


def _reason_to_omit(old: Entry | None, new: Entry | None) -> str | None:
    files = [entry for entry in (old, new) if entry is not None and entry.kind == "file"]
    if not all(entry.is_stored for entry in files):
        return NOT_STORED
    if any(entry.size > MAX_COMPARED_BYTES for entry in files):
        return TOO_LARGE
    return None


def _content(entry: Entry | None, read: ReadContent) -> bytes:
    if entry is None:
        return b""
    return read(entry) if entry.kind == "file" else entry.target
