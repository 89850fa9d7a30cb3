"""Paths as an agent names them, and as a work_dir knows them."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from urllib.parse import unquote, urlsplit

from beray.transfers import wire_names


class TaskPaths:
    """Absolute paths below a work_dir, as it is called inside and outside of a sandbox.

    They are in the form of the wire, see ``beray.transfers.wire_names``.

    By name only: whoever opens a file goes through ``Workspace``, which follows no links.
    """

    def __init__(self, work_dir: Path, inside: str) -> None:
        self.inside = inside
        self._roots = {inside.rstrip("/"), wire_names.encode(os.fsencode(work_dir)).rstrip("/")}

    def relative(self, path: str) -> str | None:
        """Return ``path`` from the work_dir down, ``"."`` for itself; ``None``: it is outside.

        A path that is not absolute is taken from the work_dir.
        """
        if "\0" in path:
            return None
        whole = posixpath.normpath(posixpath.join(self.inside, path))
        # normpath keeps two slashes at the start: POSIX gives them a meaning, Linux does not.
        whole = "/" + whole.lstrip("/")
        for root in self._roots:
            if whole == root:
                return "."
            if whole.startswith(root + "/"):
                return whole[len(root) + 1 :]
        return None

    def of_uri(self, uri: str) -> str | None:
        """Return the path of a ``file:`` URI from the work_dir down; else ``None``."""
        try:
            parts = urlsplit(uri)
        except ValueError:
            return None
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            return None
        return self.relative(wire_names.to_wire_name(unquote(parts.path, errors="surrogateescape")))

    def shown(self, path: str) -> str:
        """Return ``path`` from the work_dir down where it is inside, else as it is."""
        return self.relative(path) or path
