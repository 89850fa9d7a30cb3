"""Owners of the files that sandboxed commands use.

If the server is root, each user's commands run under a separate uid (``uids``), and a work_dir
belongs to that uid. Files that the server creates in it get the same owner. A server that is not
root owns all files, and these functions change nothing.
"""

from __future__ import annotations

import os
import stat
from contextlib import closing
from pathlib import Path
from typing import Final

import structlog

from beray.server.workspace import tree

_READ_BY_ALL: Final = 0o444
_ENTER_BY_ALL: Final = 0o555

log = structlog.get_logger("beray.sandbox")


def set_owner(path: Path | int, uid: int | None) -> None:
    """Change the owner of a file or directory to ``uid``, and its group to the same number.

    Args:
        path: Path, whose last component is not followed if it is a symbolic link, or a descriptor.
        uid: New owner; None does nothing.

    Raises:
        OSError: The owner cannot be changed.
    """
    if uid is None:
        return
    if isinstance(path, int):
        os.fchown(path, uid, uid)
    else:
        os.lchown(path, uid, uid)


def inherit_owner(descriptor: int, directory: int) -> None:
    """Change the owner of an open file to the owner of ``directory``, an open directory.

    Does nothing if both have the same owner, which is always so if the server is not root.
    """
    wanted = os.fstat(directory)
    if os.fstat(descriptor).st_uid != wanted.st_uid:
        os.fchown(descriptor, wanted.st_uid, wanted.st_gid)


def chown_tree(path: Path, uid: int) -> None:
    """Change the owner of a directory to ``uid``: first of its content, then of itself.

    Symbolic links are not followed. Files with hard links elsewhere, and devices, keep their
    owner, because they may not belong to the user.

    Raises:
        OSError: An owner cannot be changed.
    """
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    names: dict[tuple[int, int], int] = {}
    try:
        with closing(tree.walk(opened, strict=True, special=True)) as entries:
            for entry in entries:
                status = entry.status
                if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                    continue
                if not entry.is_directory and status.st_nlink > 1:
                    inode = (status.st_dev, status.st_ino)
                    names[inode] = names.get(inode, 0) + 1
                    if names[inode] < status.st_nlink:
                        continue
                    del names[inode]
                if status.st_uid != uid:
                    os.chown(entry.name, uid, uid, dir_fd=entry.directory, follow_symlinks=False)
        set_owner(opened, uid)
    finally:
        os.close(opened)
    if names:
        log.warning(
            "files with hard links elsewhere keep their owner; the user cannot change them",
            directory=str(path),
            count=len(names),
        )


def make_world_readable(path: Path) -> None:
    """Make a directory of the server and its content readable for every user.

    The directories above it must keep other users of the host out. The mode of the directory
    itself changes last, so that it indicates that its content has been changed.

    Raises:
        OSError: A mode cannot be changed.
    """
    if os.lstat(path).st_mode & _ENTER_BY_ALL == _ENTER_BY_ALL:
        return
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with closing(tree.walk(opened, strict=True)) as entries:
            for entry in entries:
                added = _ENTER_BY_ALL if entry.is_directory else _READ_BY_ALL
                mode = stat.S_IMODE(entry.status.st_mode) | added
                os.chmod(entry.name, mode, dir_fd=entry.directory)
        os.fchmod(opened, stat.S_IMODE(os.fstat(opened).st_mode) | _ENTER_BY_ALL)
    finally:
        os.close(opened)
