"""Owners of the files that sandboxed commands use.

If the server is root, each user's commands run under a uid of their own (``uids``), and the
owner of a work_dir states which. Files that the server creates in it get the same owner. A server
that is not root owns all files, and nothing is changed.
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
    """Give a file or directory of the server to ``uid``, and to the group of that number.

    Args:
        path: path whose last part is no link, or a descriptor.
        uid: None: the owner stays as it is.

    Raises:
        OSError: the file system refuses.
    """
    if uid is None:
        return
    if isinstance(path, int):
        os.fchown(path, uid, uid)
    else:
        os.lchown(path, uid, uid)


def inherit_owner(descriptor: int, directory: int) -> None:
    """Give an open file to the owner of ``directory``, an open directory.

    Does nothing if it belongs to the same user, as it always does where the server is not root.
    """
    wanted = os.fstat(directory)
    if os.fstat(descriptor).st_uid != wanted.st_uid:
        os.fchown(descriptor, wanted.st_uid, wanted.st_gid)


def give_tree(path: Path, uid: int) -> None:
    """Give a directory to ``uid``: everything in it first, and then the directory itself.

    Links are not followed. Files that also have names elsewhere, and devices, keep their owner:
    they may not be the user's own.

    Raises:
        OSError: the file system refuses.
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
            "files with further names elsewhere keep their owner; its user cannot change them",
            folder=str(path),
            count=len(names),
        )


def open_to_all(path: Path) -> None:
    """Let every user read a directory of the server and everything in it.

    The directories above it must keep other users of the host out. The mode of the directory
    itself changes last and says that everything in it has been changed.

    Raises:
        OSError: the file system refuses.
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
