"""Directories of an upload: those without files, and the permission bits of all of them.

An upload of a file creates the directories above it. Others are created, and modes are set, by a
call that published servers do not have: there, directories without files are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from beray.exceptions import APIError, NotFoundError
from beray.transfers import file_modes

_UNKNOWN_CALL: Final = frozenset({404, 405, 501})
_MISSING: Final = -1


@dataclass(frozen=True)
class Directory:
    """A directory of an upload.

    Attributes:
        path: its path in the work_dir.
        mode: its permission bits; ``None`` where directories have none.
    """

    path: str
    mode: int | None


def create(
    wanted: Iterable[Directory],
    files: Iterable[str],
    call: Callable[[str, int | None], object],
    require_task: Callable[[], object],
    known: Mapping[str, int | None] | None = None,
) -> list[str]:
    """Create directories, once the files of the same upload are there.

    Args:
        wanted: all directories of the upload.
        files: paths of its files.
        call: creates a directory with a mode.
        require_task: raises ``NotFoundError`` if the task does not exist.
        known: modes of the directories of the work_dir, by path; ``None`` for a server that has
            no modes.

    Returns:
        Paths that are missing because the server cannot create directories, sorted.
    """
    there = known or {}
    made = {above for path in files for above in _above(path)}
    # The deepest first: a directory without write access takes no others.
    waiting = sorted(wanted, key=lambda directory: directory.path, reverse=True)
    for number, directory in enumerate(waiting):
        if directory.path in there:
            mode = there[directory.path]
        else:
            mode = file_modes.NEW_DIRECTORY if directory.path in made else _MISSING
        if mode is None or mode == directory.mode or (directory.mode is None and mode != _MISSING):
            continue
        try:
            call(directory.path, directory.mode)
        except APIError as error:
            if error.status_code not in _UNKNOWN_CALL:
                raise
            if isinstance(error, NotFoundError):
                require_task()
            return sorted(
                left.path
                for left in waiting[number:]
                if left.path not in made and left.path not in there
            )
        made.update(_above(directory.path))
    return []


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path
