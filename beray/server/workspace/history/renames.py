"""Detection of renamed files, in bounded time and memory.

Files with the same digest are renamed, whatever their number. Other files are renamed if at least
half of their content is equal. As in git, the content is compared as a set of chunks: lines, or
parts of 64 bytes of longer lines. Deleted files that share rare chunks with an added file are
compared first, so that many files with similar content do not need to be compared in pairs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeGuard

from beray.server.workspace.history.contents import MAX_COMPARED_BYTES, ReadContent
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.errors import DamagedContent
from beray.server.workspace.history.reader import Change

MAX_CANDIDATES: Final = 1000
"""Maximum number of deleted files, and of added files, whose contents are compared. If there are
more, only files with the same digest are detected."""
MIN_SIMILARITY: Final = 50
"""Minimum percentage of equal content."""

_MAX_SIZE_FACTOR: Final = 2
_MAX_TOTAL_BYTES: Final = 64 * 1024 * 1024
_MAX_TOTAL_CHUNKS: Final = 500_000
"""Maximum number of different chunks of all files together, about 130 bytes each."""
_MAX_OPERATIONS: Final = 5_000_000
"""Number of compared chunks, about a second, after which only likely pairs are compared."""
_CHUNK_BYTES: Final = 64
_RARE: Final = 8
"""Maximum number of deleted files with the same chunk, if it is used to find similar files."""
_LIKELY: Final = 4
"""Number of deleted files that are compared first, of those with most rare chunks in common."""
_PATH_PARTS: Final = (3, 2, 1, 0)
"""Numbers of equal parts at the end of two paths: files with the same digest are matched in this
order."""


class Rename(NamedTuple):
    """Deleted and added file that are the same, with the percentage of equal content."""

    deleted: Change
    added: Change
    similarity: int


def find_renames(
    deleted: Sequence[Change], added: Sequence[Change], read: ReadContent
) -> list[Rename]:
    """Return the renamed files among deleted and added ones; each is used at most once.

    Args:
        deleted: Deleted files, in ascending order of their paths.
        added: Added files, in the same order.
        read: Returns the content of a file. Damaged files are not compared.
    """
    sources = [_File(change, change.old) for change in deleted if _is_candidate(change.old)]
    targets = [_File(change, change.new) for change in added if _is_candidate(change.new)]
    identical = _identical(sources, targets)
    found = [Rename(source.change, target.change, 100) for source, target in identical]
    matched = {file for pair in identical for file in pair}
    sources = [file for file in sources if file not in matched]
    targets = [file for file in targets if file not in matched]
    sources, targets = _of_similar_size(sources, targets), _of_similar_size(targets, sources)
    if 0 < len(sources) <= MAX_CANDIDATES and 0 < len(targets) <= MAX_CANDIDATES:
        found += _Comparison(sources, targets, read).renames()
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _File:
    change: Change
    entry: Entry

    @property
    def name(self) -> bytes:
        return self.change.path.rpartition(b"/")[2]


def _is_candidate(entry: Entry | None) -> TypeGuard[Entry]:
    """Return True for files that may be renamed: with stored content that is not empty."""
    return entry is not None and entry.kind == "file" and entry.size > 0 and entry.is_stored


def _identical(deleted: Sequence[_File], added: Sequence[_File]) -> list[tuple[_File, _File]]:
    """Return pairs with the same digest, those with the most similar paths first."""
    pairs = []
    for parts in _PATH_PARTS:
        sources: defaultdict[Hashable, list[_File]] = defaultdict(list)
        for file in reversed(deleted):
            sources[_identity(file, parts)].append(file)
        matched: set[_File] = set()
        for file in added:
            if candidates := sources.get(_identity(file, parts)):
                source = candidates.pop()
                matched.update((source, file))
                pairs.append((source, file))
        deleted = [file for file in deleted if file not in matched]
        added = [file for file in added if file not in matched]
    return pairs


def _identity(file: _File, parts: int) -> Hashable:
    return file.entry.digest, tuple(file.change.path.split(b"/")[-parts:]) if parts else ()


def _of_similar_size(files: Sequence[_File], others: Sequence[_File]) -> list[_File]:
    """Return the files for which there is another one of a similar size."""
    sizes = sorted(file.entry.size for file in others)
    found = []
    for file in files:
        size = file.entry.size
        index = bisect_left(sizes, -(-size // _MAX_SIZE_FACTOR))
        if (
            size <= MAX_COMPARED_BYTES
            and index < len(sizes)
            and sizes[index] <= size * _MAX_SIZE_FACTOR
        ):
            found.append(file)
    return found


class _Chunks:
    """Content of a file as a set of chunks: the number of bytes of each hash value."""

    def __init__(self, file: _File, content: bytes) -> None:
        self.file = file
        self.size = len(content)
        self.bytes: dict[int, int] = {}
        for chunk in _chunks(content):
            key = hash(chunk)
            self.bytes[key] = self.bytes.get(key, 0) + len(chunk)

    def is_similar_size(self, other: _Chunks) -> bool:
        smaller, larger = sorted((self.size, other.size))
        return larger <= smaller * _MAX_SIZE_FACTOR

    def similarity(self, other: _Chunks) -> int:
        """Return the percentage of equal content; less than 100, as the digests differ."""
        smaller, larger = sorted((self.bytes, other.bytes), key=len)
        common = sum(min(count, larger.get(key, 0)) for key, count in smaller.items())
        return min(99, common * 100 // max(self.size, other.size, 1))


def _chunks(content: bytes) -> Iterator[bytes]:
    lines = content.split(b"\n")
    last = lines.pop()
    for line in lines:
        if len(line) < _CHUNK_BYTES:
            yield line + b"\n"
        else:
            yield from _parts(line + b"\n")
    yield from _parts(last)


def _parts(line: bytes) -> Iterator[bytes]:
    for start in range(0, len(line), _CHUNK_BYTES):
        yield line[start : start + _CHUNK_BYTES]


class _Comparison:
    """Comparison of the contents of deleted and added files within limits."""

    def __init__(self, deleted: Sequence[_File], added: Sequence[_File], read: ReadContent) -> None:
        self._read = read
        self._bytes_left = _MAX_TOTAL_BYTES
        self._chunks_left = _MAX_TOTAL_CHUNKS
        self._operations_left = _MAX_OPERATIONS
        # Half of the limits for the deleted files, so that some of both are compared.
        self._deleted = self._read_chunks(deleted, _MAX_TOTAL_BYTES // 2, _MAX_TOTAL_CHUNKS // 2)
        self._added = self._read_chunks(added, 0, 0)

    def renames(self) -> list[Rename]:
        """Return pairs with sufficient similarity, the most similar first."""
        by_chunk = self._by_rare_chunk()
        by_name: defaultdict[bytes, list[int]] = defaultdict(list)
        for index, old in enumerate(self._deleted):
            by_name[old.file.name].append(index)

        scored: list[tuple[int, bool, int, int]] = []
        without: list[int] = []
        for number, new in enumerate(self._added):
            likely = self._most_common(new, by_chunk)
            likely += by_name.get(new.file.name, [])[:_LIKELY]
            found = self._compare(number, dict.fromkeys(likely))
            scored += found
            if not found:
                without.append(number)
        for number in without:
            if self._operations_left > 0:
                scored += self._compare(number, range(len(self._deleted)))
        scored.sort()

        renames = []
        used_old: set[int] = set()
        used_new: set[int] = set()
        for distance, _, index, number in scored:
            if index not in used_old and number not in used_new:
                used_old.add(index)
                used_new.add(number)
                source, target = self._deleted[index].file, self._added[number].file
                renames.append(Rename(source.change, target.change, 100 - distance))
        return renames

    def _read_chunks(
        self, files: Sequence[_File], reserved_bytes: int, reserved_chunks: int
    ) -> list[_Chunks]:
        """Read files until only the reserved part of the limits is left."""
        found = []
        for file in files:
            self._bytes_left -= file.entry.size
            if self._bytes_left < reserved_bytes or self._chunks_left < reserved_chunks:
                break
            try:
                content = self._read(file.entry)
            except DamagedContent:
                continue
            chunks = _Chunks(file, content)
            self._chunks_left -= len(chunks.bytes)
            found.append(chunks)
        return found

    def _by_rare_chunk(self) -> dict[int, list[int]]:
        """Return the indices of deleted files by the chunks that few of them have."""
        indices: dict[int, list[int]] = {}
        for index, old in enumerate(self._deleted):
            for key in old.bytes:
                indices.setdefault(key, []).append(index)
        return {key: found for key, found in indices.items() if len(found) <= _RARE}

    def _most_common(self, new: _Chunks, by_chunk: dict[int, list[int]]) -> list[int]:
        """Return the indices of the deleted files with most bytes of rare chunks in common."""
        common: Counter[int] = Counter()
        for key, count in new.bytes.items():
            for index in by_chunk.get(key, ()):
                common[index] += min(count, self._deleted[index].bytes[key])
        ranked = sorted(common.items(), key=lambda item: (-item[1], item[0]))
        return [index for index, _ in ranked[:_LIKELY]]

    def _compare(self, number: int, indices: Iterable[int]) -> list[tuple[int, bool, int, int]]:
        """Return sufficiently similar pairs; the best have the smallest values."""
        found = []
        new = self._added[number]
        for index in indices:
            old = self._deleted[index]
            self._operations_left -= 1
            if not old.is_similar_size(new):
                continue
            self._operations_left -= min(len(old.bytes), len(new.bytes))
            similarity = old.similarity(new)
            if similarity >= MIN_SIMILARITY:
                other_name = old.file.name != new.file.name
                found.append((100 - similarity, other_name, index, number))
        return found
