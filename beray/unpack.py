"""A ZIP of a work_dir into a local folder: all of it, or nothing.

The archive comes from outside. Whatever could reach beyond the folder, or become
something else than a plain file there, refuses the whole of it before a byte is written.

Source: PKWARE APPNOTE 6.3.10, 4.4; Microsoft, "Naming Files, Paths, and Namespaces".
"""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, Final

from beray.exceptions import TransferError
from beray.files import BLOCK_BYTES, Transfer, write_all
from beray.members import Member, checked
from beray.partial import current_umask, refuse_existing, rename_new, stem

MAX_BYTES: Final = 16 * 1024**3
"""How much an archive may unpack to, unless said otherwise."""
_JUNCTION: Final = 0xA0000003  # what Windows calls a mount point; os.lstat says "folder"
# The decompressors of zipfile unpack all that they are given, however much becomes of it.
_BOUNDED: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UNBOUNDED_BLOCK_BYTES: Final = 4096
_BROKEN: Final = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,  # bz2, and places in the archive that are not there
    RuntimeError,  # also NotImplementedError and RecursionError
    ValueError,  # also UnicodeDecodeError
    LookupError,
    OverflowError,
    MemoryError,  # for sizes that the archive only claims
)


def unpack(
    archive: BinaryIO,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    max_bytes: int = MAX_BYTES,
    transfer: Transfer | None = None,
) -> Path:
    """Unpack ``archive`` into ``folder``, which is made if it is not there.

    Raises:
        TransferError: the archive is broken, would unpack to more than ``max_bytes``, or
            holds something that must not be unpacked; or the disk refuses. The text says
            what it is about. Where files that were to be overwritten could not be put
            back, it names the folder in which they are kept.
        FileExistsError: a file is there and ``overwrite`` was not asked for.
        NotADirectoryError: ``folder``, or what it would be in, is something else.
        TransferCancelled: through ``transfer``.
    """
    target = Path(folder)
    handle = transfer or Transfer()
    refuse_unusable(target)
    with _reading():
        opened = zipfile.ZipFile(archive)
    with opened:
        members = checked(opened.infolist(), target, max_bytes, handle)
        if not overwrite:
            for member in members:
                handle.wait(0)
                if not member.is_folder:
                    refuse_existing(target / member.path, overwrite=False)
        with _beside(target) as fresh:
            _extract(opened, members, fresh, max_bytes, handle)
            _move(fresh, target, members, handle, overwrite=overwrite)
    return target


def refuse_unusable(target: str | os.PathLike[str]) -> None:
    """Raise ``NotADirectoryError`` where no folder is, or can be made, at ``target``."""
    path = Path(target)
    for place in (path, *path.parents):
        if os.path.lexists(place):
            if not os.path.isdir(place):
                raise NotADirectoryError(errno.ENOTDIR, "is not a folder", str(place))
            return


@contextmanager
def _reading() -> Iterator[None]:
    """Everything a broken archive can end in, as one error."""
    try:
        yield
    except _BROKEN as error:
        raise TransferError(f"the archive is broken: {error or type(error).__name__}") from error


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TransferError(f"{place}: {error.strerror or error}") from error


# What may be unpacked


def _extract(
    archive: zipfile.ZipFile,
    members: list[Member],
    fresh: Path,
    max_bytes: int,
    transfer: Transfer,
) -> None:
    """Write all members below ``fresh``, which is empty and nobody else's."""
    total = sum(member.info.file_size for member in members)
    mask = current_umask(fresh.parent)
    made = {fresh}
    done = 0
    transfer.advance(0, total)
    for member in members:
        transfer.wait(0)
        place = fresh / member.path
        folder = place if member.is_folder else place.parent
        with _writing(place):
            if folder not in made:
                folder.mkdir(parents=True, exist_ok=True)
                made.add(folder)
            if member.is_folder:
                continue
            file = open(place, "xb", buffering=0)  # noqa: SIM115 - closed just below
        try:
            for block in _blocks(archive, member.info):
                done += len(block)
                # What the archive says of its sizes need not be true.
                if done > max_bytes:
                    raise TransferError(f"the archive unpacks to more than {max_bytes} bytes")
                with _writing(place):
                    write_all(file, block)
                transfer.advance(done, total)
            with _writing(place):
                # Nothing of an empty file can be lost, and thousands of them take long.
                if file.tell():
                    os.fsync(file.fileno())
                if os.name == "posix" and member.info.external_attr >> 16 & stat.S_IXUSR:
                    os.fchmod(file.fileno(), 0o777 & ~mask)
        finally:
            with _writing(place):
                file.close()


def _blocks(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    size = BLOCK_BYTES if info.compress_type in _BOUNDED else _UNBOUNDED_BLOCK_BYTES
    with _reading():
        opened: IO[bytes] = archive.open(info)
    with opened:
        while True:
            with _reading():
                block = opened.read(size)
            if not block:
                return
            yield block


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """An empty folder on the file system of ``target``, gone in the end.

    Files that are moved into a folder ``old`` next to it are deleted in the end only if
    all went well: else they are all there is of somebody's files, and stay.
    """
    steps: list[Callable[[], None]] = []
    # A folder that is there may be a file system of its own.
    parent = target if os.path.isdir(target) else target.parent
    with _writing(target):
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
        with _writing(fresh):
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


def _move(
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
    """Move a file to its place; what is there goes to ``kept``, or is refused without one.

    Each step of the undoing is there before the step it undoes: an interrupt may come
    between any two.
    """
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
