"""Conversion of the paths that agents use to paths relative to the work_dir."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from urllib.parse import unquote, urlsplit

from beray.transfers import wire_names


class TaskPaths:
    """Converter for paths below the work_dir, as seen inside and outside of the sandbox.

    Paths are strings in wire encoding (``beray.transfers.wire_names``). The conversion is lexical
    and does not access the file system. Files must be opened with ``Workspace``, which follows no
    symbolic links.

    Args:
        work_dir: The work_dir on the server.
        inside: Its path inside the sandbox.
    """

    def __init__(self, work_dir: Path, inside: str) -> None:
        self.inside = inside
        self._roots = {inside.rstrip("/"), wire_names.encode(os.fsencode(work_dir)).rstrip("/")}

    def relative(self, path: str) -> str | None:
        """Return ``path`` relative to the work_dir, ``"."`` for the work_dir itself.

        Returns:
            None if the path is outside of the work_dir or contains NUL. A relative ``path`` is
            resolved against the work_dir.
        """
        if "\0" in path:
            return None
        normalized = posixpath.normpath(posixpath.join(self.inside, path))
        # normpath keeps two leading slashes, which POSIX reserves and Linux treats as one.
        normalized = "/" + normalized.lstrip("/")
        for root in self._roots:
            if normalized == root:
                return "."
            if normalized.startswith(root + "/"):
                return normalized[len(root) + 1 :]
        return None

    def of_uri(self, uri: str) -> str | None:
        """Return the path of a ``file:`` URI relative to the work_dir, None if outside of it."""
        try:
            parts = urlsplit(uri)
        except ValueError:
            return None
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            return None
        return self.relative(wire_names.to_wire_name(unquote(parts.path, errors="surrogateescape")))

    def shown(self, path: str) -> str:
        """Return ``path`` relative to the work_dir if it is inside, otherwise unchanged."""
        return self.relative(path) or path
