"""Whole folders into a work_dir: only what changed goes over the wire."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple, Protocol

from beray.exceptions import InvalidArgument, NotFoundError
from beray.schema import FileItem, UploadedFile, size_of
from beray.transfers import digest, directories, file_modes
from beray.transfers.directories import Directory
from beray.transfers.local_names import on_wire
from beray.transfers.transfer import Transfer
from beray.transfers.wire_names import accepted


@dataclass(frozen=True)
class UploadedFolder:
    """What an upload of a folder did: paths in the work_dir, sorted.

    Attributes:
        uploaded: what was new or different.
        unchanged: what the work_dir had already, byte for byte and with the same mode.
        left_out: directories without files, which the server cannot create.
    """

    uploaded: list[str]
    unchanged: list[str]
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _LocalFile:
    path: Path
    remote: str
    size: int
    mode: int | None


class _Remote(NamedTuple):
    """An entry of the work_dir. ``mode`` is ``None`` if the server has no modes."""

    is_folder: bool
    size: int | None
    mode: int | None


class WorkDir(Protocol):
    """What this module needs of a task's files."""

    def tree(self, path: str) -> Iterable[FileItem]: ...
    def sha256(self, path: str) -> bytes | None: ...
    def upload(self, local: Path, path: str, transfer: Transfer) -> UploadedFile: ...
    def make_directory(self, path: str, mode: int | None) -> UploadedFile: ...


def upload(
    work_dir: WorkDir,
    folder: str | os.PathLike[str],
    path: str = ".",
    *,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    transfer: Transfer | None = None,
) -> UploadedFolder:
    """Put the files and folders of a local folder below ``path`` of a work_dir, with their modes.

    A file is left alone where the work_dir has one of the same size, SHA-256 and mode. Links
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
    found = list(_chosen(root, prefix, list(include or ("*",)), list(exclude)))
    chosen = [one for one in found if isinstance(one, _LocalFile)]
    wanted = [one for one in found if isinstance(one, Directory)]
    handle = transfer or Transfer()
    handle.wait(0)
    with handle.told_apart():
        there = _there(work_dir, prefix)
        result = _sent(work_dir, chosen, there, handle)
        left_out = directories.create(
            wanted,
            [file.remote for file in chosen],
            work_dir.make_directory,
            lambda: there or chosen or list(work_dir.tree(".")),
            {path: one.mode for path, one in there.items() if one.is_folder},
        )
    return replace(result, left_out=left_out)


def _sent(
    work_dir: WorkDir, chosen: list[_LocalFile], there: dict[str, _Remote], transfer: Transfer
) -> UploadedFolder:
    total = sum(file.size for file in chosen)
    transfer.advance(0, total)
    uploaded: list[str] = []
    unchanged: list[str] = []
    done = 0
    for file in chosen:
        if _looks_same(there.get(file.remote), file) and _same(work_dir, file):
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
) -> Iterator[_LocalFile | Directory]:
    for folder, names, files in os.walk(root, onerror=_raise):
        # What is excluded by its name need not be readable either.
        names[:] = sorted(name for name in names if not _matches(name, exclude))
        below = Path(folder).relative_to(root).as_posix()
        remote = prefix.rstrip("/") if below == "." else prefix + on_wire(below)
        if remote and _matches(below, include) and not _matches(below, exclude):
            yield Directory(remote, file_modes.local(folder))
        for name in sorted(files):
            local = Path(folder, name)
            relative = local.relative_to(root).as_posix()
            wanted = _matches(relative, include) and not _matches(relative, exclude)
            if wanted and local.is_file():
                size, mode = local.stat().st_size, file_modes.local(local)
                yield _LocalFile(local, prefix + on_wire(relative), size, mode)


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


def _there(work_dir: WorkDir, prefix: str) -> dict[str, _Remote]:
    """Return what is below the folder, by path; nothing if the folder does not exist."""
    try:
        return {
            item["path"]: _Remote(
                item["type"] == "directory", size_of(item), file_modes.parsed(item.get("mode"))
            )
            for item in work_dir.tree(prefix.rstrip("/") or ".")
            if "path" in item
        }
    except NotFoundError:
        return {}


def _looks_same(there: _Remote | None, file: _LocalFile) -> bool:
    """Return whether a listing has the file with its size and mode; not all servers have modes."""
    if there is None or there.is_folder or there.size != file.size:
        return False
    return None in (there.mode, file.mode) or there.mode == file.mode


def _same(work_dir: WorkDir, file: _LocalFile) -> bool:
    there = work_dir.sha256(file.remote)
    if there is None:
        return False
    with file.path.open("rb") as opened:
        return digest.of_file(opened) == there
