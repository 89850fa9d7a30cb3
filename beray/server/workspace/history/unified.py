r"""Differences of files as a patch for ``git apply``.

The patch contains what git can represent: files, executable bits and links. Directories without
files, special files, other permission bits and times are not included. Binary files of up to
1 MiB are included completely. For a file whose content is larger, not stored or damaged, the patch
has the line ``Binary files a/x and b/x differ`` after incomplete ids of the contents: ``git apply``
then rejects the whole patch and names the file.

Ids of contents are SHA-1, so binary files cannot be applied in a repository with SHA-256.

Source: git-diff(1), "Generating patch text with -p"; git-apply(1); git-config(1), core.quotePath.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Generator, Iterable, Iterator
from typing import Final

from beray.server.workspace.history.contents import (
    ContentPair,
    ReadContent,
    is_unchanged,
    read_pair,
)
from beray.server.workspace.history.differences import PathDifference, find_differences
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.line_diff import CONTEXT_LINES, compare
from beray.server.workspace.history.reader import Change

MAX_BINARY_BYTES: Final = 1024 * 1024
"""Maximum size of a binary file that a patch includes."""

_NO_FILE: Final = b"/dev/null"
_NO_CONTENT_ID: Final = b"0" * 40
_UNKNOWN_ID: Final = b"0" * 7
"""Abbreviated id of omitted content. Without an id, git would ignore the file."""
_BINARY_LINE_BYTES: Final = 52
_EXECUTABLE: Final = 0o100
_QUOTED: Final = re.compile(rb'[\x00-\x1f"\\\x7f-\xff]')
_AMBIGUOUS: Final = b" /"
"""Part of names that git apply understands in quotes only."""
_ESCAPES: Final = {
    **{bytes((byte,)): b"\\%03o" % byte for byte in range(256)},
    b"\a": b"\\a",
    b"\b": b"\\b",
    b"\t": b"\\t",
    b"\n": b"\\n",
    b"\v": b"\\v",
    b"\f": b"\\f",
    b"\r": b"\\r",
    b'"': b'\\"',
    b"\\": b"\\\\",
}


def unified_diff(
    changes: Iterable[Change], read: ReadContent, *, context: int = CONTEXT_LINES
) -> Generator[bytes, None, None]:
    """Yield the parts of a patch, one for each file, in ascending order of the paths.

    ``git apply`` requires ``--unidiff-zero`` for a patch without context.

    Args:
        changes: Changed paths.
        read: Returns the content of a file.
        context: Number of unchanged lines before and after changes.
    """
    for difference in find_differences(changes, read):
        old_mode, new_mode = _git_mode(difference.old), _git_mode(difference.new)
        if not (old_mode or new_mode):
            continue
        changed = not is_unchanged(difference.old, difference.new)
        if changed or old_mode != new_mode or difference.change == "renamed":
            yield b"".join(_file_patch(difference, old_mode, new_mode, read, context))


def _git_mode(entry: Entry | None) -> bytes:
    """Return the mode in git; empty if git does not store the entry."""
    if entry is None or entry.kind not in ("file", "link"):
        return b""
    if entry.kind == "link":
        return b"120000"
    return b"100755" if entry.mode & _EXECUTABLE else b"100644"


def _file_patch(
    difference: PathDifference, old_mode: bytes, new_mode: bytes, read: ReadContent, context: int
) -> Iterator[bytes]:
    old_name = _quote(b"a/" + difference.old_path)
    new_name = _quote(b"b/" + difference.path)
    yield b"diff --git %s %s\n" % (old_name, new_name)
    if not old_mode:
        yield b"new file mode %s\n" % new_mode
    elif not new_mode:
        yield b"deleted file mode %s\n" % old_mode
    elif old_mode != new_mode:
        yield b"old mode %s\nnew mode %s\n" % (old_mode, new_mode)
    if difference.change == "renamed":
        yield b"similarity index %d%%\n" % difference.similarity
        yield b"rename from %s\n" % _quote(difference.old_path)
        yield b"rename to %s\n" % _quote(difference.path)

    if is_unchanged(difference.old, difference.new):
        return
    if not old_mode:
        old_name = _NO_FILE
    if not new_mode:
        new_name = _NO_FILE
    pair = read_pair(difference.old, difference.new, read)
    too_large = pair.is_binary and max(len(pair.old), len(pair.new)) > MAX_BINARY_BYTES
    mode = b" " + new_mode if old_mode == new_mode else b""
    if pair.omitted is not None or too_large:
        yield b"index %s..%s%s\n" % (_UNKNOWN_ID, _UNKNOWN_ID, mode)
        yield b"Binary files %s and %s differ\n" % (old_name, new_name)
        return
    yield b"index %s..%s%s\n" % (
        _content_id(pair.old) if old_mode else _NO_CONTENT_ID,
        _content_id(pair.new) if new_mode else _NO_CONTENT_ID,
        mode,
    )
    if pair.is_binary:
        yield from _binary_patch(pair)
    elif pair.old != pair.new:
        yield b"--- %s\n+++ %s\n" % (_end_of_name(old_name), _end_of_name(new_name))
        yield from _hunks(pair, context)


def _hunks(pair: ContentPair, context: int) -> Iterator[bytes]:
    for hunk in compare(pair.old, pair.new, context).hunks():
        yield b"@@ -%d,%d +%d,%d @@\n" % (
            hunk.old_start,
            hunk.old_lines,
            hunk.new_start,
            hunk.new_lines,
        )
        yield b"\n".join(hunk.lines)
        yield b"\n"


def _binary_patch(pair: ContentPair) -> Iterator[bytes]:
    """Yield the new content, and the old one for ``git apply --reverse``."""
    yield b"GIT binary patch\n"
    for content in (pair.new, pair.old):
        yield b"literal %d\n" % len(content)
        compressed = zlib.compress(content)
        for start in range(0, len(compressed), _BINARY_LINE_BYTES):
            line = compressed[start : start + _BINARY_LINE_BYTES]
            # A to Z for lengths of 1 to 26, a to z for 27 to 52.
            length = len(line) + (ord("A") - 1 if len(line) <= 26 else ord("a") - 27)
            yield b"%c%s\n" % (length, base64.b85encode(line, pad=True))
        yield b"\n"


def _content_id(content: bytes) -> bytes:
    """Return the id of a blob in git."""
    blob = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
    blob.update(content)
    return blob.hexdigest().encode()


def _quote(name: bytes) -> bytes:
    """Return a name with its prefix, in quotes if it has special characters."""
    if not _QUOTED.search(name) and _AMBIGUOUS not in name:
        return name
    return b'"%s"' % _QUOTED.sub(lambda match: _ESCAPES[match[0]], name)


def _end_of_name(name: bytes) -> bytes:
    """Return a name for ``---`` and ``+++``; a tab marks the end of one with spaces, as in git."""
    return name + b"\t" if b" " in name and not name.startswith(b'"') else name
