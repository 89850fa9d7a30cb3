"""Local trees, their differences as a server reports them, and a source of their contents."""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from beray.apply.source import StagedFile
from beray.history_schema import Diff, DiffHunk, FileDiff, FileState
from beray.transfers import wire_names

Tree = dict[str, Any]
"""Content by path: bytes of a file, ``Path`` as the target of a link, or ``None`` for a directory.

A pair has the permission bits as well.
"""


def write_tree(root: Path, tree: Tree) -> Path:
    """Create the entries of a tree below ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    for path, value in sorted(tree.items()):
        content, mode = value if isinstance(value, tuple) else (value, None)
        target = Path(root, os.fsdecode(wire_names.decode(path)))
        target.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            target.mkdir(exist_ok=True)
        elif isinstance(content, Path):
            target.symlink_to(content)
            continue
        else:
            target.write_bytes(content)
        if mode is not None or content is not None:
            target.chmod(0o644 if mode is None else mode)
    return root


def read_tree(root: Path) -> dict[str, Any]:
    """Return all entries below ``root`` with their contents and modes."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = wire_names.encode(os.fsencode(path.relative_to(root)))
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_symlink():
            found[name] = path.readlink()
        elif path.is_dir():
            found[name] = (None, mode)
        else:
            found[name] = (path.read_bytes(), mode)
    return found


def states(root: Path) -> dict[str, FileState]:
    """Return the state of all entries below ``root``."""
    found: dict[str, FileState] = {}
    for name, value in read_tree(root).items():
        if isinstance(value, Path):
            found[name] = {"type": "link", "target": str(value)}
            continue
        content, mode = value
        if content is None:
            found[name] = {"type": "directory", "mode": f"{mode:03o}"}
        else:
            digest = hashlib.sha256(content).hexdigest()
            found[name] = {
                "type": "file", "mode": f"{mode:03o}", "size": len(content), "sha256": digest,
            }  # fmt: skip
    return found


class Trees:
    """An old and a new tree, and their differences.

    Args:
        root: Directory for both.
        old: The old tree.
        new: The new tree.
        renames: Old paths of renamed files by their new ones.
    """

    def __init__(
        self, root: Path, old: Tree, new: Tree, renames: dict[str, str] | None = None
    ) -> None:
        self.roots = {
            "c1": write_tree(root / "old", old),
            "c2": write_tree(root / "new", new),
        }
        self.saved: list[str] = []
        self.diff = self._diff(renames or {})

    def checkout(self, target: Path) -> Path:
        """Copy the old tree to ``target``."""
        return Path(shutil.copytree(self.roots["c1"], target, symlinks=True))

    def read(self, checkpoint: str, path: str) -> bytes:
        return self._path(checkpoint, path).read_bytes()

    def directories(self, checkpoint: str, path: str, *, recursive: bool) -> dict[str, int | None]:
        prefix = "" if path == "." else f"{path}/"
        return {
            name: int(state["mode"], 8)
            for name, state in states(self.roots[checkpoint]).items()
            if state["type"] == "directory"
            and name.startswith(prefix)
            and (recursive or "/" not in name.removeprefix(prefix))
        }

    def hunks(self, from_: str, to: str, paths: Sequence[str]) -> list[DiffHunk]:
        old, new = self.read(from_, paths[0]), self.read(to, paths[-1])
        return hunks(old, new)

    def save(self, checkpoint: str, files: Sequence[StagedFile]) -> None:
        for file in files:
            self.saved.append(file.path)
            shutil.copyfile(self._path(checkpoint, file.path), file.target)

    def _path(self, checkpoint: str, path: str) -> Path:
        return Path(self.roots[checkpoint], os.fsdecode(wire_names.decode(path)))

    def _diff(self, renames: dict[str, str]) -> Diff:
        old, new = states(self.roots["c1"]), states(self.roots["c2"])
        files: list[FileDiff] = []
        for path in sorted(old.keys() | new.keys()):
            if path in renames.values() and path not in renames:
                continue
            if path in renames:
                source = renames[path]
                entry: FileDiff = {
                    "path": path, "old_path": source, "change": "renamed",
                    "old": old[source], "new": new[path],
                }  # fmt: skip
                files.append(entry | self._hunks(source, path))
                continue
            before, after = old.get(path), new.get(path)
            if before == after:
                continue
            if not before or not after or before["type"] != after["type"]:
                before, after = (_listed(tree, path) for tree in (old, new))
            if before and after and before["type"] == after["type"]:
                entry = {"path": path, "change": "modified", "old": before, "new": after}
                files.append(entry | self._hunks(path, path))
                continue
            if before:
                files.append({"path": path, "change": "deleted", "old": before})
            if after:
                files.append({"path": path, "change": "added", "new": after})
        return {
            "from": {"checkpoint": "c1", "seq": 0},
            "to": {"checkpoint": "c2", "seq": 9},
            "files": files,
        }

    def _hunks(self, old_path: str, new_path: str) -> Any:
        old, new = self._path("c1", old_path), self._path("c2", new_path)
        if old.is_symlink() or not old.is_file():
            return {}
        if b"\0" in old.read_bytes() + new.read_bytes():
            return {"binary": True}
        return {"hunks": hunks(old.read_bytes(), new.read_bytes())}


def _listed(tree: dict[str, FileState], path: str) -> FileState | None:
    """Return the state of a path; ``None`` for a directory that is not empty."""
    has_entries = any(name.startswith(f"{path}/") for name in tree)
    return None if has_entries else tree.get(path)


def hunks(old: bytes, new: bytes) -> list[DiffHunk]:
    """Return the differences of two texts."""
    before, after = (text.decode("latin-1").split("\n") for text in (old, new))
    before, after = (
        [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
        for lines in (before, after)
    )
    found: list[DiffHunk] = []
    for group in difflib.SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(
        3
    ):
        old_start, old_end = group[0][1], group[-1][2]
        new_start, new_end = group[0][3], group[-1][4]
        found.append(
            {
                "old_start": old_start + (old_end > old_start),
                "old_lines": old_end - old_start,
                "new_start": new_start + (new_end > new_start),
                "new_lines": new_end - new_start,
                "lines": [],
            }
        )
    return found
