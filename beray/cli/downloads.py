"""From a work_dir to a local folder, and from the server to stdout."""

from __future__ import annotations

import codecs
import stat
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import requests

from beray.cli import output
from beray.cli.progress import Bars
from beray.client import BeRayClient
from beray.exceptions import (
    APIError,
    InvalidResponseError,
    TransferCancelled,
    TransferError,
    UnprocessableEntityError,
)
from beray.http.response_body import ResponseBody
from beray.schema import FileItem, size_of
from beray.transfers import file_modes
from beray.transfers.archive import extract_archive
from beray.transfers.local_files import require_absent
from beray.transfers.local_names import LocalNames, local_path

_BLOCK_BYTES: Final = 64 * 1024
_FEW_FILES: Final = 20
"""Number of small files from which on they are downloaded together."""
_SMALL_BYTES: Final = 1024**2
_BATCH_FILES: Final = 1000
_BATCH_BYTES: Final = 64 * 1024**2
_LISTABLE: Final = stat.S_IRUSR | stat.S_IXUSR


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of the work_dir; ``size`` is ``None`` if the server does not name it."""

    path: str
    size: int | None


@dataclass(frozen=True)
class Plan:
    """The local folder, the folders to make in it, and the files that go there.

    Attributes:
        folders: paths, with the permission bits where the server states them.
    """

    folder: Path
    folders: dict[str, int | None]
    files: list[RemoteFile]

    def local(self, path: str) -> Path:
        """Return the local place of a file or folder of the work_dir."""
        return local_path(self.folder, path)


def plan(items: Iterable[FileItem], folder: Path) -> Plan:
    """Decide where everything in a work_dir goes; nothing is written.

    Raises:
        InvalidResponseError: a name cannot be saved here, would leave the folder, or is the
            same as another one on this file system.
    """
    planned = Plan(folder, {}, [])
    names = LocalNames()
    for item in items:
        path = item.get("path", item["name"])
        planned.local(path)
        is_folder = item["type"] == "directory"
        if (reason := names.add(path, is_directory=is_folder)) is not None:
            raise InvalidResponseError(
                f"{path!r} cannot be saved here: the name {reason}", body=path[:2048]
            )
        if is_folder:
            planned.folders[path] = file_modes.parse(item.get("mode"))
        else:
            planned.files.append(RemoteFile(path, size_of(item)))
    return planned


def fetch(client: BeRayClient, task_id: int, planned: Plan, bars: Bars, *, overwrite: bool) -> None:
    """Make the folders and download the files, each whole or not at all.

    Many small files are downloaded together. What cannot be downloaded together is downloaded
    alone, so that the error names one file and the others are there. New folders get their
    permission bits once all is in them.

    Raises:
        FileExistsError: files are there, which it names, and nothing was downloaded.
        TransferError: the server cannot read some of the files or folders. All others are there.
    """
    require_absent(*(planned.local(file.path) for file in planned.files), overwrite=overwrite)
    planned.folder.mkdir(parents=True, exist_ok=True)
    new = [path for path in planned.folders if not planned.local(path).exists()]
    for path in planned.folders:
        planned.local(path).mkdir(parents=True, exist_ok=True)
    refused = _unreadable(client, task_id, planned)
    for batch in _batches(planned.files):
        paths = [file.path for file in batch]
        if len(paths) >= _FEW_FILES and _fetch_together(
            client, task_id, paths, planned.folder, bars, overwrite=overwrite
        ):
            continue
        for path in paths:
            local = planned.local(path)
            local.parent.mkdir(parents=True, exist_ok=True)
            try:
                client.download_file(task_id, path, local, overwrite=overwrite, transfer=bars(path))
            except UnprocessableEntityError as error:
                refused[path] = error
    for path in sorted(new, reverse=True):
        if (mode := planned.folders[path]) is not None:
            file_modes.set_directory_mode(planned.local(path), mode)
    if refused:
        first = next(iter(refused.values()))
        total = len(planned.files) + len(planned.folders)
        raise TransferError(
            f"{len(refused)} of {total} files and folders could not be downloaded: "
            f"{first.error_detail or first}; the others are in {planned.folder}"
        ) from first


def _unreadable(client: BeRayClient, task_id: int, planned: Plan) -> dict[str, APIError]:
    """Return the folders that are listed as empty because the server cannot read them."""
    above = {path.rpartition("/")[0] for path in planned.folders}
    above.update(file.path.rpartition("/")[0] for file in planned.files)
    found: dict[str, APIError] = {}
    for path, mode in planned.folders.items():
        if path not in above and mode is not None and mode & _LISTABLE != _LISTABLE:
            try:
                client.list_files_page(task_id, path, limit=1)
            except UnprocessableEntityError as error:
                found[path] = error
    return found


def _batches(files: Iterable[RemoteFile]) -> Iterator[list[RemoteFile]]:
    """Yield small files in batches, and every other one alone: a large one can be resumed."""
    batch: list[RemoteFile] = []
    size = 0
    for file in files:
        if file.size is None or file.size > _SMALL_BYTES:
            yield [file]
            continue
        if len(batch) == _BATCH_FILES or size + file.size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _fetch_together(
    client: BeRayClient,
    task_id: int,
    paths: list[str],
    folder: Path,
    bars: Bars,
    *,
    overwrite: bool,
) -> bool:
    """Download files as one ZIP; return False, with nothing changed, if that is not possible."""
    with tempfile.TemporaryDirectory(prefix="beray-") as scratch:
        archive = Path(scratch, "files.zip")
        try:
            client.download_zip(task_id, archive, paths, transfer=bars(f"{len(paths)} files"))
            with archive.open("rb") as file:
                # Published servers may name the members in another way.
                if not _holds(file, paths):
                    return False
                extract_archive(file, folder, overwrite=overwrite)
        except TransferCancelled:
            raise
        except (APIError, TransferError):
            return False
    return True


def _holds(archive: BinaryIO, paths: list[str]) -> bool:
    try:
        with zipfile.ZipFile(archive) as opened:
            names = {info.filename for info in opened.infolist() if not info.is_dir()}
    except (zipfile.BadZipFile, ValueError, OSError):
        return False
    return names == set(paths)


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
    body = ResponseBody(response, what)
    try:
        yield from map(bytes, body.blocks(_BLOCK_BYTES, None))
    finally:
        body.close()
