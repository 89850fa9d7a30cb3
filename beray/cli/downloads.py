"""Downloads of a work_dir to a local directory, and of single files to stdout."""

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
from beray.cli.progress import StartBar
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
_MIN_ZIP_FILES: Final = 20
"""Minimum number of small files that are downloaded as one ZIP archive."""
SMALL_BYTES: Final = 1024**2
"""Maximum size of a file that is downloaded in a ZIP archive."""
BATCH_FILES: Final = 1000
BATCH_BYTES: Final = 64 * 1024**2
_LISTABLE: Final = stat.S_IRUSR | stat.S_IXUSR


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """File in a work_dir. ``size`` is None if the server does not report it."""

    path: str
    size: int | None


@dataclass(frozen=True)
class DownloadPlan:
    """Files and directories to download.

    Attributes:
        target: Local directory for all of them.
        directories: Paths in the work_dir, with the permission bits if the server reports them.
        files: Files in the work_dir.
    """

    target: Path
    directories: dict[str, int | None]
    files: list[RemoteFile]

    def local(self, path: str) -> Path:
        """Return the local path for a file or directory of the work_dir."""
        return local_path(self.target, path)


def plan_download(items: Iterable[FileItem], target: Path) -> DownloadPlan:
    """Map a listing of a work_dir to local paths, without writing anything.

    Raises:
        InvalidResponseError: A name is invalid on this system, points outside ``target``, or is
            equal to another name on this file system.
    """
    planned = DownloadPlan(target, {}, [])
    names = LocalNames()
    for item in items:
        path = item.get("path", item["name"])
        planned.local(path)
        is_directory = item["type"] == "directory"
        if (reason := names.add(path, is_directory=is_directory)) is not None:
            raise InvalidResponseError(
                f"{path!r} cannot be saved here: the name {reason}", body=path[:2048]
            )
        if is_directory:
            planned.directories[path] = file_modes.parse(item.get("mode"))
        else:
            planned.files.append(RemoteFile(path, size_of(item)))
    return planned


def download_all(
    client: BeRayClient,
    task_id: int,
    planned: DownloadPlan,
    start_bar: StartBar,
    *,
    overwrite: bool,
) -> None:
    """Create the directories and download the files, each completely or not at all.

    Small files are downloaded in ZIP archives. If an archive fails, its files are downloaded one
    by one, so that the error names a file and all others are saved. New directories get their
    permission bits after their files.

    Raises:
        FileExistsError: Some files exist (the message names one); nothing was downloaded.
        TransferError: The server cannot read some files or directories. All others were saved.
    """
    require_absent(*(planned.local(file.path) for file in planned.files), overwrite=overwrite)
    planned.target.mkdir(parents=True, exist_ok=True)
    new = [path for path in planned.directories if not planned.local(path).exists()]
    for path in planned.directories:
        planned.local(path).mkdir(parents=True, exist_ok=True)
    failures = _unreadable_directories(client, task_id, planned)
    for batch in batches(planned.files):
        paths = [file.path for file in batch]
        if len(paths) >= _MIN_ZIP_FILES and _download_as_zip(
            client, task_id, paths, planned.target, start_bar, overwrite=overwrite
        ):
            continue
        for path in paths:
            local = planned.local(path)
            local.parent.mkdir(parents=True, exist_ok=True)
            try:
                client.download_file(
                    task_id, path, local, overwrite=overwrite, transfer=start_bar(path)
                )
            except UnprocessableEntityError as error:
                failures[path] = error
    for path in sorted(new, reverse=True):
        if (mode := planned.directories[path]) is not None:
            file_modes.set_directory_mode(planned.local(path), mode)
    if failures:
        first = next(iter(failures.values()))
        total = len(planned.files) + len(planned.directories)
        raise TransferError(
            f"{len(failures)} of {total} files and directories could not be downloaded: "
            f"{first.error_detail or first}; the others are in {planned.target}"
        ) from first


def _unreadable_directories(
    client: BeRayClient, task_id: int, planned: DownloadPlan
) -> dict[str, APIError]:
    """Return the directories that are listed as empty because the server cannot read them."""
    parents = {path.rpartition("/")[0] for path in planned.directories}
    parents.update(file.path.rpartition("/")[0] for file in planned.files)
    found: dict[str, APIError] = {}
    for path, mode in planned.directories.items():
        if path not in parents and mode is not None and mode & _LISTABLE != _LISTABLE:
            try:
                client.list_files_page(task_id, path, limit=1)
            except UnprocessableEntityError as error:
                found[path] = error
    return found


def batches(files: Iterable[RemoteFile]) -> Iterator[list[RemoteFile]]:
    """Yield small files in batches and all others singly, so that their download can resume."""
    batch: list[RemoteFile] = []
    size = 0
    for file in files:
        if file.size is None or file.size > SMALL_BYTES:
            yield [file]
            continue
        if len(batch) == BATCH_FILES or size + file.size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _download_as_zip(
    client: BeRayClient,
    task_id: int,
    paths: list[str],
    target: Path,
    start_bar: StartBar,
    *,
    overwrite: bool,
) -> bool:
    """Download files in one ZIP archive; return False, without any change, if that fails."""
    with tempfile.TemporaryDirectory(prefix="beray-") as scratch:
        archive = Path(scratch, "files.zip")
        try:
            client.download_zip(task_id, archive, paths, transfer=start_bar(f"{len(paths)} files"))
            with archive.open("rb") as file:
                # Published servers may use different names for the members.
                if not _contains(file, paths):
                    return False
                extract_archive(file, target, overwrite=overwrite)
        except TransferCancelled:
            raise
        except (APIError, TransferError):
            return False
    return True


def _contains(archive: BinaryIO, paths: list[str]) -> bool:
    try:
        with zipfile.ZipFile(archive) as opened:
            names = {info.filename for info in opened.infolist() if not info.is_dir()}
    except (zipfile.BadZipFile, ValueError, OSError):
        return False
    return names == set(paths)


def to_stdout(response: requests.Response, name: str) -> None:
    """Write a response body to stdout: unchanged to a pipe, as sanitized text to a terminal.

    Args:
        response: Response that was requested with ``stream=True``.
        name: Name of the content for error messages.
    """
    blocks = _blocks(response, name)
    if not output.is_terminal(sys.stdout):
        output.write_bytes(blocks)
        return
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    writer = output.TextWriter(redraws=False)
    for block in blocks:
        writer.write(decoder.decode(block))
    writer.write(decoder.decode(b"", final=True))
    writer.finish()


def _blocks(response: requests.Response, name: str) -> Iterator[bytes]:
    body = ResponseBody(response, name)
    try:
        yield from map(bytes, body.blocks(_BLOCK_BYTES, None))
    finally:
        body.close()
