"""Differences of files in the format of the API, and numbers of changed lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from beray.history_schema import DiffHunk, FileDiff
from beray.server.workspace.history.contents import ReadContent, is_compared, read_pair
from beray.server.workspace.history.differences import PathDifference, find_differences
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.line_diff import CONTEXT_LINES, LineHunk, compare
from beray.server.workspace.history.reader import Change
from beray.transfers import wire_names

_LINE_OVERHEAD_BYTES: Final = 4
"""Quotes, comma and space of a line in JSON."""


@dataclass(frozen=True, slots=True)
class DiffLimits:
    """Limits of one diff. Beyond them, files have no hunks, or are not listed.

    Attributes:
        files: Maximum number of listed files.
        hunk_bytes: Maximum size of all hunks.
        read_bytes: Maximum size of all contents that are compared.
    """

    files: int = 5000
    hunk_bytes: int = 8 * 1024 * 1024
    read_bytes: int = 256 * 1024 * 1024


class FileDiffs:
    """Differences of files between two states of a work_dir, in ascending order of their paths.

    Iterate once over an instance; the contents of one file at a time are in memory. The attributes
    are complete after the iteration.

    Attributes:
        lines_added: Number of added lines of all listed files.
        lines_deleted: Number of deleted lines of all listed files.
        truncated: True if there are more files than the limit.
    """

    def __init__(
        self,
        changes: Iterable[Change],
        read: ReadContent,
        *,
        context: int = CONTEXT_LINES,
        limits: DiffLimits | None = None,
    ) -> None:
        self.lines_added = 0
        self.lines_deleted = 0
        self.truncated = False
        self._changes = changes
        self._read = read
        self._context = context
        self._limits = limits or DiffLimits()
        self._hunk_bytes_left = self._limits.hunk_bytes
        self._read_bytes_left = self._limits.read_bytes

    def __iter__(self) -> Iterator[FileDiff]:
        for number, difference in enumerate(find_differences(self._changes, self._read)):
            if number == self._limits.files:
                self.truncated = True
                return
            yield self._file_diff(difference)

    def _file_diff(self, difference: PathDifference) -> FileDiff:
        diff: FileDiff = {
            "path": wire_names.encode(difference.path),
            "change": difference.change,
        }
        if difference.change == "renamed":
            diff["old_path"] = wire_names.encode(difference.old_path)
            diff["similarity"] = difference.similarity
        if difference.old is not None:
            diff["old"] = difference.old.to_wire()
        if difference.new is not None:
            diff["new"] = difference.new.to_wire()
        self._add_content(diff, difference)
        return diff

    def _add_content(self, diff: FileDiff, difference: PathDifference) -> None:
        if is_compared(difference.old, difference.new):
            size = _compared_bytes(difference)
            if size > self._read_bytes_left:
                diff["omitted"] = _beyond("contents", self._limits.read_bytes)
                return
            self._read_bytes_left -= size
        pair = read_pair(difference.old, difference.new, self._read)
        if pair.omitted is not None:
            diff["omitted"] = pair.omitted
            return
        if pair.is_binary:
            diff["binary"] = True
            return
        lines = compare(pair.old, pair.new, self._context)
        diff["lines_added"] = lines.added
        diff["lines_deleted"] = lines.deleted
        self.lines_added += lines.added
        self.lines_deleted += lines.deleted
        hunks: list[DiffHunk] = []
        size = 0
        for hunk in lines.hunks():
            size += sum(len(line) + _LINE_OVERHEAD_BYTES for line in hunk.lines)
            if size > self._hunk_bytes_left:
                diff["omitted"] = _beyond("differences", self._limits.hunk_bytes)
                return
            hunks.append(_wire_hunk(hunk))
        self._hunk_bytes_left -= size
        diff["hunks"] = hunks


def count_changed_lines(
    changes: Iterable[Change], read: ReadContent, *, max_bytes: int
) -> tuple[int, int] | None:
    """Return the numbers of added and deleted lines; None if there is too much to read.

    Files whose content is binary, not stored, damaged or too large do not contribute.

    Args:
        changes: Changed paths.
        read: Returns the content of a file.
        max_bytes: Maximum size of all contents that are read.
    """
    bounded = _BoundedReader(read, max_bytes)
    added = deleted = 0
    try:
        for difference in find_differences(changes, bounded.read):
            pair = read_pair(difference.old, difference.new, bounded.read)
            if pair.omitted is None and not pair.is_binary:
                lines = compare(pair.old, pair.new)
                added += lines.added
                deleted += lines.deleted
    except _TooMuchContent:
        return None
    return added, deleted


class _TooMuchContent(Exception):
    """The contents are larger than a limit."""


class _BoundedReader:
    """Contents up to a total size, each of which is read once."""

    def __init__(self, read: ReadContent, max_bytes: int) -> None:
        self._read = read
        self._bytes_left = max_bytes
        self._contents: dict[bytes, bytes] = {}

    def read(self, entry: Entry) -> bytes:
        if entry.digest not in self._contents:
            self._bytes_left -= entry.size
            if self._bytes_left < 0:
                raise _TooMuchContent
            self._contents[entry.digest] = self._read(entry)
        return self._contents[entry.digest]


def _compared_bytes(difference: PathDifference) -> int:
    return sum(entry.size for entry in (difference.old, difference.new) if entry is not None)


def _beyond(what: str, limit: int) -> str:
    return f"limit of {limit:,} bytes for the {what} of all files reached"


def _wire_hunk(hunk: LineHunk) -> DiffHunk:
    return {
        "old_start": hunk.old_start,
        "old_lines": hunk.old_lines,
        "new_start": hunk.new_start,
        "new_lines": hunk.new_lines,
        "lines": [line.decode("utf-8", "replace") for line in hunk.lines],
    }
