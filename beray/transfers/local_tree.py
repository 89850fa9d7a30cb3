"""Traversal of a local directory for uploads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path, PurePath

from beray.transfers.local_names import on_wire


class LocalEntryKind(Enum):
    """Type of an entry of a local directory."""

    DIRECTORY = auto()
    FILE = auto()
    DIRECTORY_LINK = auto()
    """Symbolic link to a directory, which is not followed."""
    SPECIAL = auto()
    """Pipe, socket, device or broken link."""


@dataclass(frozen=True, slots=True)
class LocalEntry:
    """Entry of a local directory.

    Attributes:
        path: Local path.
        relative: Path below the traversed directory; ``.`` for that directory itself.
        kind: Type of the entry.
    """

    path: Path
    relative: PurePath
    kind: LocalEntryKind

    @property
    def remote(self) -> str:
        """Wire name of ``relative``; "" for the traversed directory itself."""
        return on_wire(self.relative) if self.relative.parts else ""


def walk_local_tree(
    root: Path, *, is_excluded: Callable[[str], bool] = lambda _name: False
) -> Iterator[LocalEntry]:
    """Yield a local directory and all entries below it, each directory before its entries.

    The order is the same in each traversal: the files of a directory by name, then its links to
    directories, then its subdirectories.

    Args:
        root: The directory.
        is_excluded: Returns True for the name of a directory that is not entered, so that it need
            not be readable.

    Raises:
        OSError: A directory cannot be read.
    """
    for folder, names, files in os.walk(root, onerror=_raise):
        directory = Path(folder)
        relative = directory.relative_to(root)
        names[:] = sorted(name for name in names if not is_excluded(name))
        yield LocalEntry(directory, relative, LocalEntryKind.DIRECTORY)
        for name in sorted(files):
            path = directory / name
            kind = LocalEntryKind.FILE if path.is_file() else LocalEntryKind.SPECIAL
            yield LocalEntry(path, relative / name, kind)
        for name in names:
            if (path := directory / name).is_symlink():
                yield LocalEntry(path, relative / name, LocalEntryKind.DIRECTORY_LINK)


def _raise(error: OSError) -> None:
    raise error
