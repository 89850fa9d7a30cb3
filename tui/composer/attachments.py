"""Inspection of the local files and directories that are attached to a goal or a message.

A file or directory gets the same name in the work_dir. As with ``beray run --file``, links to
directories and special files are skipped.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from beray.exceptions import ConfigurationError
from beray.transfers.local_names import on_wire
from beray.transfers.local_tree import LocalEntry, LocalEntryKind, walk_local_tree


@dataclass(frozen=True)
class Attachment:
    """Local file or directory at the time of its inspection.

    Attributes:
        path: Local path.
        name: Name in the work_dir. Empty for the root of a file system, whose entries are
            placed directly in the work_dir.
        is_dir: Whether it is a directory.
        files: Number of files in the directory; 1 for a file.
        size: Total size of the files, in bytes.
        left_out: Number of links to directories and special files that are skipped.
        problem: Reason why it cannot be sent, or "".
    """

    path: Path
    name: str
    is_dir: bool = False
    files: int = 0
    size: int = 0
    left_out: int = 0
    problem: str = ""


def add_attachments(
    existing: tuple[Path, ...], paths: Sequence[Path]
) -> tuple[tuple[Path, ...], str]:
    """Return the attachments with ``paths`` added, and an error message or "".

    Attachments must have different names in the work_dir. A path whose name is in use is not
    added.
    """
    problem = ""
    for path in paths:
        if any(path.name == other.name for other in existing):
            problem = f"An attachment named {path.name} exists already."
        else:
            existing = (*existing, path)
    return existing, problem


def inspect_attachment(
    path: Path, check_cancelled: Callable[[], object] = lambda: None
) -> Attachment:
    """Inspect a local file or directory. Blocks while the whole tree is read.

    Args:
        path: The file or directory.
        check_cancelled: Called before each directory; it may raise to end the inspection.
    """
    name = on_wire(path.name)
    try:
        if path.is_dir():
            files = size = left_out = 0
            for _, file_size in _walk_files(path, check_cancelled):
                if file_size is None:
                    left_out += 1
                    continue
                files, size = files + 1, size + file_size
            return Attachment(path, name, True, files, size, left_out)
        if path.is_file():
            if not os.access(path, os.R_OK):
                return Attachment(path, name, problem="not readable")
            return Attachment(path, name, False, 1, path.stat().st_size)
        exists = path.is_symlink() or path.exists()
        problem = "neither a file nor a folder" if exists else "no such file or folder"
        return Attachment(path, name, problem=problem)
    except OSError as error:
        where = f"{error.filename}: " if error.filename and error.filename != str(path) else ""
        return Attachment(path, name, problem=f"{where}{error.strerror or type(error).__name__}")


def inspect_attachments(
    paths: Sequence[Path], check_cancelled: Callable[[], object] = lambda: None
) -> list[Attachment]:
    """Inspect all files and directories to be sent.

    Args:
        paths: The files and directories.
        check_cancelled: Called before each directory; it may raise to end the inspection.

    Raises:
        ConfigurationError: One of them cannot be sent, or two have the same name.
    """
    found: dict[str, Attachment] = {}
    for path in paths:
        attachment = inspect_attachment(path, check_cancelled)
        if attachment.problem:
            raise ConfigurationError(f"{path}: {attachment.problem}")
        other = found.get(attachment.name)
        if other is not None:
            raise ConfigurationError(
                f"{other.path} and {path} have the same name; attach only one of them"
            )
        found[attachment.name] = attachment
    return list(found.values())


def work_dir_paths(attachment: Attachment) -> Iterator[str]:
    """Yield the paths in the work_dir of all files of an attachment."""
    if not attachment.is_dir:
        yield attachment.name
        return
    for file, size in _walk_files(attachment.path, lambda: None):
        if size is not None:
            yield f"{attachment.name}/{file.remote}".lstrip("/")


def _walk_files(
    directory: Path, check_cancelled: Callable[[], object]
) -> Iterator[tuple[LocalEntry, int | None]]:
    """Yield the files below ``directory`` with their sizes; ``None`` for skipped entries."""
    for entry in walk_local_tree(directory):
        if entry.kind is LocalEntryKind.DIRECTORY:
            check_cancelled()
        elif entry.kind is not LocalEntryKind.FILE:
            yield entry, None
        elif os.access(entry.path, os.R_OK):
            yield entry, entry.path.stat().st_size
        else:
            raise PermissionError(errno.EACCES, "not readable", str(entry.path))
