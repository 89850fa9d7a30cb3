"""Diffs with more files than the server lists in one response."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from beray.client import BeRayClient
from beray.exceptions import InvalidResponseError, NotFoundError
from beray.history_schema import Diff, FileDiff

_MAX_PATHS: Final = 1000
_MAX_QUERY_CHARACTERS: Final = 24 * 1024
"""Maximum length of the paths of a request in its URL; servers limit it to 64 KiB."""


def whole_diff(
    client: BeRayClient,
    task_id: int,
    *,
    from_: int | str | None = None,
    to: int | str | None = None,
    paths: Sequence[str] = (),
) -> Diff:
    """Return the same as ``BeRayClient.diff``, with all files.

    If the response of the server is truncated, the entries of the work_dir are compared in parts. A
    file that was moved from one part to another is then a deletion and an addition.

    Raises:
        BeRayException: As for ``BeRayClient.diff``.
    """
    found = client.diff(task_id, from_=from_, to=to, paths=paths)
    if found.get("truncated"):
        parts = _Parts(client, task_id, found["from"]["checkpoint"], found["to"]["checkpoint"])
        files = list(parts.split(paths or ["."], found["files"]))
        found["files"] = sorted(files, key=lambda file: (file["path"], file.get("old") is None))
        found["lines_added"] = sum(file.get("lines_added", 0) for file in files)
        found["lines_deleted"] = sum(file.get("lines_deleted", 0) for file in files)
        del found["truncated"]
    return found


@dataclass(frozen=True)
class _Parts:
    client: BeRayClient
    task_id: int
    from_: str
    to: str

    def split(self, paths: Sequence[str], truncated: Iterable[FileDiff]) -> Iterator[FileDiff]:
        """Yield the differences of paths whose diff is truncated."""
        if len(paths) > 1:
            middle = len(paths) // 2
            for part in (paths[:middle], paths[middle:]):
                yield from self._diff(part)
            return
        [path] = paths
        entries = sorted(self._entries(path, self.from_) | self._entries(path, self.to))
        if not entries:
            raise InvalidResponseError(f"the diff of the file {path!r} is truncated", body="")
        # The change of the directory itself.
        yield from (file for file in truncated if file["path"] == path)
        for group in _groups(entries):
            yield from self._diff(group)

    def _diff(self, paths: Sequence[str]) -> Iterator[FileDiff]:
        found = self.client.diff(self.task_id, from_=self.from_, to=self.to, paths=paths)
        if found.get("truncated"):
            return self.split(paths, found["files"])
        return iter(found["files"])

    def _entries(self, path: str, checkpoint: str) -> set[str]:
        try:
            items = self.client.iter_files(self.task_id, path, depth=1, at=checkpoint)
            return {item["path"] for item in items}
        except NotFoundError:
            return set()


def _groups(paths: Iterable[str]) -> Iterator[list[str]]:
    group: list[str] = []
    length = 0
    for path in paths:
        size = len(urlencode({"path": path})) + 1
        if group and (len(group) == _MAX_PATHS or length + size > _MAX_QUERY_CHARACTERS):
            yield group
            group, length = [], 0
        group.append(path)
        length += size
    if group:
        yield group
