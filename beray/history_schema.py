"""Responses about the history of a work_dir as TypedDicts. BeRay extensions."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from typing_extensions import TypedDict  # required by pydantic before Python 3.12

from beray.schema import OR_NULL, ResponseSchema, lenient

CheckpointReason = Literal["start", "step", "upload", "end", "restore", "fork"]
"""Occasion of a checkpoint."""
FileChange = Literal["added", "modified", "deleted", "renamed"]
EntryType = Literal["file", "directory", "link", "special"]


@lenient
class Checkpoint(TypedDict):
    """State of a work_dir at one point of its task."""

    checkpoint: str
    """Name: ``c`` and a number that starts at 1 in each task."""
    seq: int
    """``seq`` of the last event before the checkpoint."""
    created_at: NotRequired[Annotated[str, OR_NULL]]
    """Time, UTC, ISO 8601."""
    reason: NotRequired[CheckpointReason | str]
    """Occasion."""
    files: NotRequired[int]
    """Number of files and links."""
    bytes: NotRequired[int]
    """Size of all files."""
    added: NotRequired[int]
    """Entries that were added since the previous checkpoint."""
    modified: NotRequired[int]
    """Entries that were modified since the previous checkpoint."""
    deleted: NotRequired[int]
    """Entries that were deleted since the previous checkpoint."""
    lines_added: NotRequired[int]
    """Lines of text that were added since the previous checkpoint; missing if not counted."""
    lines_deleted: NotRequired[int]
    """Lines of text that were deleted since the previous checkpoint; missing if not counted."""
    not_stored: NotRequired[int]
    """Number of files whose content is not stored because of a limit or an error."""


@lenient
class FileState(TypedDict):
    """File, directory or link in a checkpoint."""

    type: EntryType | str
    mode: NotRequired[str]
    """Permission bits in octal digits, such as ``644``."""
    size: NotRequired[int]
    """Size in bytes."""
    sha256: NotRequired[str]
    """SHA-256 of the content in hexadecimal; missing if the content is not stored."""
    target: NotRequired[str]
    """Target of a link."""


@lenient
class DiffHunk(TypedDict):
    """Changed lines of a file, with lines around them."""

    old_start: int
    """Number of the first line before the change; starts at 1, or 0 if there are no lines."""
    old_lines: int
    new_start: int
    new_lines: int
    lines: list[str]
    """Lines without their ends, after `` ``, ``-`` or ``+``. A line that starts with ``\\`` states
    that the line before it has no newline at its end."""


@lenient
class FileDiff(TypedDict):
    """Difference of one path between two checkpoints."""

    path: str
    """Path relative to the work_dir."""
    old_path: NotRequired[Annotated[str, OR_NULL]]
    """Previous path of a renamed file."""
    change: FileChange | str
    old: NotRequired[Annotated[FileState, OR_NULL]]
    """State before the change; missing if the path did not exist."""
    new: NotRequired[Annotated[FileState, OR_NULL]]
    """State after the change; missing if the path does not exist."""
    similarity: NotRequired[int]
    """Percentage of equal content of a renamed file."""
    binary: NotRequired[bool]
    """True if the content is not text."""
    hunks: NotRequired[list[DiffHunk]]
    """Differences of text; missing for binary and omitted content."""
    lines_added: NotRequired[int]
    lines_deleted: NotRequired[int]
    omitted: NotRequired[Annotated[str, OR_NULL]]
    """Reason why the differences of the content are missing."""


@lenient
class CheckpointPosition(TypedDict):
    """Name and ``seq`` of a checkpoint."""

    checkpoint: str
    seq: int


# "from" is not an identifier.
Diff = TypedDict(
    "Diff",
    {
        "from": CheckpointPosition,
        "to": CheckpointPosition,
        "files": list[FileDiff],
        "lines_added": NotRequired[int],
        "lines_deleted": NotRequired[int],
        "truncated": NotRequired[bool],
    },
)
"""Differences between two checkpoints of a task. ``truncated``: there are more files."""
lenient(Diff)


@lenient
class RestoredFile(TypedDict):
    """Change of one path by a restore."""

    path: str
    change: FileChange | str
    old: NotRequired[Annotated[FileState, OR_NULL]]
    new: NotRequired[Annotated[FileState, OR_NULL]]


@lenient
class RestoreResult(TypedDict):
    """Changes of a restore."""

    dry_run: bool
    """True if nothing was changed."""
    to: CheckpointPosition
    """State that was restored."""
    files: list[RestoredFile]
    """Changed paths."""
    before: NotRequired[Annotated[CheckpointPosition, OR_NULL]]
    """Checkpoint with the state before the restore."""
    checkpoint: NotRequired[Annotated[str, OR_NULL]]
    """New checkpoint; missing if nothing was changed."""


CHECKPOINTS: ResponseSchema[list[Checkpoint]] = ResponseSchema(list[Checkpoint], empty=list)
DIFF: ResponseSchema[Diff] = ResponseSchema(Diff)
RESTORE_RESULT: ResponseSchema[RestoreResult] = ResponseSchema(RestoreResult)
