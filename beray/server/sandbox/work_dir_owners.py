"""Correction of the owners of work_dirs from an earlier server, when the server starts.

A data directory may come from a server that was not root, that was root without a sandbox, or
that had another range of uids. The owner of a work_dir itself changes last, so that it indicates
whether its content has been changed, even if the server is killed in between.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from beray.server.workspace.ownership import chown_tree, set_owner

log = structlog.get_logger("beray.sandbox")


class UnusableWorkDir(Exception):
    """A work_dir belongs to another user; the message contains the next step."""


def correct_owners(
    root: Path, users: Mapping[int, int], uid_of: Callable[[int | None], int | None]
) -> None:
    """Change the owner of each work_dir below ``root`` to the uid of its user.

    No task may be running. An error with one work_dir is logged, and ``Sandbox`` does not run
    commands in it.

    Args:
        root: Directory that contains the work_dirs.
        users: Ids of the users, by the ids of their tasks.
        uid_of: Function like ``Sandbox.uid_of``. If it returns None, the server owns the work_dir.

    Raises:
        UnusableWorkDir: A work_dir belongs to another user, and this server is not root.
    """
    changed = 0
    for task_id, user_id in users.items():
        path = root / str(task_id)
        try:
            status = path.lstat()
            uid = uid_of(user_id)
            if not stat.S_ISDIR(status.st_mode):
                continue
            if uid is None:
                _own(path, status.st_uid)
            elif status.st_uid != uid:
                chown_tree(path, uid)
                changed += 1
        except FileNotFoundError:
            continue
        except OSError as error:
            problem = error.strerror
            log.error(
                "the owner of a work_dir could not be changed", path=str(path), problem=problem
            )
    if changed:
        log.info("the owners of work_dirs were changed to the uids of their users", count=changed)


def _own(path: Path, owner: int) -> None:
    """Make the server the owner of a work_dir, because commands run with the server's uid.

    Raises:
        UnusableWorkDir: The work_dir belongs to another user, and this server is not root.
    """
    if owner == os.geteuid():
        return
    if os.geteuid() == 0:
        # Commands create files as root from now on. The changed owner makes a later server with a
        # sandbox correct all of them.
        set_owner(path, 0)
        return
    raise UnusableWorkDir(
        f"{path} belongs to uid {owner}, and this server runs as uid {os.geteuid()}: a server that "
        f"was root has used {path.parents[1]}. Run this server as root, or change the owner: sudo "
        f"chown -R {os.geteuid()} {path.parents[1]}"
    )
