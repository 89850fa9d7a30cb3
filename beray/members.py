"""The members of an archive from outside: only such as can do no harm on a local disk.

Source: PKWARE APPNOTE 6.3.10, 4.4; Microsoft, "Naming Files, Paths, and Namespaces".
"""

from __future__ import annotations

import re
import stat
import unicodedata
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from beray.exceptions import InvalidResponseError, TransferError
from beray.files import Transfer, local_path

MAX_ENTRIES: Final = 1_000_000
"""How many files and folders an archive may hold."""
_MAX_PART_BYTES: Final = 255
_MAX_PATH_BYTES: Final = 4096
_MAX_DEPTH: Final = 200
_SHOWN_CHARACTERS: Final = 120
_LOCAL_HEADER_BYTES: Final = 30
_ENCRYPTED: Final = 0x1
_CONTROLS: Final = re.compile(r"[\0-\x1f\x7f-\x9f]")
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_RESERVED: Final = frozenset(
    {"con", "prn", "aux", "nul", "clock$", "conin$", "conout$"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³"}
)


@dataclass(frozen=True)
class Member:
    info: zipfile.ZipInfo
    path: Path
    is_folder: bool


def checked(
    infos: list[zipfile.ZipInfo], target: Path, max_bytes: int, transfer: Transfer
) -> list[Member]:
    """The members with their paths below the folder, once all of them are harmless."""
    if len(infos) > MAX_ENTRIES:
        raise TransferError(f"the archive holds {len(infos)} entries, more than {MAX_ENTRIES}")
    total = sum(info.file_size for info in infos)
    if total > max_bytes:
        raise TransferError(f"the archive unpacks to {total} bytes, more than {max_bytes}")
    _refuse_overlaps(infos)
    members: list[Member] = []
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
        members.append(Member(info, Path(*name.split("/")), is_folder))
    return members


def _refuse_overlaps(infos: list[zipfile.ZipInfo]) -> None:
    """Refuse an archive that has the same bytes unpacked again and again."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise TransferError("the archive was refused: its entries overlap")
        end = info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size


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
