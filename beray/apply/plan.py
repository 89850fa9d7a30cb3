"""Local changes that apply the differences between two checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from beray.apply.local_state import Signature
from beray.history_schema import FileState

Change = Literal["added", "modified", "deleted", "renamed"]


@dataclass(frozen=True)
class Conflict:
    """Reason why a change cannot be applied.

    Attributes:
        path: Path in wire form.
        reason: The reason as the rest of a sentence with the path as its subject.
        is_overwritable: True if ``force`` replaces the local file.
    """

    path: str
    reason: str
    is_overwritable: bool = False


@dataclass(frozen=True)
class AppliedChange:
    """Change of one path, for display.

    Attributes:
        path: Path in wire form.
        change: Kind of the change.
        old_path: Previous path of a renamed file.
        is_merged: True if the local file keeps changes of its own.
        is_overwritten: True if the local file had other changes, which are lost.
    """

    path: str
    change: Change
    old_path: str | None = None
    is_merged: bool = False
    is_overwritten: bool = False


@dataclass(frozen=True)
class FileWrite:
    """New content of a file.

    Attributes:
        path: Path in wire form.
        state: State in the checkpoint.
        mode: Permission bits; ``None`` for those of new files.
        data: The content if it was merged; ``None`` for that of the checkpoint.
        same_as: Path of a local file that has the content already.
    """

    path: str
    state: FileState
    mode: int | None
    data: bytes | None = None
    same_as: str | None = None


@dataclass
class ApplyPlan:
    """Local changes that apply a diff. All paths are in wire form.

    Attributes:
        root: Local directory.
        checkpoint: Checkpoint with the new contents.
        changes: Changes, sorted by path.
        unchanged: Paths that have the new state already.
        kept: Directories that the task deleted and that contain other files here.
        conflicts: Changes that cannot be applied. If there are any, nothing may be written.
        writes: New contents of files by path. They replace files and links.
        links: Targets of new links by path. They replace files and links.
        removals: Files and links to remove.
        removed_directories: Directories to remove after their entries.
        directories: Directories to create, with their modes.
        kept_directories: Directories that are not removed if they become empty.
        modes: Permission bits of existing files and directories to set.
        signatures: State of the paths when the plan was made.
    """

    root: Path
    checkpoint: str
    changes: list[AppliedChange] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    writes: dict[str, FileWrite] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    removals: set[str] = field(default_factory=set)
    removed_directories: set[str] = field(default_factory=set)
    directories: dict[str, int | None] = field(default_factory=dict)
    kept_directories: set[str] = field(default_factory=set)
    modes: dict[str, int] = field(default_factory=dict)
    signatures: dict[str, Signature] = field(default_factory=dict)


def parents(path: str) -> list[str]:
    """Return the paths of the directories above a path, from the top."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]
