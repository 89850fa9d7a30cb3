"""From a work_dir to a local folder, and from the server to stdout."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import requests

from beray import file_modes
from beray.body import Body
from beray.cli import output
from beray.cli.progress import Bars
from beray.client import BeRayClient
from beray.exceptions import InvalidResponseError
from beray.local_names import LocalNames, local_path
from beray.partial import current_umask, refuse_existing
from beray.schema import FileItem

_BLOCK_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Plan:
    """The local folders to make, and the files of the work_dir with their local places.

    Attributes:
        modes: the permission bits of folders, where the server states them.
    """

    folders: list[Path]
    modes: dict[Path, int]
    files: list[tuple[str, Path]]


def plan(items: list[FileItem], folder: Path) -> Plan:
    """Decide where everything in a work_dir goes; nothing is written.

    Raises:
        InvalidResponseError: a name cannot be saved here, would leave the folder, or is the
            same as another one on this file system.
    """
    folders, files = [folder], []
    modes: dict[Path, int] = {}
    names = LocalNames()
    for item in items:
        path = item.get("path", item["name"])
        local = local_path(folder, path)
        is_folder = item["type"] == "directory"
        if (reason := names.add(path, is_folder=is_folder)) is not None:
            raise InvalidResponseError(
                f"{path!r} cannot be saved here: the name {reason}", body=path[:2048]
            )
        if is_folder:
            folders.append(local)
            if (mode := file_modes.parsed(item.get("mode"))) is not None:
                modes[local] = mode
        else:
            files.append((path, local))
    return Plan(folders, modes, files)


def fetch(client: BeRayClient, task_id: int, planned: Plan, bars: Bars, *, overwrite: bool) -> None:
    """Make the folders and download the files, each whole or not at all.

    New folders get their permission bits without those of the umask, once all is in them.

    Raises:
        FileExistsError: files are there, which it names, and nothing was downloaded.
    """
    refuse_existing(*(local for _, local in planned.files), overwrite=overwrite)
    new = [folder for folder in planned.folders if not folder.exists()]
    for folder in planned.folders:
        folder.mkdir(parents=True, exist_ok=True)
    for path, local in planned.files:
        local.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(task_id, path, local, overwrite=overwrite, transfer=bars(path))
    mask = current_umask(planned.folders[0])
    for folder in sorted(new, reverse=True):
        if (mode := planned.modes.get(folder)) is not None:
            file_modes.set_directory(folder, mode & ~mask)


def to_stdout(response: requests.Response, what: str) -> None:
    """Write a body to stdout: its bytes to a pipe, its printable text to a terminal."""
    blocks = _blocks(response, what)
    if not output.is_terminal(sys.stdout):
        output.raw(blocks)
        return
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    flow = output.Flow(redraws=False)
    for block in blocks:
        flow.write(decoder.decode(block))
    flow.write(decoder.decode(b"", final=True))
    flow.finish()


def _blocks(response: requests.Response, what: str) -> Iterator[bytes]:
    body = Body(response, what)
    try:
        yield from map(bytes, body.blocks(_BLOCK_BYTES, None))
    finally:
        body.close()
