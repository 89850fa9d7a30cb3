"""Interfaces to the checkpoints of a task, as a plan and its execution need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from beray.history_schema import DiffHunk


class CheckpointReader(Protocol):
    """Source of contents and directories. All paths are in wire form."""

    def read(self, checkpoint: str, path: str) -> bytes:
        """Return the content of a file."""
        ...

    def directories(
        self, checkpoint: str, path: str, *, recursive: bool
    ) -> Mapping[str, int | None]:
        """Return the modes of the directories in a directory; empty if it does not exist.

        Args:
            checkpoint: Name of the checkpoint.
            path: Path of the directory; "." for the work_dir.
            recursive: Include those further down.
        """
        ...

    def hunks(self, from_: str, to: str, paths: Sequence[str]) -> Sequence[DiffHunk]:
        """Return the changes of one text; empty if there are none.

        Args:
            from_: Checkpoint with the old content.
            to: Checkpoint with the new content.
            paths: Old path, if the file was renamed, and new path.
        """
        ...


@dataclass(frozen=True)
class StagedFile:
    """File of a checkpoint to write to a local path.

    Attributes:
        path: Path in the checkpoint, in wire form.
        size: Size in bytes; ``None`` if the server did not report it.
        target: Local path, which does not exist.
    """

    path: str
    size: int | None
    target: Path


class CheckpointFiles(Protocol):
    """Source of files."""

    def save(self, checkpoint: str, files: Sequence[StagedFile]) -> None:
        """Write files of a checkpoint to their local paths."""
        ...
