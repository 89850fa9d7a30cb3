"""Upload of a local directory to a work_dir: only new and changed files are sent.

Uploading a file creates the directories above it. Directories without files are created, and modes
of directories are set, by a request that published servers do not support; there, directories
without files are omitted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from beray.exceptions import APIError, InvalidArgument, NotFoundError
from beray.schema import FileItem, UploadedFile, size_of
from beray.transfers import digest, file_modes
from beray.transfers.local_tree import LocalEntryKind, walk_local_tree
from beray.transfers.path_patterns import matches
from beray.transfers.transfer import Transfer
from beray.transfers.wire_names import to_wire_name

_UNSUPPORTED_STATUSES: Final = frozenset({404, 405, 501})
_MISSING: Final = -1


@dataclass(frozen=True)
class UploadedFolder:
    """Result of the upload of a directory. All paths are relative to the work_dir and sorted.

    Attributes:
        uploaded: Files that were new or different.
        unchanged: Files that the work_dir already had, with the same content and mode.
        left_out: Directories without files, which the server cannot create.
    """

    uploaded: list[str]
    unchanged: list[str]
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class UploadDirectory:
    """Directory of an upload.

    Attributes:
        path: Path in the work_dir.
        mode: Permission bits; ``None`` on platforms without them.
    """

    path: str
    mode: int | None


@dataclass(frozen=True)
class _LocalFile:
    path: Path
    remote: str
    size: int
    mode: int | None


class _RemoteEntry(NamedTuple):
    """Entry of the work_dir. ``mode`` is ``None`` if the server does not support modes."""

    is_directory: bool
    size: int | None
    mode: int | None


class RemoteDirectory(Protocol):
    """Operations on a task's work_dir that ``upload_folder`` uses."""

    def tree(self, path: str) -> Iterable[FileItem]:
        """Return the entries below ``path``; raise NotFoundError if it does not exist."""
        ...

    def sha256(self, path: str) -> bytes | None:
        """Return the SHA-256 of a file; ``None`` if the server does not report it."""
        ...

    def upload(self, local: Path, path: str, transfer: Transfer) -> UploadedFile:
        """Upload a local file to ``path``."""
        ...

    def make_directory(self, path: str, mode: int | None) -> UploadedFile:
        """Create a directory, or set the mode of an existing one."""
        ...


def upload_folder(
    work_dir: RemoteDirectory,
    folder: str | os.PathLike[str],
    path: str = ".",
    *,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    transfer: Transfer | None = None,
) -> UploadedFolder:
    """Upload the files and directories of ``folder``, with their modes, to ``path``.

    A file is skipped if the work_dir has one with the same size, SHA-256 and mode. Links to
    directories and special files are omitted; nothing is deleted.

    Args:
        work_dir: The target.
        folder: Local directory.
        path: Path in the work_dir below which the files are put.
        include: Shell patterns of files to upload; ``None`` for all. A pattern with a ``/``
            matches the path below ``folder``, any other the name of a file or of a directory
            above it.
        exclude: Shell patterns of files to omit.
        transfer: Reports progress and cancels the upload.

    Raises:
        NotADirectoryError: ``folder`` is not a directory.
        OSError: A directory below it cannot be read.
        InvalidArgument: ``include`` or ``exclude`` is a string instead of a list, or ``path`` is
            absolute or contains ``..``.
        TransferCancelled: ``transfer`` was cancelled.
    """
    if isinstance(include, str) or isinstance(exclude, str):
        raise InvalidArgument("include and exclude must be lists of patterns, not strings")
    prefix = _remote_prefix(path)
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a directory")
    entries = list(_matching_entries(root, prefix, list(include or ("*",)), list(exclude)))
    files = [entry for entry in entries if isinstance(entry, _LocalFile)]
    directories = [entry for entry in entries if isinstance(entry, UploadDirectory)]
    handle = transfer or Transfer()
    handle.raise_if_cancelled()
    with handle.separating_cancel():
        existing = _existing_entries(work_dir, prefix)
        result = _upload_files(work_dir, files, existing, handle)
        left_out = create_directories(
            directories,
            [file.remote for file in files],
            work_dir.make_directory,
            lambda: existing or files or list(work_dir.tree(".")),
            {path: entry.mode for path, entry in existing.items() if entry.is_directory},
        )
    return replace(result, left_out=left_out)


def create_directories(
    directories: Iterable[UploadDirectory],
    files: Iterable[str],
    make_directory: Callable[[str, int | None], object],
    require_task: Callable[[], object],
    known: Mapping[str, int | None] | None = None,
) -> list[str]:
    """Create the directories of an upload, after its files have been uploaded.

    Args:
        directories: All directories of the upload.
        files: Paths of its files.
        make_directory: Creates a directory with a mode, or sets the mode of an existing one.
        require_task: Raises ``NotFoundError`` if the task does not exist.
        known: Modes of the directories that existed before, by path; a mode is ``None`` if the
            server does not support modes.

    Returns:
        Paths of the directories that the server cannot create, sorted.
    """
    existing = known or {}
    created = {parent for path in files for parent in _parents(path)}
    # Deepest first: nothing can be created in a read-only directory.
    pending = sorted(directories, key=lambda directory: directory.path, reverse=True)
    for number, directory in enumerate(pending):
        if directory.path in existing:
            mode = existing[directory.path]
        else:
            mode = file_modes.NEW_DIRECTORY if directory.path in created else _MISSING
        is_complete = mode is None or mode == directory.mode
        if is_complete or (directory.mode is None and mode != _MISSING):
            continue
        try:
            make_directory(directory.path, directory.mode)
        except APIError as error:
            if error.status_code not in _UNSUPPORTED_STATUSES:
                raise
            if isinstance(error, NotFoundError):
                require_task()
            return sorted(
                rest.path
                for rest in pending[number:]
                if rest.path not in created and rest.path not in existing
            )
        created.update(_parents(directory.path))
    return []


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _upload_files(
    work_dir: RemoteDirectory,
    files: list[_LocalFile],
    existing: dict[str, _RemoteEntry],
    transfer: Transfer,
) -> UploadedFolder:
    total = sum(file.size for file in files)
    transfer.advance(0, total)
    uploaded: list[str] = []
    unchanged: list[str] = []
    done = 0
    for file in files:
        if _may_be_unchanged(existing.get(file.remote), file) and _has_same_content(work_dir, file):
            unchanged.append(file.remote)
        else:
            work_dir.upload(file.path, file.remote, transfer.part(done, total))
            uploaded.append(file.remote)
        done += file.size
        transfer.advance(done, total)
    return UploadedFolder(uploaded, unchanged)


def _remote_prefix(path: str) -> str:
    """Return the prefix of all remote paths: "", or a path that ends with ``/``."""
    parts = [part for part in to_wire_name(path).split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts:
        raise InvalidArgument(
            f"{path!r} must be relative to the work_dir and must not contain '..'"
        )
    return "".join(f"{part}/" for part in parts)


def _matching_entries(
    root: Path, prefix: str, include: list[str], exclude: list[str]
) -> Iterator[_LocalFile | UploadDirectory]:
    for entry in walk_local_tree(root, is_excluded=lambda name: matches(name, exclude)):
        relative = entry.relative.as_posix()
        if not matches(relative, include) or matches(relative, exclude):
            continue
        remote = prefix + entry.remote
        if entry.kind is LocalEntryKind.DIRECTORY and remote:
            yield UploadDirectory(remote.rstrip("/"), file_modes.of_local_path(entry.path))
        elif entry.kind is LocalEntryKind.FILE:
            size, mode = entry.path.stat().st_size, file_modes.of_local_path(entry.path)
            yield _LocalFile(entry.path, remote, size, mode)


def _existing_entries(work_dir: RemoteDirectory, prefix: str) -> dict[str, _RemoteEntry]:
    """Return the entries below ``prefix`` by path; empty if it does not exist."""
    try:
        return {
            item["path"]: _RemoteEntry(
                item["type"] == "directory", size_of(item), file_modes.parse(item.get("mode"))
            )
            for item in work_dir.tree(prefix.rstrip("/") or ".")
            if "path" in item
        }
    except NotFoundError:
        return {}


def _may_be_unchanged(entry: _RemoteEntry | None, file: _LocalFile) -> bool:
    """Return True if the entry has the size of the file and, if both are known, its mode."""
    if entry is None or entry.is_directory or entry.size != file.size:
        return False
    return None in (entry.mode, file.mode) or entry.mode == file.mode


def _has_same_content(work_dir: RemoteDirectory, file: _LocalFile) -> bool:
    remote = work_dir.sha256(file.remote)
    if remote is None:
        return False
    with file.path.open("rb") as opened:
        return digest.sha256_of_file(opened) == remote
