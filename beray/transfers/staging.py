"""A staging folder beside a target, and the move of what is in it into place.

What is moved is moved whole or not at all: every step has one that undoes it, taken
down before the step itself, because an interrupt may come between any two.
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
from typing import Final

from beray.exceptions import TransferError
from beray.transfers import file_modes
from beray.transfers.archive_members import Member
from beray.transfers.download import refuse_existing, rename_new, replaced_mode, stem
from beray.transfers.transfer import Transfer

_JUNCTION: Final = 0xA0000003  # what Windows calls a mount point; os.lstat says "folder"


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """What the disk refuses, as an error that names the place."""
    try:
        yield
    except OSError as error:
        raise TransferError(f"{place}: {error.strerror or error}") from error


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """An empty folder on the file system of ``target``, gone in the end.

    Files that are moved into a folder ``old`` next to it are deleted in the end only if
    all went well: else they are all there is of somebody's files, and stay.
    """
    steps: list[Callable[[], None]] = []
    # A folder that is there may be a file system of its own.
    parent = target if os.path.isdir(target) else target.parent
    with writing(target):
        try:
            for place in reversed((parent, *parent.parents)):
                if not os.path.isdir(place):
                    _make(place, steps)
            folder = Path(
                tempfile.mkdtemp(prefix=f".{stem(target.name)}.", suffix=".part", dir=parent)
            )
        except BaseException:
            _undo(steps)
            raise
    try:
        fresh = folder / "new"
        with writing(fresh):
            fresh.mkdir()
        yield fresh
    except BaseException:
        shutil.rmtree(folder / "new", ignore_errors=True)
        _remove_empty(folder)
        _undo(steps)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _remove_empty(folder: Path) -> None:
    """Remove the empty folders from ``folder`` on downwards, and never a file."""
    for place, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):
            os.rmdir(place)


# Into place


def move(
    fresh: Path, target: Path, members: list[Member], transfer: Transfer, *, overwrite: bool
) -> None:
    """Move what was unpacked into place, in one step where nothing is there yet."""
    if not os.path.lexists(target):
        try:
            fresh.rename(target)
            return
        except OSError as error:
            if not os.path.isdir(target):
                raise TransferError(f"{target}: {error.strerror or error}") from error
    aside = fresh.with_name("old")
    steps: list[Callable[[], None]] = []
    usable = {target}
    place = target
    try:
        for member in sorted(members, key=lambda member: member.path):
            transfer.wait(0)
            place = target / member.path
            _make_folders(place if member.is_folder else place.parent, usable, steps)
            if not member.is_folder:
                kept = aside / member.path if overwrite else None
                if kept is not None and member.mode is None:
                    _keep_mode(fresh / member.path, place)
                _place(fresh / member.path, place, kept, steps)
    except BaseException as error:
        lost = _undo(steps)
        _remove_empty(aside)
        told = "could not be put back: " + ", ".join(lost) if lost else "nothing was changed"
        if os.path.lexists(aside):
            told += f"; the originals are kept in {aside}"
        if isinstance(error, FileExistsError) and not overwrite and not lost:
            raise
        if isinstance(error, OSError):
            where = place if error.filename2 else error.filename or place
            raise TransferError(f"{where}: {error.strerror or error}; {told}") from error
        if lost:
            error.add_note(told)
        raise


def _place(source: Path, place: Path, kept: Path | None, steps: list[Callable[[], None]]) -> None:
    """Move a file to its place; what is there goes to ``kept``, or is refused without one."""
    try:
        there = place.lstat()
    except FileNotFoundError:
        there = None
    if there is not None and stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder is in the way", str(place))
    if there is not None and kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        steps.append(lambda: _restore(kept, place))
        place.rename(kept)
    ours = _identity(source)
    steps.append(lambda: _withdraw(place, ours))
    if kept is None:
        rename_new(source, place)
    else:
        source.rename(place)


def _keep_mode(source: Path, place: Path) -> None:
    """Give a file the mode of the one that it is going to replace, if there is one."""
    if os.name == "posix":
        mode = source.lstat().st_mode & file_modes.BITS
        if (kept := replaced_mode(place, mode)) != mode:
            source.chmod(kept)


def _make_folders(folder: Path, usable: set[Path], steps: list[Callable[[], None]]) -> None:
    """Make what is missing of the folders down to ``folder``; links are not followed."""
    missing: list[Path] = []
    while folder not in usable:
        missing.append(folder)
        folder = folder.parent
    for place in reversed(missing):
        try:
            there = place.lstat()
        except FileNotFoundError:
            _make(place, steps)
        else:
            is_junction = getattr(there, "st_reparse_tag", 0) == _JUNCTION
            if is_junction or stat.S_ISLNK(there.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "is a link, not a folder", str(place))
            if not stat.S_ISDIR(there.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "is not a folder", str(place))
        usable.add(place)


def _make(folder: Path, steps: list[Callable[[], None]]) -> None:
    steps.append(lambda: _remove_folder(folder))
    try:
        folder.mkdir()
    except FileExistsError:
        steps.pop()
        raise


# Undoing. Every step can be undone whether or not it came to be done.


def _undo(steps: list[Callable[[], None]]) -> list[str]:
    """Undo all that can be; says what could not."""
    failed: list[str] = []
    for step in reversed(steps):
        try:
            step()
        except (OSError, KeyboardInterrupt) as error:
            failed.append(str(error) or "interrupted")
    return failed


def _restore(kept: Path, place: Path) -> None:
    if os.path.lexists(kept):
        refuse_existing(place, overwrite=False)
        kept.rename(place)


def _withdraw(place: Path, ours: tuple[int, int]) -> None:
    if os.path.lexists(place) and _identity(place) == ours:
        place.unlink()


def _remove_folder(folder: Path) -> None:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
