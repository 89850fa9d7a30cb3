"""Extraction of an untrusted ZIP archive into a local directory: all of it, or nothing.

An archive is rejected as a whole, before a byte is written, if it contains a member that would be
written outside the target directory or would not be a regular file or directory.

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
from beray.transfers import file_modes, local_files, staging
from beray.transfers.archive_members import ArchiveMember, checked_members
from beray.transfers.local_files import require_absent, write_all
from beray.transfers.transfer import BLOCK_BYTES, Transfer

MAX_BYTES: Final = 16 * 1024**3
"""Default limit of the extracted size, in bytes."""
_MAX_INDIVIDUAL_SYNCS: Final = 100
"""Number of members up to which each file is flushed to disk individually."""
# Other decompressors of zipfile expand all of their input, regardless of the requested size.
_SIZE_LIMITED_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_OTHER_METHODS_BLOCK_BYTES: Final = 4096
_OWNER_ACCESS: Final = stat.S_IRUSR | stat.S_IWUSR
_ARCHIVE_ERRORS: Final = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,  # bz2, and offsets outside the archive
    RuntimeError,  # including NotImplementedError and RecursionError
    ValueError,  # including UnicodeDecodeError
    LookupError,
    OverflowError,
    MemoryError,  # for sizes that the archive only claims
)


def extract_archive(
    archive: BinaryIO,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    max_bytes: int = MAX_BYTES,
    owner_access: bool = False,
    transfer: Transfer | None = None,
) -> Path:
    """Extract ``archive`` into ``folder``, which is created if it does not exist.

    Files and new directories get the permission bits that the archive states. If it states none,
    a replaced file keeps its own.

    Args:
        archive: The archive, a seekable binary file.
        folder: Target directory.
        overwrite: Replace existing files.
        max_bytes: Maximum size of all files together, in bytes.
        owner_access: Give the user read and write access, whatever the archive states.
        transfer: Reports progress and cancels the extraction.

    Returns:
        Path of the target directory.

    Raises:
        TransferError: The archive is broken, expands to more than ``max_bytes`` or contains an
            unsafe member; or writing failed. If replaced files could not be restored, the message
            names the directory in which they are kept.
        FileExistsError: ``overwrite`` is False and files exist; the message lists them.
        NotADirectoryError: ``folder``, or the path above it, is not a directory.
        TransferCancelled: ``transfer`` was cancelled.
    """
    target = Path(folder)
    handle = transfer or Transfer()
    check_target_directory(target)
    with _archive_errors():
        opened = zipfile.ZipFile(archive)
    with opened:
        members = checked_members(opened.infolist(), max_bytes, handle)
        files = [target / member.path for member in members if not member.is_directory]
        require_absent(*files, overwrite=overwrite)
        with staging.staging_directory(target) as staged:
            modes = _ModePolicy(owner_access)
            _extract_members(opened, members, staged, max_bytes, modes, handle)
            directories = {member.path: member for member in members if member.is_directory}
            new = [path for path in directories if not os.path.lexists(target / path)]
            staging.move_into_place(staged, target, members, handle, overwrite=overwrite)
        # Deepest first, after all files: nothing can be created in a read-only directory.
        for path in sorted(new, reverse=True):
            if (mode := modes.mode_of(directories[path])) is not None:
                with staging.disk_errors(target / path):
                    file_modes.set_directory_mode(target / path, mode)
    return target


@dataclass(frozen=True)
class _ModePolicy:
    """Permission bits of extracted members."""

    owner_access: bool

    def mode_of(self, member: ArchiveMember) -> int | None:
        """Return the permission bits of a member; ``None`` for the default of new files."""
        if member.mode is None:
            return None
        minimum = stat.S_IRWXU if member.is_directory else _OWNER_ACCESS
        return member.mode | (minimum if self.owner_access else 0)


def check_target_directory(target: str | os.PathLike[str]) -> None:
    """Check that ``target`` is a directory or can be created as one.

    Raises:
        NotADirectoryError: ``target``, or the nearest existing path above it, is a file.
    """
    path = Path(target)
    for ancestor in (path, *path.parents):
        if os.path.lexists(ancestor):
            if not ancestor.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "is not a directory", str(ancestor))
            return


@contextmanager
def _archive_errors() -> Iterator[None]:
    """Convert every exception that a broken archive can cause to ``TransferError``."""
    try:
        yield
    except _ARCHIVE_ERRORS as error:
        raise TransferError(f"the archive is broken: {error or type(error).__name__}") from error


def _extract_members(
    archive: zipfile.ZipFile,
    members: list[ArchiveMember],
    staged: Path,
    max_bytes: int,
    modes: _ModePolicy,
    transfer: Transfer,
) -> None:
    """Write all members below ``staged``, an empty directory that no other program uses."""
    total = sum(member.info.file_size for member in members)
    created = {staged}
    done = 0
    sync_once = len(members) > _MAX_INDIVIDUAL_SYNCS and local_files.can_sync_file_system()
    transfer.advance(0, total)
    for member in members:
        transfer.raise_if_cancelled()
        path = staged / member.path
        directory = path if member.is_directory else path.parent
        with staging.disk_errors(path):
            if directory not in created:
                directory.mkdir(parents=True, exist_ok=True)
                created.add(directory)
            if member.is_directory:
                continue
            file = path.open("xb", buffering=0)  # closed below, with its own error handling
        try:
            for block in _blocks(archive, member.info):
                done += len(block)
                # The sizes in the archive's directory may be wrong.
                if done > max_bytes:
                    raise TransferError(
                        f"the archive expands to more than the limit of {max_bytes:,} bytes; "
                        "if you trust it, pass a larger max_bytes"
                    )
                with staging.disk_errors(path):
                    write_all(file, block)
                transfer.advance(done, total)
            with staging.disk_errors(path):
                # An empty file has no content to lose.
                if file.tell() and not sync_once:
                    os.fsync(file.fileno())
                if (mode := modes.mode_of(member)) is not None:
                    file_modes.set_file_mode(file.fileno(), mode)
        finally:
            with staging.disk_errors(path):
                file.close()
    if sync_once:
        with staging.disk_errors(staged):
            local_files.sync_file_system(staged)


def _blocks(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    is_limited = info.compress_type in _SIZE_LIMITED_METHODS
    size = BLOCK_BYTES if is_limited else _OTHER_METHODS_BLOCK_BYTES
    with _archive_errors():
        opened: IO[bytes] = archive.open(info)
    with opened:
        while True:
            with _archive_errors():
                block = opened.read(size)
            if not block:
                return
            yield block
