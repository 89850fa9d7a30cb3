"""Owners of work_dirs that another server has made, settled when the server starts.

A data directory may come from a server that was not root, or that was root and had no sandbox,
or that had other uids. The owner of a work_dir itself changes last. It therefore says whether
everything in it has been changed, also if the server is killed in between.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from beray.server.workspace.ownership import give_tree, set_owner

log = structlog.get_logger("beray.sandbox")


class UnusableWorkDir(Exception):
    """A work_dir belongs to another user; the text says what to do."""


def settle(
    root: Path, users: Mapping[int, int], uid_of: Callable[[int | None], int | None]
) -> None:
    """Make each work_dir below ``root`` belong to the uid of its user. No task may be running.

    What prevents this for one work_dir is logged; ``Sandbox`` then refuses to run its commands.

    Args:
        users: ids of the users, by the ids of their tasks.
        uid_of: as ``Sandbox.uid_of``. Where it returns None, work_dirs belong to the server.

    Raises:
        UnusableWorkDir: a work_dir belongs to another user, and this server is not root.
    """
    changed = 0
    for task_id, user_id in users.items():
        path = root / str(task_id)
        try:
            found = os.lstat(path)
            uid = uid_of(user_id)
            if not stat.S_ISDIR(found.st_mode):
                continue
            if uid is None:
                _keep(path, found.st_uid)
            elif found.st_uid != uid:
                give_tree(path, uid)
                changed += 1
        except FileNotFoundError:
            continue
        except OSError as error:
            problem = error.strerror
            log.error("a work_dir does not belong to its user", path=str(path), problem=problem)
    if changed:
        log.info("work_dirs were given to the uids of their users", count=changed)


def _keep(path: Path, owner: int) -> None:
    """Let a work_dir belong to a server whose commands have the rights of the server."""
    if owner == os.geteuid():
        return
    if os.geteuid() == 0:
        # Commands create files as root from now on: a later server with a sandbox must look at
        # all of them again.
        set_owner(path, 0)
        return
    raise UnusableWorkDir(
        f"{path} belongs to uid {owner}, and this server runs as uid {os.geteuid()}: a server that "
        f"was root has used {path.parents[1]}. Run this one as root, or change the owner: sudo "
        f"chown -R {os.geteuid()} {path.parents[1]}"
    )
