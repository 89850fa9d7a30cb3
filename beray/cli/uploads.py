"""From local files and folders to paths in a work_dir."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from beray.cli import output
from beray.cli.progress import Bars
from beray.client import BeRayClient
from beray.exceptions import ConfigurationError
from beray.schema import UploadedFile
from beray.transfers import file_modes
from beray.transfers.local_names import on_wire
from beray.transfers.sync_folder import UploadDirectory, create_directories


@dataclass(frozen=True)
class Upload:
    """A local file and the path in the work_dir that it gets."""

    local: Path
    path: str


@dataclass
class Plan:
    """What is uploaded, and what a folder holds besides and cannot be."""

    uploads: list[Upload] = field(default_factory=list)
    folders: list[UploadDirectory] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    taken: dict[str, Path] = field(default_factory=dict)
    """The local file of each path that is uploaded."""


def plan(locals_: Sequence[Path], to: str | None = None) -> Plan:
    """Decide where each local file goes; nothing is sent.

    A file keeps its name, a folder its name and the names below it. ``to`` is a folder
    of the work_dir where it ends in "/" or several are given, else the name of the one.

    Raises:
        ConfigurationError: something is missing or unreadable, is neither file nor
            folder, or would replace another of them.
    """
    result = Plan()
    exact = to is not None and not to.endswith("/") and len(locals_) == 1
    prefix = "" if exact or not to else f"{to.rstrip('/')}/".lstrip("/")
    for local in locals_:
        # A path such as "." has no name: what is in it goes straight into the prefix.
        name = to or "" if exact else prefix + on_wire(local.name).removeprefix("..")
        if local.is_file():
            _add(result, local, name)
        elif local.is_dir():
            _add_folder(result, local, name.rstrip("/"))
        elif os.path.lexists(local):
            raise ConfigurationError(f"{local} is neither a file nor a folder")
        else:
            raise ConfigurationError(f"{local}: no such file or folder")
    return result


def send(client: BeRayClient, task_id: int, planned: Plan, bars: Bars) -> list[UploadedFile]:
    """Upload each file, create the folders, and return the server's answers for the files."""
    answers = [
        client.upload_path(task_id, upload.local, upload.path, transfer=bars(upload.path))
        for upload in planned.uploads
    ]
    left_out = create_directories(
        planned.folders,
        [upload.path for upload in planned.uploads],
        partial(client.create_directory, task_id),
        lambda: answers or client.list_files_tree(task_id),
    )
    for path in left_out:
        output.note(f"-- not uploaded: {path} is an empty folder, which this server cannot create")
    return answers


def _add_folder(result: Plan, folder: Path, name: str) -> None:
    for current, folders, names in os.walk(folder, onerror=_raise):
        folders.sort()
        here = Path(current)
        below = "" if here == folder else on_wire(here.relative_to(folder))
        if path := "/".join(filter(None, (name, below))):
            result.folders.append(UploadDirectory(path, file_modes.of_local_path(here)))
        for entry in sorted(names):
            local = here / entry
            if local.is_file():
                below = on_wire(local.relative_to(folder))
                _add(result, local, f"{name}/{below}" if name else below)
            else:
                result.left_out.append(f"{local} is not a file")
        result.left_out += [
            f"{here / entry} is a link to a folder"
            for entry in folders
            if (here / entry).is_symlink()
        ]


def _add(result: Plan, local: Path, path: str) -> None:
    if not os.access(local, os.R_OK):
        raise ConfigurationError(f"{local} cannot be read")
    if (other := result.taken.setdefault(path, local)) is not local:
        raise ConfigurationError(f"{other} and {local} would both become {path}")
    result.uploads.append(Upload(local, path))


def _raise(error: OSError) -> None:
    raise error
