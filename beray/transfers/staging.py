"""Staging directories, and the move of their content into place: all of it, or nothing.

Every step of the move has an undo step, which is recorded before the step itself, because an
interrupt may occur between any two of them.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from beray.exceptions import TransferError
from beray.transfers import file_modes
from beray.transfers.archive_members import ArchiveMember
from beray.transfers.local_files import (
    is_link,
    mode_to_keep,
    rename_without_replacing,
    require_absent,
    short_stem,
)
from beray.transfers.transfer import Transfer

UndoSteps = list[Callable[[], None]]
"""Functions that undo what was done, in the order in which it was done.

Each works whether or not its step was completed.
"""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Convert ``OSError`` to ``TransferError`` with ``path``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise TransferError(f"{path}: {reason}", reason=reason) from error


@contextmanager
def staging_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory on the file system of ``target``, and delete it at the end.

    ``move_into_place`` moves replaced files into a sibling directory ``old``. It is deleted only
    after success: otherwise it may contain the only copy of the user's files.

    Raises:
        TransferError: The directory cannot be created.
    """
    undo: UndoSteps = []
    # An existing target may be the root of a file system of its own.
    parent = target if _is_directory(target) else target.parent
    with disk_errors(target):
        try:
            for directory in reversed((parent, *parent.parents)):
                if not _is_directory(directory):
                    _create_directory(directory, undo)
            root = Path(
                tempfile.mkdtemp(prefix=f".{short_stem(target.name)}.", suffix=".part", dir=parent)
            )
        except BaseException:
            undo_all(undo)
            raise
    try:
        staging = root / "new"
        with disk_errors(staging):
            staging.mkdir()
        yield staging
    except BaseException:
        shutil.rmtree(root / "new", ignore_errors=True)
        _remove_empty_directories(root)
        undo_all(undo)
        raise
    shutil.rmtree(root, ignore_errors=True)


def _is_directory(path: Path) -> bool:
    # Path.is_dir raises PermissionError below an inaccessible directory; this returns False.
    return os.path.isdir(path)  # noqa: PTH112


def _remove_empty_directories(root: Path) -> None:
    """Remove ``root`` and the directories below it, except those that contain files."""
    for directory, _, _ in os.walk(root, topdown=False):
        with suppress(OSError):
            Path(directory).rmdir()


def move_into_place(
    staging: Path,
    target: Path,
    members: list[ArchiveMember],
    transfer: Transfer,
    *,
    overwrite: bool,
) -> None:
    """Move extracted members from a staging directory to ``target``.

    If ``target`` does not exist, this is a single rename.

    Args:
        staging: Directory of ``staging_directory`` that contains the members.
        target: Target directory.
        members: The members.
        transfer: Cancels the move.
        overwrite: Replace existing files.

    Raises:
        FileExistsError: ``overwrite`` is False and a file exists.
        TransferError: The move failed. Everything was undone, or the message names the directory
            that contains the original files.
        TransferCancelled: ``transfer`` was cancelled.
    """
    if not os.path.lexists(target):
        try:
            staging.rename(target)
            return
        except OSError as error:
            if not _is_directory(target):
                reason = error.strerror or str(error)
                raise TransferError(f"{target}: {reason}", reason=reason) from error
    originals = staging.with_name("old")
    undo: UndoSteps = []
    usable = {target}
    path = target
    try:
        for member in sorted(members, key=lambda member: member.path):
            transfer.raise_if_cancelled()
            path = target / member.path
            create_directories(path if member.is_directory else path.parent, usable, undo)
            if not member.is_directory:
                backup = originals / member.path if overwrite else None
                if backup is not None and member.mode is None:
                    _copy_mode_of_replaced_file(staging / member.path, path)
                _move_file(staging / member.path, path, backup, undo)
    except BaseException as error:
        failed, result = roll_back(undo, originals)
        if isinstance(error, FileExistsError) and not overwrite and not failed:
            raise
        if isinstance(error, OSError):
            where = path if error.filename2 else error.filename or path
            reason = f"{error.strerror or error}; {result}"
            raise TransferError(f"{where}: {reason}", reason=reason) from error
        if failed:
            error.add_note(result)
        raise


def _move_file(source: Path, target: Path, backup: Path | None, undo: UndoSteps) -> None:
    """Move a file. An existing file is moved to ``backup``; without one, it is an error."""
    try:
        existing = target.lstat()
    except FileNotFoundError:
        existing = None
    if existing is not None and stat.S_ISDIR(existing.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a directory with this name exists", str(target))
    if existing is not None and backup is not None:
        backup.parent.mkdir(parents=True, exist_ok=True)
        undo.append(lambda: _restore(backup, target))
        target.rename(backup)
    identity = _identity(source)
    undo.append(lambda: _remove_moved_file(target, identity))
    if backup is None:
        rename_without_replacing(source, target)
    else:
        source.rename(target)


def _copy_mode_of_replaced_file(source: Path, target: Path) -> None:
    """Give a file the permission bits of the one that it will replace, if there is one."""
    if os.name == "posix":
        mode = source.lstat().st_mode & file_modes.BITS
        if (replaced := mode_to_keep(target, mode)) != mode:
            source.chmod(replaced)


def create_directories(directory: Path, usable: set[Path], undo: UndoSteps) -> None:
    """Create the missing directories down to ``directory``, without following links.

    Args:
        directory: The directory.
        usable: Directories that are known to exist; the others are added.
        undo: Receives the undo steps.
    """
    unknown: list[Path] = []
    while directory not in usable:
        unknown.append(directory)
        directory = directory.parent
    for path in reversed(unknown):
        try:
            found = path.lstat()
        except FileNotFoundError:
            _create_directory(path, undo)
        else:
            if is_link(found):
                raise NotADirectoryError(errno.ENOTDIR, "is a link, not a directory", str(path))
            if not stat.S_ISDIR(found.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "is not a directory", str(path))
        usable.add(path)


def _create_directory(directory: Path, undo: UndoSteps) -> None:
    undo.append(lambda: _remove_directory(directory))
    try:
        directory.mkdir()
    except FileExistsError:
        undo.pop()
        raise


def roll_back(undo: UndoSteps, originals: Path) -> tuple[list[str], str]:
    """Undo a move that failed.

    Args:
        undo: Undo steps.
        originals: Directory of the replaced files; it is removed if it is empty.

    Returns:
        Errors of the steps that failed, and the result as a part of a message.
    """
    failed = undo_all(undo)
    _remove_empty_directories(originals)
    result = "could not be restored: " + ", ".join(failed) if failed else "nothing was changed"
    if os.path.lexists(originals):
        result += f"; the originals are kept in {originals}"
    return failed, result


def undo_all(undo: UndoSteps) -> list[str]:
    """Run all undo steps; return the errors of those that failed."""
    errors: list[str] = []
    for step in reversed(undo):
        try:
            step()
        except (OSError, KeyboardInterrupt) as error:
            errors.append(str(error) or "interrupted")
    return errors


def _restore(backup: Path, target: Path) -> None:
    if os.path.lexists(backup):
        require_absent(target, overwrite=False)
        backup.rename(target)


def _remove_moved_file(target: Path, identity: tuple[int, int]) -> None:
    if os.path.lexists(target) and _identity(target) == identity:
        target.unlink()


def _remove_directory(directory: Path) -> None:
    with suppress(FileNotFoundError):
        directory.rmdir()


def _identity(path: Path) -> tuple[int, int]:
    """Return device and inode of a file."""
    found = path.lstat()
    return found.st_dev, found.st_ino
