"""Access to directories whose mode denies it to their owner.

Modes are data of the user, so they are changed only while the directory is used. A server that is
root does not need this.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final

from beray.server.workspace import tree
from beray.server.workspace.safe_open import open_directory

_ENTERS: Final = stat.S_IRUSR | stat.S_IXUSR


class OwnerAccess:
    """Directories below a work_dir that this server may read for a time; a context manager.

    Args:
        work_dir: Descriptor of the work_dir.
    """

    def __init__(self, work_dir: int) -> None:
        self._work_dir = work_dir
        self._granted: dict[bytes, os.stat_result] = {}

    def __enter__(self) -> OwnerAccess:
        return self

    def __exit__(self, *_: object) -> None:
        for path in reversed(list(self._granted)):
            self.revoke(path)

    def grant(self, entry: tree.TreeEntry) -> bool:
        """Permit this server to read a directory until ``revoke`` or the end of the block.

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
        mode = stat.S_IMODE(status.st_mode)
        if mode & _ENTERS != _ENTERS:
            try:
                os.chmod(entry.name, mode | _ENTERS, dir_fd=entry.directory, follow_symlinks=False)
            except OSError:
                return False
            self._granted[entry.path] = status
        return True

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
