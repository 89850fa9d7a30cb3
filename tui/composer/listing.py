"""Listing and completion of local paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from beray.sanitize import one_line
from beray.transfers import wire_names
from beray.transfers.local_names import on_wire

MAX_ENTRIES: Final = 200
"""Maximum number of entries in a listing; the user types more of a name to see others."""


@dataclass(frozen=True)
class LocalEntry:
    """Local file or directory.

    Attributes:
        path: Path of the entry.
        display_name: Sanitized name, which is matched and completed.
        is_dir: Whether it is a directory.
        size: Size in bytes; ``None`` for a directory or if it is unknown.
    """

    path: Path
    display_name: str
    is_dir: bool
    size: int | None = None


@dataclass(frozen=True)
class DirectoryListing:
    """Entries of a directory whose names start with the entered text.

    Attributes:
        directory: The directory.
        entries: The first matching entries, directories before files.
        total: Number of matching entries.
        common_prefix: Longest prefix of all matching names.
        all_entries: All entries of the directory, reused by the next listing.
        problem: Reason why the directory cannot be read, or "".
    """

    directory: Path
    entries: tuple[LocalEntry, ...] = ()
    total: int = 0
    common_prefix: str = ""
    all_entries: tuple[LocalEntry, ...] = ()
    problem: str = ""


def expand_home(text: str) -> Path:
    """Return the path ``text`` with a leading ``~`` expanded, if the home directory is known."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def display_path(directory: Path) -> str:
    """Return the sanitized path of a directory, with ``~`` for the home directory."""
    text, home = str(directory), str(expand_home("~"))
    if text == home or text.startswith(home + os.sep):
        text = "~" + text[len(home) :]
    return one_line(wire_names.encode(os.fsencode(text)), 4096)


def split_path(text: str) -> tuple[str, str]:
    """Split entered text into a directory, including its separator, and the start of a name."""
    if text == "~":
        return "~" + os.sep, ""
    directory, name = os.path.split(text)
    return text[: len(text) - len(name)] if directory else "", name


def list_directory(
    directory: Path,
    name: str,
    previous: DirectoryListing | None = None,
    extensions: tuple[str, ...] = (),
) -> DirectoryListing:
    """List a directory. Blocks while the directory is read.

    Args:
        directory: The directory.
        name: Prefix of the names, ignoring case. Hidden files are listed only if the prefix
            starts with a dot.
        previous: Earlier listing, whose entries are reused if it is of the same directory.
        extensions: Lower-case extensions of the files to list; empty for all files.
    """
    if previous is not None and previous.directory == directory and not previous.problem:
        all_entries = previous.all_entries
    else:
        try:
            all_entries = tuple(_scan(directory))
        except OSError as error:
            return DirectoryListing(
                directory, problem=f"{directory}: {error.strerror or type(error).__name__}"
            )
    prefix = name.casefold()
    found = [
        entry
        for entry in all_entries
        if entry.display_name.casefold().startswith(prefix)
        and (prefix.startswith(".") or not entry.display_name.startswith("."))
        and (not extensions or entry.is_dir or entry.path.name.casefold().endswith(extensions))
    ]
    display_name = tuple(_with_size(entry) for entry in found[:MAX_ENTRIES])
    return DirectoryListing(directory, display_name, len(found), _common_prefix(found), all_entries)


def _scan(directory: Path) -> Sequence[LocalEntry]:
    with os.scandir(directory) as entries:
        found = [
            LocalEntry(Path(entry.path), one_line(on_wire(entry.name), 255), _is_dir(entry))
            for entry in entries
        ]
    return sorted(found, key=lambda entry: (not entry.is_dir, entry.display_name.casefold()))


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to an inaccessible directory


def _with_size(entry: LocalEntry) -> LocalEntry:
    if entry.is_dir:
        return entry
    try:
        return replace(entry, size=entry.path.stat().st_size)
    except OSError:
        return entry


def _common_prefix(entries: Sequence[LocalEntry]) -> str:
    """Return the common prefix of all names, ignoring case, as spelled in the first name."""
    if not entries:
        return ""
    first = entries[0].display_name
    length = len(first)
    for entry in entries:
        name = entry.display_name
        length = min(length, len(name))
        while name[:length].casefold() != first[:length].casefold():
            length -= 1
    return first[:length]
