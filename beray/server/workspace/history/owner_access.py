"""Access to directories whose mode denies it to their owner.

Modes are data of the user, so they are changed only while the directory is used. A server that is
root does not need this.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Final

from beray.server.workspace import tree
from beray.server.workspace.safe_open import change_mode, open_directory

READS: Final = stat.S_IRUSR | stat.S_IXUSR
"""Permissions to read a directory with its entries."""
CHANGES: Final = stat.S_IRWXU
"""Permissions to change a directory and its entries."""


class OwnerAccess:
    """Directories below a work_dir that this server may use for a time; a context manager.

    Args:
        work_dir: Descriptor of the work_dir.
        permissions: Permissions that this server needs.
    """

    def __init__(self, work_dir: int, permissions: int = READS) -> None:
        self._work_dir = work_dir
        self._permissions = permissions
        self._granted: dict[bytes, os.stat_result] = {}

    @property
    def granted(self) -> Collection[bytes]:
        """Paths of the directories whose modes are changed."""
        return self._granted.keys()

    def __enter__(self) -> OwnerAccess:
        return self

    def __exit__(self, *_: object) -> None:
        for path in reversed(list(self._granted)):
            self.revoke(path)

    def grant(self, entry: tree.TreeEntry) -> bool:
        """Permit this server to use a directory until ``revoke`` or the end of the block.

        Returns:
            False if that is not possible.
        """
        status = entry.status
        if os.geteuid() == 0:
            return True
        if status.st_uid != os.geteuid():
            return os.access(
                entry.name, os.R_OK | os.X_OK, dir_fd=entry.directory, effective_ids=True
            )
        if self.is_denied(status):
            mode = stat.S_IMODE(status.st_mode) | self._permissions
            try:
                change_mode(entry.directory, entry.name, mode)
            except OSError:
                return False
            self._granted.setdefault(entry.path, status)
        return True

    def grant_all(self, parts: Sequence[bytes]) -> None:
        """Permit this server to use a directory and those above it, as far as possible.

        Raises:
            OSError: One of them does not exist.
        """
        for end in range(1, len(parts) + 1):
            above = open_directory(self._work_dir, parts[: end - 1])
            try:
                status = os.stat(parts[end - 1], dir_fd=above, follow_symlinks=False)
                self.grant(tree.TreeEntry(b"/".join(parts[:end]), above, status))
            finally:
                os.close(above)

    def is_denied(self, status: os.stat_result) -> bool:
        """Return True if this server owns a directory and has not all permissions for it."""
        owner = os.geteuid()
        return (
            owner != 0
            and status.st_uid == owner
            and status.st_mode & self._permissions != self._permissions
        )

    def forget(self, path: bytes) -> None:
        """Keep the current mode of a directory."""
        self._granted.pop(path, None)

    def revoke(self, path: bytes) -> None:
        """Restore the mode of a directory, after those below it. Does nothing for others."""
        status = self._granted.pop(path, None)
        if status is None:
            return
        with suppress(OSError):  # it was removed or moved
            directory = open_directory(self._work_dir, path.split(b"/"))
            try:
                if os.path.samestat(os.fstat(directory), status):
                    os.fchmod(directory, stat.S_IMODE(status.st_mode))
            finally:
                os.close(directory)
