"""From a work_dir to a local folder, and from the server to stdout."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import requests

from beray.body import Body
from beray.cli import output
from beray.cli.progress import Bars
from beray.client import BeRayClient
from beray.exceptions import InvalidResponseError
from beray.local_names import LocalNames, local_path
from beray.partial import refuse_existing
from beray.schema import FileItem

_BLOCK_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Plan:
    """The local folders to make, and the files of the work_dir with their local places."""

    folders: list[Path]
    files: list[tuple[str, Path]]


def plan(items: list[FileItem], folder: Path) -> Plan:
    """Decide where everything in a work_dir goes; nothing is written.

    Raises:
        InvalidResponseError: a name cannot be saved here, would leave the folder, or is the
            same as another one on this file system.
    """
    folders, files = [folder], []
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
        else:
            files.append((path, local))
    return Plan(folders, files)


def fetch(client: BeRayClient, task_id: int, planned: Plan, bars: Bars, *, overwrite: bool) -> None:
    """Make the folders and download the files, each whole or not at all.

    Raises:
        FileExistsError: files are there, which it names, and nothing was downloaded.
    """
    refuse_existing(*(local for _, local in planned.files), overwrite=overwrite)
    for folder in planned.folders:
        folder.mkdir(parents=True, exist_ok=True)
    for path, local in planned.files:
        local.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(task_id, path, local, overwrite=overwrite, transfer=bars(path))


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
