"""A ZIP of a work_dir into a local folder: all of it, or nothing.

The archive comes from outside. Whatever could reach beyond the folder, or become
something else than a plain file there, refuses the whole of it before a byte is written.

Source: PKWARE APPNOTE 6.3.10, 4.4; Microsoft, "Naming Files, Paths, and Namespaces".
"""

from __future__ import annotations

import errno
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Final

from beray.exceptions import TransferError
from beray.transfers import durability, file_modes, staging
from beray.transfers.archive_members import Member, checked
from beray.transfers.download import refuse_existing
from beray.transfers.transfer import BLOCK_BYTES, Transfer, write_all

MAX_BYTES: Final = 16 * 1024**3
"""How much an archive may unpack to, unless said otherwise."""
_SYNCED_ONE_BY_ONE: Final = 100
"""Number of members up to which each file is written to disk for itself."""
# The decompressors of zipfile unpack all that they are given, however much becomes of it.
_BOUNDED: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UNBOUNDED_BLOCK_BYTES: Final = 4096
_OWNER: Final = stat.S_IRUSR | stat.S_IWUSR
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
    owner_access: bool = False,
    transfer: Transfer | None = None,
) -> Path:
    """Unpack ``archive`` into ``folder``, which is made if it is not there.

    Files and new folders get the permission bits that the archive states. Where it states none, a
    file that is replaced keeps its own.

    Args:
        owner_access: give the user read and write access, whatever the archive states.

    Raises:
        TransferError: the archive is broken, would unpack to more than ``max_bytes``, or
            holds something that must not be unpacked; or the disk refuses. The text says
            what it is about. Where files that were to be overwritten could not be put
            back, it names the folder in which they are kept.
        FileExistsError: files are there, which it names, and ``overwrite`` was not asked for.
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
        places = [target / member.path for member in members if not member.is_folder]
        refuse_existing(*places, overwrite=overwrite)
        with staging.beside(target) as fresh:
            modes = _Modes(owner_access)
            _extract(opened, members, fresh, max_bytes, modes, handle)
            folders = {member.path: member for member in members if member.is_folder}
            new = [path for path in folders if not os.path.lexists(target / path)]
            staging.move(fresh, target, members, handle, overwrite=overwrite)
        # The deepest first, after all files: a folder without write access takes none.
        for path in sorted(new, reverse=True):
            if (mode := modes.of(folders[path])) is not None:
                with staging.writing(target / path):
                    file_modes.set_directory(target / path, mode)
    return target


@dataclass(frozen=True)
class _Modes:
    """Decides the permission bits of what is unpacked."""

    owner_access: bool

    def of(self, member: Member) -> int | None:
        """Return the permission bits of a member; ``None`` for those of any new one."""
        if member.mode is None:
            return None
        least = (stat.S_IRWXU if member.is_folder else _OWNER) if self.owner_access else 0
        return member.mode | least


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


def _extract(
    archive: zipfile.ZipFile,
    members: list[Member],
    fresh: Path,
    max_bytes: int,
    modes: _Modes,
    transfer: Transfer,
) -> None:
    """Write all members below ``fresh``, which is empty and nobody else's."""
    total = sum(member.info.file_size for member in members)
    made = {fresh}
    done = 0
    together = len(members) > _SYNCED_ONE_BY_ONE and durability.can_sync_file_system()
    transfer.advance(0, total)
    for member in members:
        transfer.wait(0)
        place = fresh / member.path
        folder = place if member.is_folder else place.parent
        with staging.writing(place):
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
                    raise TransferError(
                        f"the archive expands to more than the limit of {max_bytes:,} bytes; "
                        "if you trust it, pass a larger max_bytes"
                    )
                with staging.writing(place):
                    write_all(file, block)
                transfer.advance(done, total)
            with staging.writing(place):
                # Nothing of an empty file can be lost.
                if file.tell() and not together:
                    os.fsync(file.fileno())
                if (mode := modes.of(member)) is not None:
                    file_modes.set_open(file.fileno(), mode)
        finally:
            with staging.writing(place):
                file.close()
    if together:
        with staging.writing(fresh):
            durability.sync_file_system(fresh)


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
