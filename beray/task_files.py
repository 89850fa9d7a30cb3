"""Requests for the files of tasks, and the work_dir as the target of a directory upload.

Source: the BeRay API v1 wire page.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import requests

from beray import schema
from beray.checkpoint_positions import checked_position
from beray.exceptions import APIError, InvalidArgument
from beray.http.connection import CancelToken
from beray.http.transport import Transport, quote_path_segment
from beray.schema import FileItem, FilePage, UploadedFile
from beray.transfers import digest, file_modes
from beray.transfers.transfer import Transfer
from beray.transfers.upload import (
    ChunkedUploadBody,
    UploadBody,
    guard_transfer_errors,
    open_for_upload,
)
from beray.transfers.wire_names import to_wire_name

_PAGE_ENTRIES: Final = 10_000
"""Number of entries requested per page; servers may return fewer, or ignore it."""


class TaskFiles:
    """Requests for the files of tasks, which ``BeRayClient`` composes to its methods.

    Args:
        transport: Sends the requests.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def tree(
        self,
        task_id: int | str,
        path: str,
        *,
        depth: int | None = None,
        page_entries: int | None = _PAGE_ENTRIES,
        at: int | str | None = None,
        **options: Any,
    ) -> Iterator[FileItem]:
        """Return an iterator over the entries below a directory, sorted by path.

        Args:
            task_id: Id of the task.
            path: Path of the directory.
            depth: Number of levels; ``None`` for all.
            page_entries: Number of entries per request; ``None`` leaves it to the server.
            at: Position in the history; ``None`` for the current files.
            options: Options of ``Transport.request``.

        Raises:
            InvalidArgument: ``depth`` is not positive, or ``at`` is not a position.
        """
        url_path = _files_path(task_id, "tree")
        params = _tree_params(path, depth, page_entries) | _at(at)
        pages = self._transport.pages(schema.FILE_ITEMS, url_path, params, **options)
        return (item for page in pages for item in _limit_depth(page, path, depth))

    def tree_page(
        self,
        task_id: int | str,
        path: str,
        *,
        depth: int | None,
        limit: int | None,
        after: str | None,
        at: int | str | None = None,
    ) -> FilePage:
        """Return one page of ``tree``; see ``BeRayClient.list_files_page``."""
        params = _tree_params(path, depth, limit, after) | _at(at)
        url_path = _files_path(task_id, "tree")
        items, following = self._transport.page(schema.FILE_ITEMS, url_path, params)
        return FilePage(_limit_depth(items, path, depth), (following or {}).get("after"))

    def content(
        self, task_id: int | str, path: str, *, at: int | str | None = None, **options: Any
    ) -> requests.Response:
        """Return the response with a file; ``options`` are those of ``Transport.request``.

        Raises:
            InvalidArgument: ``at`` is not a position.
        """
        params = {"path": to_wire_name(path)} | _at(at)
        url_path = _files_path(task_id, "content")
        return self._transport.request("GET", url_path, params=params, **options)

    def archive(
        self,
        task_id: int | str,
        paths: Iterable[str] | None,
        *,
        at: int | str | None = None,
        **options: Any,
    ) -> requests.Response:
        """Return the response with a ZIP archive of ``paths``, or of the whole work_dir.

        Raises:
            InvalidArgument: ``paths`` is a string instead of a list, or ``at`` is not a position.
        """
        if isinstance(paths, (str, bytes)):
            raise InvalidArgument(f"paths must be a list of paths, got {paths!r}")
        body = {"paths": [to_wire_name(path) for path in paths or ()]}
        if params := _at(at):
            options["params"] = params
        url_path = _files_path(task_id, "download")
        return self._transport.request("POST", url_path, json=body, **options)

    def upload(
        self, task_id: int | str, local: str | os.PathLike[str], path: str, transfer: Transfer
    ) -> UploadedFile:
        """Write a local file with its permission bits to ``path``, without reading it into memory.

        Raises:
            OSError: The local file cannot be read.
            InvalidArgument: The local path is not a regular file.
        """
        with open_for_upload(local) as file:
            body = UploadBody(file, transfer)
            mode = file_modes.of_local_path(local)
            return self.put_content(task_id, path, body, transfer, mode=mode)

    def put_content(
        self,
        task_id: int | str,
        path: str,
        body: Any,
        transfer: Transfer,
        *,
        content_type: str | None = None,
        mode: int | None = None,
    ) -> UploadedFile:
        """Write a file.

        Args:
            task_id: Id of the task.
            path: Path of the file.
            body: Request body, such as the result of ``request_body``.
            transfer: Cancels the upload.
            content_type: Media type; ``None`` derives it from the name.
            mode: Permission bits; ``None`` keeps those of a replaced file.
        """
        guessed_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
        with guard_transfer_errors(transfer):
            return self._transport.json(
                schema.UPLOADED_FILE,
                "PUT",
                _files_path(task_id, "content"),
                params={"path": to_wire_name(path)},
                data=body,
                headers={"Content-Type": content_type or guessed_type} | file_modes.header(mode),
                cancel=transfer.cancel_token,
            )

    def put_directory(
        self, task_id: int | str, path: str, mode: int | None, **options: Any
    ) -> UploadedFile:
        """Create a directory, or set the permission bits of an existing one."""
        return self._transport.json(
            schema.UPLOADED_FILE,
            "PUT",
            _files_path(task_id, "directory"),
            params={"path": to_wire_name(path)},
            headers=file_modes.header(mode),
            **options,
        )

    def work_dir(self, task_id: int | str, cancel: CancelToken) -> WorkDirectory:
        """Return the work_dir of a task as the target of a directory upload."""
        return WorkDirectory(self, task_id, cancel)


@dataclass(frozen=True)
class WorkDirectory:
    """Work_dir of one task; implements ``beray.transfers.sync_folder.RemoteDirectory``."""

    files: TaskFiles
    task_id: int | str
    cancel: CancelToken

    def tree(self, path: str) -> Iterator[FileItem]:
        """Return the entries below ``path``."""
        return self.files.tree(self.task_id, path, cancel=self.cancel)

    def make_directory(self, path: str, mode: int | None) -> UploadedFile:
        """Create a directory, or set the mode of an existing one."""
        return self.files.put_directory(self.task_id, path, mode, cancel=self.cancel)

    def sha256(self, path: str) -> bytes | None:
        """Return the SHA-256 of a file; ``None`` if the server does not report it."""
        # A range of one byte, because only the headers are needed.
        headers = digest.WANT_SHA256 | {"Range": "bytes=0-0"}
        try:
            with self.files.content(
                self.task_id, path, headers=headers, stream=True, cancel=self.cancel
            ) as response:
                return digest.sha256_from_headers(response.headers)
        except APIError as error:
            if error.status_code == 416:
                return None
            raise

    def upload(self, local: Path, path: str, transfer: Transfer) -> UploadedFile:
        """Upload a local file to ``path``."""
        return self.files.upload(self.task_id, local, path, transfer)


def request_body(content: str | bytes | BinaryIO) -> Any:
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


def _files_path(task_id: int | str, resource: str) -> str:
    return f"/tasks/{quote_path_segment(task_id)}/files/{resource}"


def _at(position: int | str | None) -> dict[str, Any]:
    """Return the parameter for a position in the history; empty for the current files."""
    return {} if position is None else {"at": checked_position("at", position)}


def _tree_params(
    path: str, depth: int | None, limit: int | None, after: str | None = None
) -> dict[str, Any]:
    if depth is not None and depth < 1:
        raise InvalidArgument(f"depth must be at least 1, got {depth!r}")
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
