"""Methods of ``BeRayClient`` for the files of a task.

Source: the BeRay API v1 wire page.
"""

from __future__ import annotations

import mimetypes
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import requests

from beray import schema
from beray.exceptions import APIError, InvalidArgument, UnprocessableEntityError
from beray.http.connection import CancelToken
from beray.http.transport import Transport, quote_path_segment
from beray.schema import FileItem, FilePage, UploadedFile
from beray.transfers import digest, file_modes
from beray.transfers.download import download
from beray.transfers.local_names import on_wire
from beray.transfers.transfer import Transfer
from beray.transfers.upload import (
    ChunkedUploadBody,
    UploadBody,
    guard_transfer_errors,
    open_for_upload,
)
from beray.transfers.wire_names import to_wire_name

if TYPE_CHECKING:
    from beray.transfers.sync_folder import UploadedFolder


_PAGE_ENTRIES: Final = 10_000
"""Number of entries requested per page; servers may return fewer, or ignore it."""


class TaskFilesMixin:
    """Methods of ``BeRayClient`` for listing, uploading and downloading files.

    Paths are relative to the work_dir. They are accepted in the form in which listings and events
    contain them, where bytes that are not UTF-8 are escaped (see
    :mod:`beray.transfers.wire_names`), and in the form in which Python lists local files.
    """

    _transport: Transport

    # Listings

    def list_files_tree(
        self, task_id: int | str, path: str = ".", *, depth: int | None = None
    ) -> list[FileItem]:
        """Return all files and directories below a directory of the work_dir, sorted by path.

        Args:
            task_id: Id of the task.
            path: Path of the directory.
            depth: Number of levels; 1 for the entries of the directory itself.

        Raises:
            InvalidArgument: ``depth`` is not positive.
            NotFoundError: The task or the directory does not exist.
        """
        if depth is None:
            # The published request first, because published servers support no other.
            try:
                return list(self._iter_tree(task_id, path, limit=None))
            except UnprocessableEntityError:
                # Usually too many entries for one response; other errors occur again.
                return list(self._iter_tree(task_id, path))
        return list(self._iter_tree(task_id, path, depth=_checked_depth(depth)))

    def iter_files(
        self, task_id: int | str, path: str = ".", *, depth: int | None = None
    ) -> Iterator[FileItem]:
        """Yield the entries of ``list_files_tree``, with only one page in memory at a time.

        Entries that exist during the whole iteration are neither repeated nor skipped, even if
        others are added or deleted meanwhile.

        Args:
            task_id: Id of the task.
            path: Path of the directory.
            depth: Number of levels; 1 for the entries of the directory itself.

        Raises:
            InvalidArgument: ``depth`` is not positive.
            NotFoundError: The task or the directory does not exist; raised by the iteration.
        """
        return self._iter_tree(task_id, path, depth=_checked_depth(depth))

    def list_files_page(
        self,
        task_id: int | str,
        path: str = ".",
        *,
        depth: int | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> FilePage:
        """Return one page of the entries of ``list_files_tree``.

        A server that does not support pages returns all entries, regardless of ``limit``.

        Args:
            task_id: Id of the task.
            path: Path of the directory.
            depth: Number of levels; 1 for the entries of the directory itself.
            limit: Maximum number of entries; the server may apply a lower one.
            after: ``after`` of the previous page; ``None`` for the first page.

        Raises:
            InvalidArgument: ``depth`` is not positive.
            NotFoundError: The task or the directory does not exist.
            UnprocessableEntityError: ``after`` is not a position, or ``limit`` is not positive.
        """
        params = _tree_params(path, _checked_depth(depth), limit, after)
        url_path = self._files_path(task_id, "tree")
        items, following = self._transport.page(schema.FILE_ITEMS, url_path, params)
        return FilePage(_limit_depth(items, path, depth), (following or {}).get("after"))

    # Contents in memory

    def get_file_content(
        self, task_id: int | str, path: str, *, stream: bool = False
    ) -> requests.Response:
        """Return the response whose ``content`` is a file.

        Args:
            task_id: Id of the task.
            path: Path of the file.
            stream: True leaves the body to be read, and closed, by the caller.

        Raises:
            NotFoundError: The task or the file does not exist.
            ResponseTooLarge: The file is larger than ``max_memory_bytes``; not with ``stream``.
        """
        return self._get_content(task_id, path, stream=stream)

    def download_files_as_zip(
        self, task_id: int | str, paths: Iterable[str] | None = None, *, stream: bool = False
    ) -> requests.Response:
        """Return the response whose ``content`` is a ZIP archive of files.

        Args:
            task_id: Id of the task.
            paths: Paths of files and directories; ``None`` for the whole work_dir.
            stream: True leaves the body to be read, and closed, by the caller.

        Raises:
            InvalidArgument: ``paths`` is a string instead of a list.
            NotFoundError: The task or a path does not exist.
            ResponseTooLarge: The archive is larger than ``max_memory_bytes``; not with ``stream``.
        """
        return self._get_archive(task_id, paths, stream=stream)

    def upload_file(
        self,
        task_id: int | str,
        path: str,
        content: str | bytes | BinaryIO,
        content_type: str | None = None,
        *,
        mode: int | None = None,
    ) -> UploadedFile:
        """Write a file to the work_dir, replacing an existing one.

        Args:
            task_id: Id of the task.
            path: Path of the file.
            content: Bytes, a binary file, or a string, which is encoded as UTF-8.
            content_type: Media type; ``None`` derives it from the name.
            mode: Permission bits, such as ``0o755``. If omitted, a replaced file keeps its own.
                BeRay extension: other servers ignore it.

        Raises:
            InvalidArgument: ``content`` has another type, or is a file opened in text mode.
            NotFoundError: The task does not exist.
        """
        body = _request_body(content)
        return self._put_content(task_id, path, body, Transfer(), content_type, mode)

    def create_directory(
        self, task_id: int | str, path: str, mode: int | None = None
    ) -> UploadedFile:
        """Create a directory and its parents in the work_dir. BeRay extension.

        Args:
            task_id: Id of the task.
            path: Path of the directory.
            mode: Permission bits. If omitted, an existing directory keeps its own.

        Raises:
            NotFoundError: The task does not exist, or the server does not support this request.
            APIError: The server does not support this request (405).
        """
        return self._put_directory(task_id, path, mode)

    # Transfers to and from local files

    def download_file(
        self,
        task_id: int | str,
        path: str,
        target: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        verify: bool = False,
        transfer: Transfer | None = None,
    ) -> Path:
        """Download a file to ``target``, where it appears only when it is complete.

        An interrupted download is resumed, also by a later call; see
        :func:`beray.transfers.download.download`.

        Args:
            task_id: Id of the task.
            path: Path of the file.
            target: Local path to write to.
            overwrite: Replace an existing file.
            verify: Check the SHA-256 of the file, which is requested from the server.
            transfer: Reports progress and cancels the download.

        Returns:
            The local path.

        Raises:
            FileExistsError: ``target`` exists and ``overwrite`` is False.
            IsADirectoryError: ``target`` is a directory.
            FileNotFoundError: The directory of ``target`` does not exist.
            NotFoundError: The task or the file does not exist.
            TransferError: The file could not be downloaded completely, or is not intact.
            TransferCancelled: ``transfer`` was cancelled.
        """
        handle = transfer or Transfer()
        return download(
            lambda headers: self._get_content(
                task_id, path, headers=headers, stream=True, cancel=handle.cancel_token
            ),
            target,
            source=f"{self._transport.base_url} {task_id} {path}",
            overwrite=overwrite,
            verify=verify,
            transfer=handle,
        )

    def download_zip(
        self,
        task_id: int | str,
        target: str | os.PathLike[str],
        paths: Iterable[str] | None = None,
        *,
        overwrite: bool = False,
        transfer: Transfer | None = None,
    ) -> Path:
        """Download a ZIP archive of files to ``target``, where it appears when it is complete.

        Args:
            task_id: Id of the task.
            target: Local path to write to.
            paths: Paths of files and directories; ``None`` for the whole work_dir.
            overwrite: Replace an existing file.
            transfer: Reports progress and cancels the download.

        Returns:
            The local path.

        Raises:
            FileExistsError: ``target`` exists and ``overwrite`` is False.
            InvalidArgument: ``paths`` is a string instead of a list.
            NotFoundError: The task or a path does not exist.
            TransferError: The archive could not be downloaded completely.
            TransferCancelled: ``transfer`` was cancelled.
        """
        handle = transfer or Transfer()
        return download(
            lambda headers: self._get_archive(
                task_id, paths, headers=headers, stream=True, cancel=handle.cancel_token
            ),
            target,
            source=f"{self._transport.base_url} {task_id} zip",
            overwrite=overwrite,
            repeatable=False,
            transfer=handle,
        )

    def download_dir(
        self,
        task_id: int | str,
        target: str | os.PathLike[str],
        paths: Iterable[str] | None = None,
        *,
        overwrite: bool = False,
        max_bytes: int | None = None,
        transfer: Transfer | None = None,
    ) -> Path:
        """Download files into a local directory: all of them, or none.

        Args:
            task_id: Id of the task.
            target: Local directory, which is created if it does not exist.
            paths: Paths of files and directories; ``None`` for the whole work_dir.
            overwrite: Replace existing files.
            max_bytes: Maximum size of all files together, in bytes; 16 GiB by default.
            transfer: Reports progress and cancels the download.

        Returns:
            The local directory.

        Raises:
            FileExistsError: Files exist in ``target`` and ``overwrite`` is False.
            NotADirectoryError: ``target`` is a file.
            InvalidArgument: ``paths`` is a string instead of a list.
            NotFoundError: The task or a path does not exist.
            TransferError: The download or the extraction failed; see
                :func:`beray.transfers.archive.extract_archive`.
            TransferCancelled: ``transfer`` was cancelled.
        """
        from beray.transfers import archive

        archive.check_target_directory(target)
        limit = archive.MAX_BYTES if max_bytes is None else max_bytes
        with tempfile.TemporaryDirectory(prefix="beray-") as directory:
            zip_path = Path(directory, "files.zip")
            self.download_zip(task_id, zip_path, paths, transfer=transfer)
            with zip_path.open("rb") as file:
                return archive.extract_archive(
                    file, target, overwrite=overwrite, max_bytes=limit, transfer=transfer
                )

    def upload_path(
        self,
        task_id: int | str,
        local: str | os.PathLike[str],
        path: str | None = None,
        *,
        transfer: Transfer | None = None,
    ) -> UploadedFile:
        """Upload a local file, with its permission bits, without reading it into memory.

        Args:
            task_id: Id of the task.
            local: Path of the local file.
            path: Path in the work_dir; ``None`` for the name of the local file.
            transfer: Reports progress and cancels the upload.

        Raises:
            OSError: The local file cannot be read.
            InvalidArgument: The local path is not a regular file.
            NotFoundError: The task does not exist.
            TransferError: The local file became shorter during the upload.
            TransferCancelled: ``transfer`` was cancelled.
        """
        with open_for_upload(local) as file:
            name = path or on_wire(Path(local).name)
            handle = transfer or Transfer()
            body = UploadBody(file, handle)
            mode = file_modes.of_local_path(local)
            return self._put_content(task_id, name, body, handle, mode=mode)

    def upload_dir(
        self,
        task_id: int | str,
        folder: str | os.PathLike[str],
        path: str = ".",
        *,
        include: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        transfer: Transfer | None = None,
    ) -> UploadedFolder:
        """Upload the new and changed files of a local directory, with their permission bits.

        Args:
            task_id: Id of the task.
            folder: Local directory.
            path: Path in the work_dir below which the files are put.
            include: Shell patterns of files to upload; ``None`` for all. A pattern with a ``/``
                matches the path below ``folder``, any other the name of a file or of a directory
                above it.
            exclude: Shell patterns of files to omit.
            transfer: Reports progress and cancels the upload.

        Returns:
            The paths that were uploaded, were unchanged, or were left out.

        Raises:
            NotADirectoryError: ``folder`` is not a directory.
            OSError: A local file or directory cannot be read.
            InvalidArgument: ``include`` or ``exclude`` is a string instead of a list, or ``path``
                is absolute or contains ``..``.
            NotFoundError: The task does not exist.
            TransferCancelled: ``transfer`` was cancelled.
        """
        from beray.transfers.sync_folder import upload_folder

        handle = transfer or Transfer()
        work_dir = _TaskDirectory(self, task_id, handle.cancel_token)
        return upload_folder(
            work_dir, folder, path, include=include, exclude=exclude, transfer=handle
        )

    # Requests

    def _iter_tree(
        self,
        task_id: int | str,
        path: str,
        *,
        depth: int | None = None,
        limit: int | None = _PAGE_ENTRIES,
        **options: Any,
    ) -> Iterator[FileItem]:
        url_path = self._files_path(task_id, "tree")
        params = _tree_params(path, depth, limit)
        for page in self._transport.pages(schema.FILE_ITEMS, url_path, params, **options):
            yield from _limit_depth(page, path, depth)

    def _put_content(
        self,
        task_id: int | str,
        path: str,
        body: Any,
        transfer: Transfer,
        content_type: str | None = None,
        mode: int | None = None,
    ) -> UploadedFile:
        guessed_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
        with guard_transfer_errors(transfer):
            return self._transport.json(
                schema.UPLOADED_FILE,
                "PUT",
                self._files_path(task_id, "content"),
                params={"path": to_wire_name(path)},
                data=body,
                headers={"Content-Type": content_type or guessed_type} | file_modes.header(mode),
                cancel=transfer.cancel_token,
            )

    def _put_directory(
        self, task_id: int | str, path: str, mode: int | None, **options: Any
    ) -> UploadedFile:
        return self._transport.json(
            schema.UPLOADED_FILE,
            "PUT",
            self._files_path(task_id, "directory"),
            params={"path": to_wire_name(path)},
            headers=file_modes.header(mode),
            **options,
        )

    def _get_archive(
        self, task_id: int | str, paths: Iterable[str] | None, **options: Any
    ) -> requests.Response:
        if isinstance(paths, (str, bytes)):
            raise InvalidArgument(f"paths must be a list of paths, got {paths!r}")
        body = {"paths": [to_wire_name(path) for path in paths or ()]}
        return self._transport.request(
            "POST", self._files_path(task_id, "download"), json=body, **options
        )

    def _get_content(self, task_id: int | str, path: str, **options: Any) -> requests.Response:
        params = {"path": to_wire_name(path)}
        url_path = self._files_path(task_id, "content")
        return self._transport.request("GET", url_path, params=params, **options)

    @staticmethod
    def _files_path(task_id: int | str, resource: str) -> str:
        return f"/tasks/{quote_path_segment(task_id)}/files/{resource}"


def _checked_depth(depth: int | None) -> int | None:
    if depth is not None and depth < 1:
        raise InvalidArgument(f"depth must be at least 1, got {depth!r}")
    return depth


def _tree_params(
    path: str, depth: int | None, limit: int | None, after: str | None = None
) -> dict[str, Any]:
    params = {"path": to_wire_name(path), "depth": depth, "limit": limit, "after": after}
    return {name: value for name, value in params.items() if value is not None}


def _limit_depth(items: list[FileItem], path: str, depth: int | None) -> list[FileItem]:
    """Return the items of the first ``depth`` levels, as the server may have ignored it."""
    if depth is None:
        return items
    base_level = sum(part not in ("", ".") for part in path.split("/"))
    return [
        item for item in items if item.get("path", item["name"]).count("/") - base_level < depth
    ]


def _request_body(content: str | bytes | BinaryIO) -> Any:
    """Return the request body for ``content``; a seekable file can be sent again in a retry.

    Raises:
        InvalidArgument: ``content`` is not a string, bytes or a file.
    """
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content)
    if not hasattr(content, "read"):
        raise InvalidArgument(
            f"the content must be a string, bytes or a file, not {type(content).__name__}"
        )
    if hasattr(content, "seekable") and content.seekable():
        return UploadBody(content, Transfer())
    return ChunkedUploadBody(content)


@dataclass(frozen=True)
class _TaskDirectory:
    """Work_dir of one task; implements ``beray.transfers.sync_folder.RemoteDirectory``."""

    client: TaskFilesMixin
    task_id: int | str
    cancel: CancelToken

    def tree(self, path: str) -> Iterator[FileItem]:
        return self.client._iter_tree(self.task_id, path, cancel=self.cancel)

    def make_directory(self, path: str, mode: int | None) -> UploadedFile:
        return self.client._put_directory(self.task_id, path, mode, cancel=self.cancel)

    def sha256(self, path: str) -> bytes | None:
        # A range of one byte, because only the headers are needed.
        headers = digest.WANT_SHA256 | {"Range": "bytes=0-0"}
        try:
            with self.client._get_content(
                self.task_id, path, headers=headers, stream=True, cancel=self.cancel
            ) as response:
                return digest.sha256_from_headers(response.headers)
        except APIError as error:
            if error.status_code == 416:
                return None
            raise

    def upload(self, local: Path, path: str, transfer: Transfer) -> UploadedFile:
        return self.client.upload_path(self.task_id, local, path, transfer=transfer)
