"""Whole folders into a work_dir: only what changed goes over the wire."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from beray import digests
from beray.exceptions import InvalidArgument, NotFoundError
from beray.files import Transfer
from beray.local_names import on_wire
from beray.schema import FileItem, UploadedFile, size_of
from beray.wire_names import accepted


@dataclass(frozen=True)
class UploadedFolder:
    """What an upload of a folder did: paths in the work_dir, sorted.

    Attributes:
        uploaded: what was new or different.
        unchanged: what the work_dir had already, byte for byte.
    """

    uploaded: list[str]
    unchanged: list[str]


@dataclass(frozen=True)
class _LocalFile:
    path: Path
    remote: str
    size: int


class WorkDir(Protocol):
    """What this module needs of a task's files."""

    def tree(self, path: str) -> Iterable[FileItem]: ...
    def sha256(self, path: str) -> bytes | None: ...
    def upload(self, local: Path, path: str, transfer: Transfer) -> UploadedFile: ...


def upload(
    work_dir: WorkDir,
    folder: str | os.PathLike[str],
    path: str = ".",
    *,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    transfer: Transfer | None = None,
) -> UploadedFolder:
    """Put the files of a local folder below ``path`` of a work_dir.

    A file is left alone where the work_dir has one of the same size and SHA-256. Links
    to folders, and what is neither file nor folder, are left out; nothing is deleted.

    Args:
        include, exclude: patterns as of a shell. One with a ``/`` in it is about the path
            below the folder, any other about the name of a file or of a folder above it.

    Raises:
        NotADirectoryError: ``folder`` is none.
        OSError: a folder below it cannot be read.
        InvalidArgument: ``include`` or ``exclude`` is a single string, or ``path`` is
            absolute or has a ``..`` in it.
        TransferCancelled: through ``transfer``.
    """
    if isinstance(include, str) or isinstance(exclude, str):
        raise InvalidArgument("include and exclude are lists of patterns, not a single one")
    prefix = _prefix(path)
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder")
    chosen = list(_chosen(root, prefix, list(include or ("*",)), list(exclude)))
    handle = transfer or Transfer()
    handle.wait(0)
    with handle.told_apart():
        return _sent(work_dir, chosen, _sizes(work_dir, prefix), handle)


def _sent(
    work_dir: WorkDir, chosen: list[_LocalFile], there: dict[str, int | None], transfer: Transfer
) -> UploadedFolder:
    total = sum(file.size for file in chosen)
    transfer.advance(0, total)
    uploaded: list[str] = []
    unchanged: list[str] = []
    done = 0
    for file in chosen:
        if there.get(file.remote) == file.size and _same(work_dir, file):
            unchanged.append(file.remote)
        else:
            work_dir.upload(file.path, file.remote, transfer.part(done, total))
            uploaded.append(file.remote)
        done += file.size
        transfer.advance(done, total)
    return UploadedFolder(uploaded, unchanged)


def _prefix(path: str) -> str:
    """What comes before the names below ``path``: empty, or with a ``/`` at its end."""
    parts = [part for part in accepted(path).split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts:
        raise InvalidArgument(f"{path!r} is not below the work_dir")
    return "".join(f"{part}/" for part in parts)


def _chosen(
    root: Path, prefix: str, include: list[str], exclude: list[str]
) -> Iterator[_LocalFile]:
    for folder, names, files in os.walk(root, onerror=_raise):
        # What is excluded by its name need not be readable either.
        names[:] = sorted(name for name in names if not _matches(name, exclude))
        for name in sorted(files):
            local = Path(folder, name)
            relative = local.relative_to(root).as_posix()
            wanted = _matches(relative, include) and not _matches(relative, exclude)
            if wanted and local.is_file():
                yield _LocalFile(local, prefix + on_wire(relative), local.stat().st_size)


def _raise(error: OSError) -> None:
    raise error


def _matches(relative: str, patterns: list[str]) -> bool:
    parts = relative.split("/")
    return any(
        fnmatchcase(relative, pattern)
        if "/" in pattern
        else any(fnmatchcase(part, pattern) for part in parts)
        for pattern in patterns
    )


def _sizes(work_dir: WorkDir, prefix: str) -> dict[str, int | None]:
    """The sizes of the files that are there; of none where the folder is not."""
    try:
        return {
            item["path"]: size_of(item)
            for item in work_dir.tree(prefix.rstrip("/") or ".")
            if item["type"] == "file" and "path" in item
        }
    except NotFoundError:
        return {}


def _same(work_dir: WorkDir, file: _LocalFile) -> bool:
    there = work_dir.sha256(file.remote)
    if there is None:
        return False
    with file.path.open("rb") as opened:
        return digests.of_file(opened) == there
