"""File methods of the gateway client: upload, download, listing and deletion.

Requests for presigned URLs go directly to the object store, on a session without credentials.
Uploads are streamed. A download exists completely under its final name or not at all, and resumes
after an interruption.

Source: the Gateway wire page.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, overload

from beray.exceptions import InvalidArgument
from beray.gateway import schema
from beray.gateway.errors import gateway_errors, local_file_errors
from beray.gateway.file_results import FileListing, UploadResult
from beray.gateway.presigned import (
    EXPIRES_IN_SECONDS,
    PresignedFile,
    PresignedTransport,
    presigned_url,
)
from beray.gateway.schema import FilePage
from beray.gateway.validation import (
    checked_count,
    checked_number,
    checked_path,
    checked_s3_url,
    checked_string,
    checked_transfer,
    temp_upload_arguments,
)
from beray.http.transport import Transport
from beray.transfers import upload as uploads
from beray.transfers.download import download
from beray.transfers.local_names import on_wire
from beray.transfers.transfer import Transfer

LocalPath = str | os.PathLike[str]

DAY_SECONDS: Final = 86400
DEFAULT_PAGE_SIZE: Final = 100
"""Number of files of a page."""
_MAX_SECONDS: Final = 1e10
"""About three hundred years, to reject values in another unit."""


class GatewayFiles:
    """Methods of ``GatewayClient`` for files."""

    _transport: Transport

    @gateway_errors()
    @local_file_errors()
    def upload_file(
        self,
        file_path: LocalPath | None = None,
        content_type: str | None = None,
        *,
        path: LocalPath | None = None,
        transfer: Transfer | None = None,
    ) -> UploadResult:
        """Upload a permanent output of an agent.

        Args:
            file_path: Path of the local file.
            content_type: Media type of the file; by default it is guessed from the file name.
            path: Alias of ``file_path``.
            transfer: Handle that reports progress and can cancel the upload.

        Returns:
            The ``s3://`` URL of the file, a string that also has the keys of the response:
            ``result["s3_url"]``, ``result["filename"]``, ``result["size"]`` (bytes).

        Raises:
            AgentContextRequiredError: The credentials do not belong to an agent.
            InvalidInput: An argument is invalid; nothing was sent.
            UploadOutcomeUnknown: No response arrived; the file may have been stored.
            FileTransferCancelled: ``transfer`` was cancelled.
            LocalFileError: The local file cannot be read. This exception is also an ``OSError``.
        """
        local_path = _one_path(file_path, path)
        return self._upload("/internal/files/upload", local_path, content_type, {}, transfer)

    @overload
    def upload_temp_file(
        self,
        file_path: LocalPath = ...,
        ttl: float = DAY_SECONDS,
        session_id: str | None = None,
        *,
        ttl_hours: float | None = None,
        content_type: str | None = None,
        path: LocalPath | None = None,
        transfer: Transfer | None = None,
    ) -> UploadResult: ...

    @overload
    def upload_temp_file(
        self,
        file_path: LocalPath,
        content_type: str | None,
        /,
        *,
        ttl: float = DAY_SECONDS,
        ttl_hours: float | None = None,
        session_id: str | None = None,
        transfer: Transfer | None = None,
    ) -> UploadResult: ...

    @overload
    def upload_temp_file(
        self,
        file_path: LocalPath,
        content_type: str | None,
        ttl_hours: float | None,
        session_id: str | None = None,
        /,
        *,
        transfer: Transfer | None = None,
    ) -> UploadResult: ...

    @overload
    def upload_temp_file(
        self,
        file_path: LocalPath,
        content_type: str | None,
        session_id: str,
        /,
        *,
        ttl: float = DAY_SECONDS,
        ttl_hours: float | None = None,
        transfer: Transfer | None = None,
    ) -> UploadResult: ...

    @gateway_errors()
    @local_file_errors()
    def upload_temp_file(
        self,
        file_path: LocalPath | None = None,
        *positional: Any,
        ttl: float | None = None,
        ttl_hours: float | None = None,
        session_id: str | None = None,
        content_type: str | None = None,
        path: LocalPath | None = None,
        transfer: Transfer | None = None,
    ) -> UploadResult:
        """Upload a temporary file of an agent.

        The two published forms are ``(file_path, ttl, session_id)`` and ``(file_path,
        content_type, ttl_hours, session_id)``. The types of the positional arguments determine
        which form is meant.

        Args:
            file_path: Path of the local file.
            positional: Further arguments of one of the two forms.
            ttl: Seconds after which the gateway removes the file; one day by default.
            ttl_hours: Time to live in hours, instead of ``ttl``.
            session_id: Session of the file; ``cleanup_temp_files`` removes all files of a session.
            content_type: Media type of the file; by default it is guessed from the file name.
            path: Alias of ``file_path``.
            transfer: Handle that reports progress and can cancel the upload.

        Returns:
            The ``s3://`` URL of the file with the keys of the response, as ``upload_file``.

        Raises:
            AgentContextRequiredError: The credentials do not belong to an agent.
            InvalidInput: An argument is invalid, for example if both ``ttl`` and ``ttl_hours``
                were passed; nothing was sent.
            UploadOutcomeUnknown: No response arrived; the file may have been stored.
            FileTransferCancelled: ``transfer`` was cancelled.
            LocalFileError: The local file cannot be read. This exception is also an ``OSError``.
        """
        arguments = temp_upload_arguments(
            positional, ttl=ttl, ttl_hours=ttl_hours, session_id=session_id,
            content_type=content_type,
        )  # fmt: skip
        fields = {"ttl": str(_ttl_seconds(arguments.ttl, arguments.ttl_hours))}
        if arguments.session_id is not None:
            fields["session_id"] = _checked_session_id(arguments.session_id)
        local_path = _one_path(file_path, path)
        url_path = "/internal/files/upload_temp"
        return self._upload(url_path, local_path, arguments.content_type, fields, transfer)

    @gateway_errors()
    @local_file_errors()
    def upload_input_file(
        self,
        file_path: LocalPath | None = None,
        content_type: str | None = None,
        *,
        path: LocalPath | None = None,
        transfer: Transfer | None = None,
    ) -> UploadResult:
        """Upload an input file of a prefab directly to the object store.

        This call does not require the credentials of an agent.

        Args:
            file_path: Path of the local file.
            content_type: Media type of the file; by default it is guessed from the file name.
            path: Alias of ``file_path``.
            transfer: Handle that reports progress and can cancel the upload.

        Returns:
            The ``s3://`` URL of the file, with the keys ``s3_url``, ``filename`` and ``size``
            (bytes).

        Raises:
            InvalidInput: An argument is invalid; nothing was sent.
            FileTransferError: The file was not transferred completely.
            FileTransferCancelled: ``transfer`` was cancelled.
            LocalFileError: The local file cannot be read. This exception is also an ``OSError``.
            ServiceUnavailableError: The gateway or its object store is unavailable.
        """
        local_path = checked_path(_one_path(file_path, path), "path")
        media_type = _content_type(local_path, content_type)
        handle = checked_transfer(transfer)
        name = on_wire(Path(local_path).name)
        with uploads.open_for_upload(local_path) as file, handle.separating_cancel():
            body = uploads.UploadBody(file, handle)
            target = self._transport.json(
                schema.UPLOAD_URL,
                "POST",
                "/internal/files/generate_upload_url",
                json={"filename": name, "content_type": media_type},
                cancel=handle.cancel_token,
                idempotent=True,
            )
            presigned = PresignedTransport(target["upload_url"], self._transport)
            headers = {"Content-Type": media_type}
            with uploads.guard_transfer_errors(handle):
                presigned.send("PUT", data=body, headers=headers, cancel=handle.cancel_token)
        return UploadResult(target["s3_url"], {"filename": name, "size": len(body)})

    @overload
    def download_file(self, s3_url: str, local_path: None = None) -> str: ...

    @overload
    def download_file(
        self,
        s3_url: str,
        local_path: LocalPath,
        mode: str = "presigned",
        *,
        overwrite: bool = True,
        transfer: Transfer | None = None,
    ) -> Path: ...

    @gateway_errors()
    @local_file_errors()
    def download_file(
        self,
        s3_url: str,
        local_path: LocalPath | None = None,
        mode: str = "presigned",
        *,
        overwrite: bool = True,
        transfer: Transfer | None = None,
    ) -> Path | str:
        """Download a file to ``local_path``, or return a presigned URL for it.

        The file appears under its name when it is complete, or not at all. Missing parent
        directories are created once the gateway has found the file. An interrupted download is
        resumed, also by a later call and with another presigned URL; see
        :func:`beray.transfers.transfer.download`.

        Args:
            s3_url: ``s3://`` URL of the file.
            local_path: Path of the target file; None requests a presigned URL.
            mode: ``presigned``, the only published mode.
            overwrite: Whether an existing target is replaced.
            transfer: Handle that reports progress and can cancel the download.

        Returns:
            The path of the target; or, without ``local_path``, a presigned URL that is valid for
            one hour.

        Raises:
            InvalidInput: An argument is invalid; nothing was sent.
            ObjectNotFoundError: The file does not exist.
            LocalFileExists: The target exists, and ``overwrite`` is False.
            LocalFileError: The target cannot be written. This exception is also an ``OSError``.
            FileTransferError: The file did not arrive completely; the received part is kept for
                the next call.
            FileTransferCancelled: ``transfer`` was cancelled; the received part was removed.
        """
        if mode != "presigned":
            raise InvalidArgument(f"mode must be 'presigned', got {mode!r}")
        if local_path is None:
            return presigned_url(self._transport, s3_url, EXPIRES_IN_SECONDS)
        target = Path(checked_path(local_path, "local_path"))
        handle = checked_transfer(transfer)
        source = PresignedFile(self._transport, checked_s3_url(s3_url), handle)
        if not target.parent.is_dir():
            with handle.separating_cancel():
                source.request_url()
            target.parent.mkdir(parents=True, exist_ok=True)
        return download(
            source.fetch,
            target,
            source=f"{self._transport.base_url} {s3_url}",
            overwrite=overwrite,
            transfer=handle,
        )

    @gateway_errors()
    def get_presigned_url(self, s3_url: str, expires_in: int = EXPIRES_IN_SECONDS) -> str:
        """Return a URL with which any client can fetch a file, without credentials.

        Args:
            s3_url: ``s3://`` URL of the file.
            expires_in: Validity of the URL, in seconds.

        Raises:
            InvalidInput: ``s3_url`` is not an ``s3://`` URL, or ``expires_in`` is less than one
                second; nothing was sent.
            ObjectNotFoundError: The file does not exist.
        """
        return presigned_url(self._transport, s3_url, _seconds(expires_in, "expires_in"))

    @gateway_errors()
    def list_files(
        self,
        limit: int | str = DEFAULT_PAGE_SIZE,
        continuation_token: str | None = None,
        prefix: str | None = None,
    ) -> FileListing:
        """List the agent's permanent files.

        Args:
            limit: Number of files of a page. A string is the ``prefix``.
            continuation_token: ``next_token`` of the previous page.
            prefix: Beginning of the keys after the agent's directory,
                ``agent-outputs/{user}/{agent}/``; it may include this directory.

        Returns:
            A page by its keys (``listing["files"]``, ``listing.get("next_token")``), and the URLs
            of this page and all following ones as a sequence (``for url in listing``,
            ``len(listing)``); see :class:`FileListing`.

        Raises:
            AgentContextRequiredError: The credentials do not belong to an agent.
            InvalidInput: An argument is invalid; nothing was sent.
        """
        if isinstance(limit, str):
            if prefix is not None:
                raise InvalidArgument("prefix was passed twice")
            prefix = limit
        size = DEFAULT_PAGE_SIZE if isinstance(limit, str) else limit
        return self._list("/internal/files/list", size, continuation_token, prefix, {})

    @overload
    def list_temp_files(
        self,
        session_id: str | None = None,
        limit: int = DEFAULT_PAGE_SIZE,
        continuation_token: str | None = None,
        prefix: str | None = None,
    ) -> FileListing: ...

    @overload
    def list_temp_files(self, prefix: str | None, session_id: str, /) -> FileListing: ...

    @gateway_errors()
    def list_temp_files(
        self,
        session_id: str | None = None,
        limit: int | str = DEFAULT_PAGE_SIZE,
        continuation_token: str | None = None,
        prefix: str | None = None,
    ) -> FileListing:
        """List the agent's temporary files.

        Args:
            session_id: Session of the files; None lists the files of all sessions.
            limit: Number of files of a page. A string is the session; the first argument is then
                the ``prefix``.
            continuation_token: ``next_token`` of the previous page.
            prefix: Beginning of the keys after the session's directory, or after the agent's
                directory if there is no session.

        Returns:
            A page and the URLs of all pages, as ``list_files``.

        Raises:
            AgentContextRequiredError: The credentials do not belong to an agent.
            InvalidInput: An argument is invalid; nothing was sent.
        """
        size = DEFAULT_PAGE_SIZE
        if not isinstance(limit, str):
            size = limit
        elif prefix is None:
            prefix, session_id = session_id, limit
        else:
            raise InvalidArgument("prefix was passed twice")
        query = {} if session_id is None else {"session_id": _checked_session_id(session_id)}
        url_path = "/internal/files/list_temp"
        return self._list(url_path, size, continuation_token, prefix, query)

    @gateway_errors()
    def cleanup_temp_files(self, session_id: str | None = None) -> int:
        """Delete temporary files of the agent.

        Permanent files are not deleted.

        Args:
            session_id: Session of the files; None deletes the files of all sessions.

        Returns:
            The number of deleted files. If the response was lost and the client repeated the
            request, files that the first request deleted are not counted.

        Raises:
            AgentContextRequiredError: The credentials do not belong to an agent.
            InvalidInput: ``session_id`` is not a non-empty, printable string.
        """
        params = {} if session_id is None else {"session_id": _checked_session_id(session_id)}
        response = self._transport.json(
            schema.DELETION, "DELETE", "/internal/files/cleanup_temp", params=params
        )
        return int(response.get("deleted_count") or 0)

    @gateway_errors()
    def delete_file(self, s3_url: str) -> bool:
        """Delete a file. BeRay extension.

        Args:
            s3_url: ``s3://`` URL of the file.

        Returns:
            True if the file existed. If the response was lost and the client repeated the request,
            False, because the first request deleted the file.

        Raises:
            AuthenticationError: The file belongs to another agent.
            InvalidInput: ``s3_url`` is not an ``s3://`` URL.
        """
        params = {"s3_url": checked_s3_url(s3_url)}
        response = self._transport.json(schema.DELETION, "DELETE", "/internal/files", params=params)
        return int(response.get("deleted_count") or 0) > 0

    def _upload(
        self,
        url_path: str,
        local_path: LocalPath,
        content_type: str | None,
        fields: Mapping[str, str],
        transfer: Transfer | None,
    ) -> UploadResult:
        local_path = checked_path(local_path, "path")
        media_type = _content_type(local_path, content_type)
        handle = checked_transfer(transfer)
        name = on_wire(Path(local_path).name)
        with uploads.open_for_upload(local_path) as file, uploads.guard_transfer_errors(handle):
            upload = uploads.UploadBody(file, handle)
            body = uploads.MultipartBody(upload, name, media_type, fields)
            response = self._transport.json(
                schema.UPLOAD,
                "POST",
                url_path,
                data=body,
                headers={"Content-Type": body.content_type},
                cancel=handle.cancel_token,
            )
        defaults = {"filename": name, "size": len(upload)}
        present = {key: value for key, value in response.items() if value is not None}
        return UploadResult(response["s3_url"], defaults | present)

    def _list(
        self,
        url_path: str,
        limit: int,
        continuation_token: str | None,
        prefix: str | None,
        query: Mapping[str, str],
    ) -> FileListing:
        page_size = {"limit": checked_count(limit, "limit", 1)}
        filters: dict[str, Any] = dict(query)
        if prefix is not None:
            filters["prefix"] = checked_string(prefix, "prefix", empty=True)

        @gateway_errors()
        def request_page(token: str | None) -> FilePage:
            position = {} if token is None else {"continuation_token": token}
            params = page_size | position | filters
            return self._transport.json(schema.FILE_PAGE, "GET", url_path, params=params)

        if continuation_token is not None:
            checked_string(continuation_token, "continuation_token")
        return FileListing(request_page(continuation_token), request_page)


def _one_path(file_path: LocalPath | None, path: LocalPath | None) -> LocalPath:
    """Return the path that was passed as ``file_path`` or as ``path``.

    Raises:
        InvalidArgument: Both or none of the two were passed.
    """
    if (file_path is None) == (path is None):
        raise InvalidArgument("path must be the path of a file (file_path or path, not both)")
    passed = path if file_path is None else file_path
    assert passed is not None
    return passed


def _content_type(path: str, content_type: str | None) -> str:
    if content_type is None:
        # guess_type() would interpret some whole paths as URLs.
        return mimetypes.guess_type(Path(path).name)[0] or "application/octet-stream"
    media_type = checked_string(content_type, "content_type")
    if not media_type.isascii() or not media_type.isprintable():
        raise InvalidArgument("content_type must consist of printable ASCII characters")
    return media_type


def _seconds(value: float, name: str) -> int:
    seconds = int(checked_number(value, name, _MAX_SECONDS))
    if not seconds:
        raise InvalidArgument(f"{name} must be at least one second")
    return seconds


def _ttl_seconds(ttl: float | None, ttl_hours: float | None) -> int:
    """Return the time to live of a temporary file, in seconds."""
    if ttl_hours is None:
        return _seconds(DAY_SECONDS if ttl is None else ttl, "ttl")
    if ttl not in (None, DAY_SECONDS):
        raise InvalidArgument("ttl and ttl_hours contradict each other; pass one")
    return _hours(ttl_hours, "ttl_hours")


def _hours(value: float, name: str) -> int:
    return _seconds(checked_number(value, name, _MAX_SECONDS / 3600, "hours") * 3600, name)


def _checked_session_id(session_id: str) -> str:
    if not isinstance(session_id, str) or not session_id or not session_id.isprintable():
        raise InvalidArgument("session_id must be a non-empty string of printable characters")
    return session_id
