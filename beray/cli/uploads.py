"""Uploads of local files and directories to a work_dir, and attachments of messages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from beray.cli import output
from beray.cli.context import ServerConnection
from beray.cli.progress import StartBar, progress_bars
from beray.client import BeRayClient
from beray.exceptions import ConfigurationError
from beray.schema import MAX_ATTACHMENTS, UploadedFile
from beray.transfers import file_modes
from beray.transfers.local_names import on_wire
from beray.transfers.local_tree import LocalEntryKind, walk_local_tree
from beray.transfers.sync_folder import UploadDirectory, create_directories


@dataclass(frozen=True)
class PlannedUpload:
    """Local file and its path in the work_dir."""

    local: Path
    path: str


@dataclass
class UploadPlan:
    """Files and directories to upload.

    Attributes:
        uploads: Files.
        directories: Directories.
        skipped: Sentences about entries of local directories that cannot be uploaded.
        sources: Local file of each path in the work_dir.
    """

    uploads: list[PlannedUpload] = field(default_factory=list)
    directories: list[UploadDirectory] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    sources: dict[str, Path] = field(default_factory=dict)


def plan_uploads(locals_: Sequence[Path], to: str | None = None) -> UploadPlan:
    """Map local files to paths in the work_dir, without sending anything.

    Files keep their names; directories keep their names and structure.

    Args:
        locals_: Local files and directories.
        to: Target directory in the work_dir, if it ends with "/" or there are several
            ``locals_``; otherwise the path of the single file or directory.

    Raises:
        ConfigurationError: A path is missing, is unreadable, or is neither a file nor a
            directory; or two files would get the same path.
    """
    result = UploadPlan()
    exact = to is not None and not to.endswith("/") and len(locals_) == 1
    prefix = "" if exact or not to else f"{to.rstrip('/')}/".lstrip("/")
    for local in locals_:
        # A path such as "." has no name: its entries are placed directly below the prefix.
        name = to or "" if exact else prefix + on_wire(local.name).removeprefix("..")
        if local.is_file():
            _add_file(result, local, name)
        elif local.is_dir():
            _add_directory(result, local, name.rstrip("/"))
        elif os.path.lexists(local):
            raise ConfigurationError(f"{local} is neither a file nor a directory")
        else:
            raise ConfigurationError(f"{local}: no such file or directory")
    return result


def upload_all(
    client: BeRayClient, task_id: int, planned: UploadPlan, start_bar: StartBar
) -> list[UploadedFile]:
    """Upload the files, create the directories, and return the server's responses for the files."""
    responses = [
        client.upload_path(task_id, upload.local, upload.path, transfer=start_bar(upload.path))
        for upload in planned.uploads
    ]
    not_created = create_directories(
        planned.directories,
        [upload.path for upload in planned.uploads],
        partial(client.create_directory, task_id),
        lambda: responses or client.list_files_tree(task_id),
    )
    for path in not_created:
        output.note(
            f"-- not uploaded: {path} is an empty directory, and this server cannot create it"
        )
    return responses


def plan_attachments(locals_: Sequence[Path]) -> UploadPlan:
    """Map local files to attachments of a message, without sending anything.

    Raises:
        ConfigurationError: See ``plan_uploads``; or there are more than ``MAX_ATTACHMENTS`` files.
    """
    planned = plan_uploads(locals_)
    if len(planned.uploads) > MAX_ATTACHMENTS:
        raise ConfigurationError(
            f"cannot attach {len(planned.uploads)} files: a message has at most "
            f"{MAX_ATTACHMENTS} attachments"
        )
    return planned


def upload_attachments(server: ServerConnection, task_id: int, planned: UploadPlan) -> list[str]:
    """Upload attachments and return their paths in the work_dir."""
    for reason in planned.skipped:
        output.note(f"-- not uploaded: {reason}")
    with progress_bars() as start_bar:
        upload_all(server.transfer_client, task_id, planned, start_bar)
    return [upload.path for upload in planned.uploads]


def _add_directory(result: UploadPlan, directory: Path, name: str) -> None:
    for entry in walk_local_tree(directory):
        path = "/".join(filter(None, (name, entry.remote)))
        match entry.kind:
            case LocalEntryKind.DIRECTORY if path:
                mode = file_modes.of_local_path(entry.path)
                result.directories.append(UploadDirectory(path, mode))
            case LocalEntryKind.FILE:
                _add_file(result, entry.path, path)
            case LocalEntryKind.DIRECTORY_LINK:
                result.skipped.append(f"{entry.path} is a symbolic link to a directory")
            case LocalEntryKind.SPECIAL:
                result.skipped.append(f"{entry.path} is not a file")


def _add_file(result: UploadPlan, local: Path, path: str) -> None:
    if not os.access(local, os.R_OK):
        raise ConfigurationError(f"{local} cannot be read: permission denied")
    if (other := result.sources.setdefault(path, local)) is not local:
        raise ConfigurationError(
            f"{other} and {local} would both be uploaded as {path}; upload them separately"
        )
    result.uploads.append(PlannedUpload(local, path))
