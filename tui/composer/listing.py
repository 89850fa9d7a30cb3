"""What is in a local folder, as far as a name that was begun goes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from beray.sanitize import one_line
from beray.transfers import wire_names
from beray.transfers.local_names import on_wire

MAX_SHOWN: Final = 200
"""Entries that are given; whoever looks for another one types more of its name."""


@dataclass(frozen=True)
class Entry:
    """A file or folder.

    Attributes:
        shown: its name, printable: by this it is found and completed.
        size: in bytes, ``None`` for a folder or where it is unknown.
    """

    path: Path
    shown: str
    is_folder: bool
    size: int | None = None


@dataclass(frozen=True)
class Listing:
    """The entries of ``folder`` whose names begin with what was typed.

    Attributes:
        entries: the first of them, folders before files.
        total: how many there are.
        common: what the names of all of them begin with.
        scanned: everything in the folder, for the next listing of it.
        problem: why the folder cannot be read; empty where it was.
    """

    folder: Path
    entries: tuple[Entry, ...] = ()
    total: int = 0
    common: str = ""
    scanned: tuple[Entry, ...] = ()
    problem: str = ""


def shown_folder(folder: Path) -> str:
    """The path of a folder, printable, with ``~`` for the user's own."""
    text, home = str(folder), os.path.expanduser("~")
    if text == home or text.startswith(home + os.sep):
        text = "~" + text[len(home) :]
    return one_line(wire_names.encode(os.fsencode(text)), 4096)


def split(text: str) -> tuple[str, str]:
    """What was typed, as a folder (with its separator, or empty) and the beginning of a name."""
    if text == "~":
        return "~" + os.sep, ""
    folder, name = os.path.split(text)
    return text[: len(text) - len(name)] if folder else "", name


def listed(
    folder: Path, name: str, before: Listing | None = None, types: tuple[str, ...] = ()
) -> Listing:
    """List ``folder``; reads it, so call it in a thread.

    Args:
        name: how the names begin; upper and lower case are the same. Names that begin
            with a dot are left out unless it does.
        before: an earlier listing; it is not read again where it was of the same folder.
        types: the endings, in small letters, that files have; others are left out.
    """
    if before is not None and before.folder == folder and not before.problem:
        scanned = before.scanned
    else:
        try:
            scanned = tuple(_scan(folder))
        except OSError as error:
            return Listing(folder, problem=f"{folder}: {error.strerror or type(error).__name__}")
    wanted = name.casefold()
    found = [
        entry
        for entry in scanned
        if entry.shown.casefold().startswith(wanted)
        and (wanted.startswith(".") or not entry.shown.startswith("."))
        and (not types or entry.is_folder or entry.path.name.casefold().endswith(types))
    ]
    shown = tuple(_with_size(entry) for entry in found[:MAX_SHOWN])
    return Listing(folder, shown, len(found), _common(found), scanned)


def _scan(folder: Path) -> Sequence[Entry]:
    with os.scandir(folder) as entries:
        found = [
            Entry(Path(entry.path), one_line(on_wire(entry.name), 255), _is_folder(entry))
            for entry in entries
        ]
    return sorted(found, key=lambda entry: (not entry.is_folder, entry.shown.casefold()))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to where we must not look


def _with_size(entry: Entry) -> Entry:
    if entry.is_folder:
        return entry
    try:
        return replace(entry, size=entry.path.stat().st_size)
    except OSError:
        return entry


def _common(entries: Sequence[Entry]) -> str:
    """What all names begin with, in the case of the first; case does not count."""
    if not entries:
        return ""
    first = entries[0].shown
    length = len(first)
    for entry in entries:
        name = entry.shown
        length = min(length, len(name))
        while name[:length].casefold() != first[:length].casefold():
            length -= 1
    return first[:length]
