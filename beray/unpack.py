"""A ZIP of a work_dir into a local folder: all of it, or nothing.

The archive comes from outside. Whatever could reach beyond the folder, or become
something else than a plain file there, refuses the whole of it before a byte is written.

Source: PKWARE APPNOTE 6.3.10, 4.4; Microsoft, "Naming Files, Paths, and Namespaces".
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from beray.exceptions import InvalidResponseError, TransferError
from beray.files import BLOCK_BYTES, Transfer, local_path
from beray.partial import current_umask, refuse_existing

MAX_BYTES: Final = 16 * 1024**3
"""How much an archive may unpack to, unless said otherwise."""
_ENCRYPTED: Final = 0x1
_RESERVED: Final = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³"}
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
            holds something that must not be unpacked; the text names it.
        FileExistsError: a file is there and ``overwrite`` was not asked for.
        TransferCancelled: through ``transfer``.
    """
    target = Path(folder)
    handle = transfer or Transfer()
    try:
        with zipfile.ZipFile(archive) as opened, _beside(target) as fresh:
            members = _checked(opened.infolist(), target, max_bytes)
            if not overwrite:
                for member, path in members:
                    if not member.is_dir():
                        refuse_existing(target / path, overwrite=False)
            _extract(opened, members, fresh, max_bytes, handle)
            _move(fresh, target, [path for _, path in members])
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise TransferError(f"the archive is broken: {error}") from error
    return target


def _checked(
    infos: list[zipfile.ZipInfo], target: Path, max_bytes: int
) -> list[tuple[zipfile.ZipInfo, Path]]:
    """The members with their paths below the folder, once all of them are harmless."""
    total = sum(info.file_size for info in infos)
    if total > max_bytes:
        raise TransferError(f"the archive unpacks to {total} bytes, more than {max_bytes}")
    members: list[tuple[zipfile.ZipInfo, Path]] = []
    taken: dict[str, bool] = {}
    for info in infos:
        name = info.filename.rstrip("/") if info.is_dir() else info.filename
        problem = _problem(info, name)
        if problem is None:
            folded = unicodedata.normalize("NFC", name).casefold()
            if folded in taken and not (taken[folded] and info.is_dir()):
                problem = "is there twice, but for upper and lower case"
            taken[folded] = info.is_dir()
        if problem is not None:
            raise TransferError(f"the archive was refused: {info.orig_filename!r} {problem}")
        members.append((info, local_path(target, name).relative_to(target)))
    files = {name for name, is_folder in taken.items() if not is_folder}
    for name in taken:
        parts = name.split("/")
        for end in range(1, len(parts)):
            if "/".join(parts[:end]) in files:
                raise TransferError(f"the archive was refused: {name!r} is below a file")
    return members


def _problem(info: zipfile.ZipInfo, name: str) -> str | None:
    """Why a member must not be unpacked."""
    if "\0" in info.orig_filename or "\\" in info.orig_filename:
        return "has a character that no name should have"
    if name[1:2] == ":" or name.startswith("/"):
        return "is absolute"
    try:
        local_path("", name)
    except InvalidResponseError:
        return "leaves the folder, or cannot be a name here"
    if any(part.partition(".")[0].rstrip(" ").casefold() in _RESERVED for part in name.split("/")):
        return "is a name that Windows reserves"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG):
        return "is a link or a special file"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    return None


def _extract(
    archive: zipfile.ZipFile,
    members: list[tuple[zipfile.ZipInfo, Path]],
    fresh: Path,
    max_bytes: int,
    transfer: Transfer,
) -> None:
    """Write all members below ``fresh``, which is empty and nobody else's."""
    total = sum(info.file_size for info, _ in members)
    mask = current_umask()
    done = 0
    for info, path in members:
        place = fresh / path
        if info.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as member, open(place, "xb") as file:
            while block := member.read(BLOCK_BYTES):
                done += len(block)
                # What the archive says of its sizes need not be true.
                if done > max_bytes:
                    raise TransferError(f"the archive unpacks to more than {max_bytes} bytes")
                file.write(block)
                transfer.advance(done, total)
            file.flush()
            os.fsync(file.fileno())
        if info.external_attr >> 16 & stat.S_IXUSR:
            place.chmod(0o777 & ~mask)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """An empty folder on the file system of ``target``, gone in the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name[:64]}.", suffix=".part", dir=target.parent
    ) as folder:
        fresh = Path(folder, "new")
        fresh.mkdir()
        yield fresh


def _move(fresh: Path, target: Path, paths: list[Path]) -> None:
    """Move what was unpacked into place, in one step where nothing is there yet."""
    if not os.path.lexists(target):
        fresh.rename(target)
        return
    aside = fresh.with_name("old")
    undo: list[tuple[Path, Path]] = []
    made: list[Path] = []
    try:
        for path in sorted(paths):
            source, place = fresh / path, target / path
            for folder in reversed([place, *place.parents] if source.is_dir() else place.parents):
                _make(folder, made)
            if source.is_dir():
                continue
            if place.is_dir() and not place.is_symlink():
                raise IsADirectoryError(errno.EISDIR, f"a folder is in the way: {path}")
            if os.path.lexists(place):
                kept = aside / path
                kept.parent.mkdir(parents=True, exist_ok=True)
                place.rename(kept)
                undo.append((kept, place))
            source.rename(place)
            undo.append((place, source))
    except OSError as error:
        for now, before in reversed(undo):
            now.rename(before)
        for folder in reversed(made):
            folder.rmdir()
        raise TransferError(f"{target}: {error.strerror or error}; nothing was changed") from error


def _make(folder: Path, made: list[Path]) -> None:
    if not folder.exists():
        folder.mkdir()
        made.append(folder)
