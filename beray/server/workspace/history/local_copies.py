"""Copies of files from another work_dir, which share their blocks if the file system can do that.

On a file system with reflinks (btrfs, XFS), a copy takes the same time whatever the size of a file
is, and no space. Elsewhere the kernel copies the bytes.

Source: copy_file_range(2).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

from beray.server.workspace.history import manifest
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.file_contents import Signature, signature
from beray.server.workspace.history.work_tree import Directory
from beray.server.workspace.safe_open import open_directory, open_regular

_COPY_BYTES: Final = 1024 * 1024 * 1024
"""Bytes of one call; larger files need several."""

KnownFiles = Mapping[bytes, tuple[bytes, Signature]]
"""Digest and signature of files by their path."""


def known_files(root: Directory) -> dict[bytes, tuple[bytes, Signature]]:
    """Return the files of a known work_dir whose content is certain."""
    found: dict[bytes, tuple[bytes, Signature]] = {}
    waiting = [(b"", root)]
    while waiting:
        prefix, directory = waiting.pop()
        for name, known in directory.items():
            child = directory.children.get(name)
            if child is not None:
                waiting.append((prefix + name + b"/", child))
            elif known.signature is not None:
                entry = manifest.decode_state(known.state)
                if entry.digest:
                    found[prefix + name] = (entry.digest, known.signature)
    return found


class LocalCopies:
    """Files of an open work_dir that can be copied instead of being read from blobs.

    Args:
        work_dir: Descriptor of the work_dir.
        files: Its files.
    """

    def __init__(self, work_dir: int, files: KnownFiles) -> None:
        self._work_dir = work_dir
        self._files = files

    def copy(self, path: bytes, entry: Entry, target: int) -> bool:
        """Copy the file at the same path, if it has the content of ``entry`` before and after.

        Args:
            path: Path of the file in both work_dirs.
            entry: Wanted content.
            target: Descriptor of an empty file.

        Returns:
            False if the file cannot be used; the target may have other content then.
        """
        digest, known = self._files.get(path, (b"", None))
        if digest != entry.digest or not hasattr(os, "copy_file_range"):
            return False
        try:
            with ExitStack() as opened:
                *parents, name = path.split(b"/")
                directory = open_directory(self._work_dir, parents)
                opened.callback(os.close, directory)
                source, status = open_regular(directory, name)
                opened.enter_context(source)
                if signature(status) != known:
                    return False
                _copy(source.fileno(), target, entry.size)
                return signature(os.fstat(source.fileno())) == known
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            return False  # it was removed or replaced, or the system cannot copy it


def _copy(source: int, target: int, size: int) -> None:
    left = size
    while left and (count := os.copy_file_range(source, target, min(left, _COPY_BYTES))):
        left -= count
    if left:
        raise OSError(errno.EIO, "the file became shorter")
