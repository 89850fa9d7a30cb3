"""Safety checks of paths and link targets that a task chooses, before they are created here.

A change in ``.git`` could run programs: hooks, and commands in ``.git/config``. The names that file
systems of macOS and Windows take for ``.git`` are rejected on all platforms, because a directory
may be on such a file system anywhere.

Source: ``verify_path``, ``is_hfs_dotgit`` and ``is_ntfs_dotgit`` of git.
"""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath
from typing import Final

from beray.transfers.local_names import MAX_PATH_BYTES, SYSTEM, System, name_problem, on_disk
from beray.transfers.wire_names import MAX_BYTES_PER_NAME_BYTE

# Code points that HFS+ ignores in names.
_IGNORED_BY_HFS: Final = dict.fromkeys(
    [*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF]
)
_GIT_NAMES: Final = frozenset({".git", "git~1"})
"""Names of the directory of a repository; the second one is its short name on NTFS."""


def path_problem(path: str, system: System = SYSTEM) -> str | None:
    """Return why a path of a task must not be changed here; ``None`` if it may.

    Args:
        path: Relative path in wire form.
        system: Platform whose rules apply.

    Returns:
        The reason as the rest of a sentence, such as "is too long".
    """
    reason = name_problem(path, system)
    if reason is None and any(map(is_git_name, on_disk(path).split("/"))):
        return "belongs to the directory of a git repository"
    return reason


def is_git_name(name: str) -> bool:
    """Return True if a file system may take ``name``, a part of a path, for ``.git``."""
    # NTFS ignores the name of a stream, and dots and spaces at the end.
    plain = name.translate(_IGNORED_BY_HFS).partition(":")[0]
    return plain.rstrip(". ").casefold() in _GIT_NAMES


def target_problem(path: str, target: str, system: System = SYSTEM) -> str | None:
    """Return why a symbolic link must not be created; ``None`` if it may.

    A target is safe if it has ``..`` at its start only, and not more of them than directories are
    above the link. As other links are safe as well, it cannot leave the directory through them.

    Args:
        path: Path of the link, in wire form.
        target: Target of the link, in wire form.
        system: Platform whose rules apply.

    Returns:
        The reason as the rest of a sentence.
    """
    if not target or "\0" in target:
        return "is a link with an invalid target"
    if len(target) >= MAX_PATH_BYTES * MAX_BYTES_PER_NAME_BYTE:
        return "is a link whose target is too long"
    if system == "windows" and (PureWindowsPath(target).anchor or "\\" in target or ":" in target):
        return f"is a link to {target!r}, which is not a relative path"
    if target.startswith("/"):
        return f"is a link to the absolute path {target!r}"
    parts = [part for part in on_disk(target).split("/") if part not in ("", ".")]
    names = list(parts)
    while names and names[0] == "..":
        names.pop(0)
    if ".." in names:
        return f"is a link to {target!r}, which has '..' after the name of a directory"
    if len(parts) - len(names) > path.count("/"):
        return f"is a link to {target!r}, which leaves the directory"
    if any(map(is_git_name, names)):
        return f"is a link to {target!r}, which belongs to the directory of a git repository"
    return None


def resolved_target_problem(root: Path, path: str, target: str) -> str | None:
    """Return why the existing links on the way to a target make it unsafe; ``None`` otherwise.

    Args:
        root: Local directory.
        path: Path of the link, in wire form.
        target: Target of the link, in wire form, which is safe by itself.
    """
    top = os.path.realpath(root)
    leads_to = os.path.realpath(Path(root, on_disk(path)).parent / on_disk(target))
    try:
        names = Path(leads_to).relative_to(top).parts
    except ValueError:
        return f"is a link to {target!r}, which leaves the directory through another link"
    if any(map(is_git_name, names)):
        return f"is a link to {target!r}, which leads to the directory of a git repository"
    return None
