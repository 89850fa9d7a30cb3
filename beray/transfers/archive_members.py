"""Safety checks of the members of an untrusted ZIP archive.

Source: PKWARE APPNOTE 6.3.10, 4.4.
"""

from __future__ import annotations

import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from beray.exceptions import TransferError
from beray.transfers import file_modes, local_names
from beray.transfers.local_names import LocalNames
from beray.transfers.transfer import Transfer

MAX_ENTRIES: Final = 1_000_000
"""Maximum number of files and directories in an archive."""
_MAX_SHOWN_CHARACTERS: Final = 120
_LOCAL_HEADER_BYTES: Final = 30
_ENCRYPTED: Final = 0x1


@dataclass(frozen=True)
class ArchiveMember:
    """Member of an archive that is safe to extract.

    Attributes:
        info: The member's entry in the central directory.
        path: Path relative to the target directory.
        is_directory: True for a directory, False for a regular file.
    """

    info: zipfile.ZipInfo
    path: Path
    is_directory: bool

    @property
    def mode(self) -> int | None:
        """Permission bits; ``None`` if the archive does not state them."""
        return file_modes.from_zip_attributes(self.info.external_attr)


def checked_members(
    infos: list[zipfile.ZipInfo], max_bytes: int, transfer: Transfer
) -> list[ArchiveMember]:
    """Return the members of an archive, if all of them are safe to extract.

    Args:
        infos: Entries of the archive's central directory.
        max_bytes: Maximum size of all files together.
        transfer: Cancels the check.

    Raises:
        TransferError: The archive is too large, has too many or overlapping entries, or contains
            a member with an invalid name, a link, a special file or an encrypted file.
        TransferCancelled: ``transfer`` was cancelled.
    """
    if len(infos) > MAX_ENTRIES:
        raise TransferError(
            f"the archive contains {len(infos):,} entries, more than the limit of {MAX_ENTRIES:,}"
        )
    total = sum(info.file_size for info in infos)
    if total > max_bytes:
        raise TransferError(
            f"the archive expands to {total:,} bytes, more than the limit of {max_bytes:,}; "
            "if you trust it, pass a larger max_bytes"
        )
    _reject_overlaps(infos)
    members: list[ArchiveMember] = []
    names = LocalNames()
    for info in infos:
        transfer.raise_if_cancelled()
        is_directory = info.filename.endswith("/")
        name = info.filename[:-1] if is_directory else info.filename
        reason = _problem(info, name, is_directory) or names.add(name, is_directory=is_directory)
        if names.count > MAX_ENTRIES:
            reason = f"exceeds the limit of {MAX_ENTRIES:,} files and directories"
        if reason is not None:
            shown = info.orig_filename
            if len(shown) > _MAX_SHOWN_CHARACTERS:
                shown = shown[:_MAX_SHOWN_CHARACTERS] + "…"
            raise TransferError(f"the archive was rejected: {shown!r} {reason}")
        members.append(ArchiveMember(info, Path(local_names.on_disk(name)), is_directory))
    return members


def _reject_overlaps(infos: list[zipfile.ZipInfo]) -> None:
    """Reject an archive whose entries share compressed data (a "zip bomb")."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise TransferError("the archive was rejected: its entries overlap")
        end = info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size


def _problem(info: zipfile.ZipInfo, name: str, is_directory: bool) -> str | None:
    """Return why a member must not be extracted; ``None`` if it is safe."""
    # zipfile cuts names at a NUL and replaces this platform's path separators.
    reason = local_names.name_problem(name)
    if reason is None and len(info.orig_filename) != len(info.filename):
        reason = "contains a NUL"
    if reason is not None:
        return reason
    file_type = stat.S_IFMT(info.external_attr >> 16)
    if file_type not in (0, stat.S_IFDIR if is_directory else stat.S_IFREG):
        return "is a link or a special file"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    return None
