"""A ZIP of a work_dir into a local folder: all of it, or nothing.

The archive comes from outside. Whatever could reach beyond the folder, or become
something else than a plain file there, refuses the whole of it before a byte is written.

Source: PKWARE APPNOTE 6.3.10, 4.4; Microsoft, "Naming Files, Paths, and Namespaces".
"""

from __future__ import annotations

import errno
import lzma
import os
import re
import shutil
import stat
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO, Final

from beray.exceptions import InvalidResponseError, TransferError
from beray.files import BLOCK_BYTES, Transfer, local_path, write_all
from beray.partial import current_umask, refuse_existing, rename_new, stem

MAX_BYTES: Final = 16 * 1024**3
"""How much an archive may unpack to, unless said otherwise."""
MAX_ENTRIES: Final = 1_000_000
"""How many files and folders an archive may hold."""
_MAX_PART_BYTES: Final = 255
_MAX_PATH_BYTES: Final = 4096
_MAX_DEPTH: Final = 200
_SHOWN_CHARACTERS: Final = 120
_ENCRYPTED: Final = 0x1
_JUNCTION: Final = 0xA0000003
_CONTROLS: Final = re.compile(r"[\0-\x1f\x7f-\x9f]")
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_RESERVED: Final = frozenset(
    {"con", "prn", "aux", "nul", "clock$", "conin$", "conout$"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³"}
)
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


@dataclass(frozen=True)
class _Member:
    info: zipfile.ZipInfo
    path: Path
    is_folder: bool


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
        members = _checked(opened.infolist(), target, max_bytes, handle)
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


def _checked(
    infos: list[zipfile.ZipInfo], target: Path, max_bytes: int, transfer: Transfer
) -> list[_Member]:
    """The members with their paths below the folder, once all of them are harmless."""
    if len(infos) > MAX_ENTRIES:
        raise TransferError(f"the archive holds {len(infos)} entries, more than {MAX_ENTRIES}")
    total = sum(info.file_size for info in infos)
    if total > max_bytes:
        raise TransferError(f"the archive unpacks to {total} bytes, more than {max_bytes}")
    members: list[_Member] = []
    names = _Names()
    for info in infos:
        transfer.wait(0)
        is_folder = info.filename.endswith("/")
        name = info.filename[:-1] if is_folder else info.filename
        problem = _problem(info, name, is_folder) or names.add(name, is_folder)
        if problem is not None:
            shown = info.orig_filename
            if len(shown) > _SHOWN_CHARACTERS:
                shown = shown[:_SHOWN_CHARACTERS] + "…"
            raise TransferError(f"the archive was refused: {shown!r} {problem}")
        members.append(_Member(info, Path(*name.split("/")), is_folder))
    return members


def _problem(info: zipfile.ZipInfo, name: str, is_folder: bool) -> str | None:
    """Why a member must not be unpacked."""
    # First of all: what follows takes time, and a name may be 64 KiB long.
    if len(name.encode("utf-8", "surrogatepass")) > _MAX_PATH_BYTES:
        return "is too long"
    if "\\" in info.orig_filename or _CONTROLS.search(info.orig_filename):
        return "has a character that no name should have"
    if name.startswith("/") or _DRIVE.match(name):
        return "is absolute"
    try:
        local_path("", name)
    except InvalidResponseError:
        return "leaves the folder, or cannot be a name here"
    parts = name.split("/")
    if len(parts) > _MAX_DEPTH:
        return "is too deep"
    if any(len(part.encode()) > _MAX_PART_BYTES for part in parts):
        return "is too long"
    if not all(part.rstrip(". ") for part in parts):
        return "is nothing but dots and blanks, which Windows takes for another folder"
    if any(_is_reserved(part) for part in parts):
        return "is a name that Windows reserves"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
        return "is a link or a special file"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    return None


def _is_reserved(part: str) -> bool:
    """Whether Windows takes a name for a device, whatever comes behind a dot or colon."""
    return re.split(r"[.:]", part, maxsplit=1)[0].rstrip(" ").casefold() in _RESERVED


@dataclass
class _Names:
    """The names of an archive as file systems see them that take some names for the same.

    A tree, so that its cost grows with the length of the names only.
    """

    _root: dict[str, _Node] = field(default_factory=dict)
    _count: int = 0

    def add(self, name: str, is_folder: bool) -> str | None:
        """Take in a name; says why it cannot be beside those that came before."""
        parts = [_folded(part) for part in name.split("/")]
        below = self._root
        for part in parts if is_folder else parts[:-1]:
            self._count += part not in below
            node = below.setdefault(part, _Node())
            if node.below is None:
                return "is, or is below, a file that is there as well"
            below = node.below
        if not is_folder:
            if parts[-1] in below:
                return "is there twice, but for case or for dots and blanks at the end"
            below[parts[-1]] = _Node(None)
            self._count += 1
        if self._count > MAX_ENTRIES:
            return f"is one too many: the archive holds more than {MAX_ENTRIES} entries"
        return None


@dataclass(slots=True)
class _Node:
    below: dict[str, _Node] | None = field(default_factory=dict)
    """What is in a folder; ``None`` for a file."""


def _folded(part: str) -> str:
    return unicodedata.normalize("NFC", part).casefold().rstrip(". ")


# Unpacking


def _extract(
    archive: zipfile.ZipFile,
    members: list[_Member],
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
    fresh: Path, target: Path, members: list[_Member], transfer: Transfer, *, overwrite: bool
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
