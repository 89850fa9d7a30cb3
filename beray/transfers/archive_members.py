"""The members of an archive from outside: only such as can do no harm on a local disk.

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
"""How many files and folders an archive may hold."""
_SHOWN_CHARACTERS: Final = 120
_LOCAL_HEADER_BYTES: Final = 30
_ENCRYPTED: Final = 0x1


@dataclass(frozen=True)
class Member:
    info: zipfile.ZipInfo
    path: Path
    is_folder: bool

    @property
    def mode(self) -> int | None:
        """Permission bits; ``None`` if the archive does not state them."""
        return file_modes.archived(self.info.external_attr)


def checked(
    infos: list[zipfile.ZipInfo], target: Path, max_bytes: int, transfer: Transfer
) -> list[Member]:
    """The members with their paths below the folder, once all of them are harmless."""
    if len(infos) > MAX_ENTRIES:
        raise TransferError(f"the archive holds {len(infos)} entries, more than {MAX_ENTRIES}")
    total = sum(info.file_size for info in infos)
    if total > max_bytes:
        raise TransferError(
            f"the archive expands to {total:,} bytes, more than the limit of {max_bytes:,}; "
            "if you trust it, pass a larger max_bytes"
        )
    _refuse_overlaps(infos)
    members: list[Member] = []
    names = LocalNames()
    for info in infos:
        transfer.wait(0)
        is_folder = info.filename.endswith("/")
        name = info.filename[:-1] if is_folder else info.filename
        reason = _problem(info, name, is_folder) or names.add(name, is_folder=is_folder)
        if names.count > MAX_ENTRIES:
            reason = f"is one too many: the archive holds more than {MAX_ENTRIES} entries"
        if reason is not None:
            shown = info.orig_filename
            if len(shown) > _SHOWN_CHARACTERS:
                shown = shown[:_SHOWN_CHARACTERS] + "…"
            raise TransferError(f"the archive was refused: {shown!r} {reason}")
        members.append(Member(info, Path(local_names.on_disk(name)), is_folder))
    return members


def _refuse_overlaps(infos: list[zipfile.ZipInfo]) -> None:
    """Refuse an archive that has the same bytes unpacked again and again."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise TransferError("the archive was refused: its entries overlap")
        end = info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size


def _problem(info: zipfile.ZipInfo, name: str, is_folder: bool) -> str | None:
    """Return why a member must not be unpacked; ``None`` if it may."""
    # zipfile ends a name at a NUL, and replaces the separators of this platform.
    reason = local_names.problem(name)
    if reason is None and len(info.orig_filename) != len(info.filename):
        reason = "contains a NUL"
    if reason is not None:
        return reason
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
        return "is a link or a special file"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    return None
