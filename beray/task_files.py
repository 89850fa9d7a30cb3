"""The files of a task: the calls of the wire, and what is built on them for local disks.

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
from beray.http.connection import Cancel
from beray.http.transport import Transport, segment
from beray.schema import FileItem, FilePage, UploadedFile
from beray.transfers import digest, file_modes
from beray.transfers import transfer as files
from beray.transfers import upload as uploads
from beray.transfers.local_names import on_wire
from beray.transfers.wire_names import accepted

if TYPE_CHECKING:
    from beray.transfers.sync_folder import UploadedFolder


_PAGE_ENTRIES: Final = 10_000
"""Entries of a page that are asked for; a server may return fewer, or know no pages."""


class TaskFiles:
    """The part of ``BeRayClient`` that moves files.

    Paths in the work_dir are those of listings and events, in which a byte that is not UTF-8 is
    escaped (see :mod:`beray.transfers.wire_names`), or as Python lists local names.
    """

    _transport: Transport

    def list_files_tree(
        self, task_id: int | str, path: str = ".", *, depth: int | None = None
    ) -> list[FileItem]:
        """Return everything below a folder of the work_dir, sorted by path.

        Args:
            depth: number of levels: 1 for what is in the folder itself.
        """
        if depth is None:
            # The published call first: it is all that a published server knows.
            try:
                return list(self._tree(task_id, path, limit=None))
            except UnprocessableEntityError:
                # Too many entries for one answer, or something that pages do not help with.
                return list(self._tree(task_id, path))
        return list(self._tree(task_id, path, depth=_checked_depth(depth)))

    def iter_files(
        self, task_id: int | str, path: str = ".", *, depth: int | None = None
    ) -> Iterator[FileItem]:
        """Yield what ``list_files_tree`` returns, with one page in memory at a time.

        Entries that exist all the time are neither repeated nor skipped, also if others
        are added or deleted meanwhile.

        Args:
            depth: number of levels: 1 for what is in the folder itself.
        """
        return self._tree(task_id, path, depth=_checked_depth(depth))

    def list_files_page(
        self,
        task_id: int | str,
        path: str = ".",
        *,
        depth: int | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> FilePage:
        """Return a page of what ``list_files_tree`` returns.

        A server that does not know pages returns everything, whatever ``limit`` is.

        Args:
            depth: number of levels: 1 for what is in the folder itself.
            limit: maximum number of entries; the server may set a lower one.
            after: ``after`` of the page before; ``None`` for the first page.

        Raises:
            UnprocessableEntityError: ``after`` is not a position, or ``limit`` is not positive.
        """
        params = _tree_params(path, _checked_depth(depth), limit, after)
        call = self._files(task_id, "tree")
        items, following = self._transport.page(schema.FILE_ITEMS, call, params)
        return FilePage(_within(items, path, depth), (following or {}).get("after"))

    def get_file_content(
        self, task_id: int | str, path: str, *, stream: bool = False
    ) -> requests.Response:
        """Return the response whose ``content`` is the file.

        With ``stream`` the body is read as the caller asks for it.
        """
        return self._content(task_id, path, stream=stream)

    def upload_file(
        self,
        task_id: int | str,
        path: str,
        content: str | bytes | BinaryIO,
        content_type: str | None = None,
        *,
        mode: int | None = None,
    ) -> UploadedFile:
        """Put ``content`` (text becomes UTF-8) into the work_dir, replacing what was there.

        Args:
            mode: permission bits, such as ``0o755``. If not given, a file that is replaced keeps
                its own. BeRay extension: other servers ignore it.
        """
        return self._put(task_id, path, _body(content), files.Transfer(), content_type, mode)

    def create_directory(
        self, task_id: int | str, path: str, mode: int | None = None
    ) -> UploadedFile:
        """Create a directory in the work_dir, with those above it. BeRay extension.

        Args:
            mode: permission bits. If not given, a directory that exists keeps its own.

        Raises:
            NotFoundError, APIError: the task does not exist, or the server does not have the
                call (404 or 405).
        """
        return self._make_directory(task_id, path, mode)

    def download_files_as_zip(
        self, task_id: int | str, paths: Iterable[str] | None = None, *, stream: bool = False
    ) -> requests.Response:
        """Return the response whose ``content`` is a ZIP of ``paths``, or of the whole work_dir."""
        return self._archive(task_id, paths, stream=stream)

    # Files to and from disk

    def download_file(
        self,
        task_id: int | str,
        path: str,
        target: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        verify: bool = False,
        transfer: files.Transfer | None = None,
    ) -> Path:
        """Download a file to ``target``: whole under that name, or not there.

        What a cut leaves is taken up again, also by a later call; see
        :func:`beray.transfers.transfer.download`.
        """
        handle = transfer or files.Transfer()
        return files.download(
            lambda headers: self._content(
                task_id, path, headers=headers, stream=True, cancel=handle.calls
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
        transfer: files.Transfer | None = None,
    ) -> Path:
        """Download a ZIP of ``paths``, or of the whole work_dir, to ``target``."""
        handle = transfer or files.Transfer()
        return files.download(
            lambda headers: self._archive(
                task_id, paths, headers=headers, stream=True, cancel=handle.calls
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
        transfer: files.Transfer | None = None,
    ) -> Path:
        """Download ``paths``, or the whole work_dir, into a local folder: all or nothing.

        Args:
            max_bytes: how much it may unpack to; see :func:`beray.transfers.archive.unpack`.
        """
        from beray.transfers import archive as unpack

        unpack.refuse_unusable(target)
        limit = unpack.MAX_BYTES if max_bytes is None else max_bytes
        with tempfile.TemporaryDirectory(prefix="beray-") as folder:
            archive = Path(folder, "files.zip")
            self.download_zip(task_id, archive, paths, transfer=transfer)
            with archive.open("rb") as file:
                return unpack.unpack(
                    file, target, overwrite=overwrite, max_bytes=limit, transfer=transfer
                )

    def upload_path(
        self,
        task_id: int | str,
        local: str | os.PathLike[str],
        path: str | None = None,
        *,
        transfer: files.Transfer | None = None,
    ) -> UploadedFile:
        """Upload a local file, streamed, to ``path`` (default: its own name), with its mode."""
        with uploads.opened(local) as file:
            name = path or on_wire(Path(local).name)
            handle = transfer or files.Transfer()
            body = uploads.Upload(file, handle)
            return self._put(task_id, name, body, handle, mode=file_modes.local(local))

    def upload_dir(
        self,
        task_id: int | str,
        folder: str | os.PathLike[str],
        path: str = ".",
        *,
        include: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        transfer: files.Transfer | None = None,
    ) -> UploadedFolder:
        """Upload the new and changed files of a local directory."""
        from beray.transfers import sync_folder

        handle = transfer or files.Transfer()
        work_dir = _WorkDir(self, task_id, handle.calls)
        return sync_folder.upload(
            work_dir, folder, path, include=include, exclude=exclude, transfer=handle
        )

    def _tree(
        self,
        task_id: int | str,
        path: str,
        *,
        depth: int | None = None,
        limit: int | None = _PAGE_ENTRIES,
        **options: Any,
    ) -> Iterator[FileItem]:
        call = self._files(task_id, "tree")
        params = _tree_params(path, depth, limit)
        for page in self._transport.pages(schema.FILE_ITEMS, call, params, **options):
            yield from _within(page, path, depth)

    def _put(
        self,
        task_id: int | str,
        path: str,
        body: Any,
        transfer: files.Transfer,
        content_type: str | None = None,
        mode: int | None = None,
    ) -> UploadedFile:
        guessed = mimetypes.guess_type(path)[0] or "application/octet-stream"
        with uploads.told(transfer):
            return self._transport.json(
                schema.UPLOADED_FILE,
                "PUT",
                self._files(task_id, "content"),
                params={"path": accepted(path)},
                data=body,
                headers={"Content-Type": content_type or guessed} | file_modes.header(mode),
                cancel=transfer.calls,
            )

    def _make_directory(
        self, task_id: int | str, path: str, mode: int | None, **options: Any
    ) -> UploadedFile:
        return self._transport.json(
            schema.UPLOADED_FILE,
            "PUT",
            self._files(task_id, "directory"),
            params={"path": accepted(path)},
            headers=file_modes.header(mode),
            **options,
        )

    def _archive(
        self, task_id: int | str, paths: Iterable[str] | None, **options: Any
    ) -> requests.Response:
        if isinstance(paths, (str, bytes)):
            raise InvalidArgument("paths is a list of paths, not one of them")
        body = {"paths": [accepted(path) for path in paths or ()]}
        return self._transport.request(
            "POST", self._files(task_id, "download"), json=body, **options
        )

    def _content(self, task_id: int | str, path: str, **options: Any) -> requests.Response:
        params = {"path": accepted(path)}
        call = self._files(task_id, "content")
        return self._transport.request("GET", call, params=params, **options)

    @staticmethod
    def _files(task_id: int | str, what: str) -> str:
        return f"/tasks/{segment(task_id)}/files/{what}"


def _checked_depth(depth: int | None) -> int | None:
    if depth is not None and depth < 1:
        raise InvalidArgument(f"depth must be at least 1, got {depth!r}")
    return depth


def _tree_params(
    path: str, depth: int | None, limit: int | None, after: str | None = None
) -> dict[str, Any]:
    params = {"path": accepted(path), "depth": depth, "limit": limit, "after": after}
    return {name: value for name, value in params.items() if value is not None}


def _within(items: list[FileItem], path: str, depth: int | None) -> list[FileItem]:
    """Return the items of the first ``depth`` levels: a server may ignore ``depth``."""
    if depth is None:
        return items
    above = sum(part not in ("", ".") for part in path.split("/"))
    return [item for item in items if item.get("path", item["name"]).count("/") - above < depth]


def _body(content: str | bytes | BinaryIO) -> Any:
    """What is sent of ``content``; a file that can be rewound may be sent again.

    Raises:
        InvalidArgument: for what is neither text, nor bytes, nor a file.
    """
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content)
    if not hasattr(content, "read"):
        kind = type(content).__name__
        raise InvalidArgument(f"the content must be text, bytes or a file, not {kind}")
    if hasattr(content, "seekable") and content.seekable():
        return uploads.Upload(content, files.Transfer())
    return uploads.UnsizedUpload(content)


@dataclass(frozen=True)
class _WorkDir:
    """The files of one task, as an upload of a folder needs them."""

    task_files: TaskFiles
    task_id: int | str
    cancel: Cancel

    def tree(self, path: str) -> Iterator[FileItem]:
        return self.task_files._tree(self.task_id, path, cancel=self.cancel)

    def make_directory(self, path: str, mode: int | None) -> UploadedFile:
        return self.task_files._make_directory(self.task_id, path, mode, cancel=self.cancel)

    def sha256(self, path: str) -> bytes | None:
        """Asked for by a range of one byte, so that not the file comes but its headers."""
        headers = digest.WANTED | {"Range": "bytes=0-0"}
        try:
            with self.task_files._content(
                self.task_id, path, headers=headers, stream=True, cancel=self.cancel
            ) as response:
                return digest.sha256_of(response.headers)
        except APIError as error:
            if error.status_code == 416:
                return None
            raise

    def upload(self, local: Path, path: str, transfer: files.Transfer) -> UploadedFile:
        return self.task_files.upload_path(self.task_id, local, path, transfer=transfer)
