"""Selection of files and directories of a work_dir by their paths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

Relation = Literal["inside", "above", "outside"]
"""Position of a path: at or below a selected path, above one, or neither."""
_SELECTED: Final = b"/"
"""Key of selected nodes; no name contains it."""


class PathSelection:
    """Files and directories, each with everything below it.

    Args:
        paths: Parts of their paths; empty for all.
    """

    def __init__(self, paths: Iterable[Sequence[bytes]] = ()) -> None:
        self._root: dict[bytes, Any] = {}
        for path in paths:
            node = self._root
            for name in path:
                node = node.setdefault(name, {})
            node[_SELECTED] = True
        self._is_all = not self._root

    def relation(self, path: bytes) -> Relation:
        """Return the position of a path, separated by ``/``, in the selection."""
        if self._is_all:
            return "inside"
        node = self._root
        for name in path.split(b"/"):
            if _SELECTED in node:
                return "inside"
            if name not in node:
                return "outside"
            node = node[name]
        return "inside" if _SELECTED in node else "above"
