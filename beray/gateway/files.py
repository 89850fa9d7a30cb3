"""The files of a gateway: up, down, listed, cleaned up.

Where a presigned URL is used, the bytes go past the gateway, on a session that has no
credentials. What is uploaded is streamed; what is downloaded is whole under its name or not
there, and goes on behind a cut.

Source: the Gateway wire page.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, overload

from beray.exceptions import InvalidArgument
from beray.gateway import schema, temporary
from beray.gateway.argument_checks import (
    checked_count,
    checked_number,
    checked_path,
    checked_text,
    checked_transfer,
)
from beray.gateway.call_arguments import checked_s3_url
from beray.gateway.errors import translated, typed_local_errors
from beray.gateway.listing import FileListing
from beray.gateway.presigned import (
    PRESIGNED_SECONDS,
    PresignedFile,
    PresignedUrl,
    presigned_url,
)
from beray.gateway.schema import FilePage
from beray.gateway.uploaded import UploadResult
from beray.http.transport import Transport
from beray.transfers import upload as uploads
from beray.transfers.download import download
from beray.transfers.local_names import on_wire
from beray.transfers.transfer import Transfer

LocalPath = str | os.PathLike[str]

DAY_SECONDS: Final = 86400
PAGE_FILES: Final = 100
_LONGEST: Final = 1e10
"""Seconds, which is three hundred years: no gateway keeps anything that long."""


class GatewayFiles:
    """The part of ``GatewayClient`` that moves files."""

    _transport: Transport

    @translated()
    @typed_local_errors()
    def upload_file(
        self,
        file_path: LocalPath | None = None,
        content_type: str | None = None,
        *,
        path: LocalPath | None = None,
        transfer: Transfer | None = None,
    ) -> UploadResult:
        """Upload an agent's output, to be kept, and return its ``s3://`` URL.

        The result is a string that also has the keys of the gateway's answer:
        ``result["s3_url"]``, ``result["filename"]``, ``result["size"]``.

        Args:
            content_type: Type of the file; by default it follows from the name.
            path: Another name of ``file_path``.
            transfer: Reports progress, and cancels.

        Raises:
            AgentContextRequiredError: The credentials do not belong to an agent.
            InvalidInput: An argument is invalid; nothing was sent.
            UploadOutcomeUnknown: The answer did not arrive; the file may be there.
            FileTransferCancelled: Through ``transfer``.
            LocalFileError: The local file cannot be read. It is an ``OSError``, too.
        """
        local = _one_path(file_path, path)
        return self._sent("/internal/files/upload", local, content_type, {}, transfer)

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

    @translated()
    @typed_local_errors()
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
        """Upload a file that is removed after some time, and return its ``s3://`` URL.

        The two published forms are ``(file_path, ttl, session_id)`` and ``(file_path,
        content_type, ttl_hours, session_id)``; positional arguments are told apart by their
        types. The result is as of ``upload_file``.

        Args:
            ttl: Seconds that the file is kept; one day by default.
            ttl_hours: Hours instead of ``ttl``.
            session_id: Session of the file: ``cleanup_temp_files`` removes it earlier.
            content_type: Type of the file; by default it follows from the name.
            path: Another name of ``file_path``.

        Raises:
            as ``upload_file``.
        """
        given = temporary.arguments(
            positional, ttl=ttl, ttl_hours=ttl_hours, session_id=session_id,
            content_type=content_type,
        )  # fmt: skip
        fields = {"ttl": str(_lifetime(given.ttl, given.ttl_hours))}
        if given.session_id is not None:
            fields["session_id"] = _checked_session(given.session_id)
        local = _one_path(file_path, path)
        call = "/internal/files/upload_temp"
        return self._sent(call, local, given.content_type, fields, transfer)

    @translated()
    @typed_local_errors()
    def upload_input_file(
        self,
        file_path: LocalPath | None = None,
        content_type: str | None = None,
        *,
        path: LocalPath | None = None,
        transfer: Transfer | None = None,
    ) -> UploadResult:
        """Upload a file for a prefab to work on, directly into the store; return its
        ``s3://`` URL.

        Args, raises:
            as ``upload_file``; no agent is needed.
        """
        local = checked_path(_one_path(file_path, path), "path")
        kind = _content_type(local, content_type)
        handle = checked_transfer(transfer)
        name = on_wire(Path(local).name)
        with uploads.open_for_upload(local) as file, handle.separating_cancel():
            body = uploads.UploadBody(file, handle)
            target = self._transport.json(
                schema.UPLOAD_URL,
                "POST",
                "/internal/files/generate_upload_url",
                json={"filename": name, "content_type": kind},
                cancel=handle.cancel_token,
                idempotent=True,
            )
            url = PresignedUrl(target["upload_url"], self._transport)
            with uploads.guard_transfer_errors(handle):
                url.fetched(
                    "PUT", data=body, headers={"Content-Type": kind}, cancel=handle.cancel_token
                )
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

    @translated()
    @typed_local_errors()
    def download_file(
        self,
        s3_url: str,
        local_path: LocalPath | None = None,
        mode: str = "presigned",
        *,
        overwrite: bool = True,
        transfer: Transfer | None = None,
    ) -> Path | str:
        """Download a file to ``local_path`` and return the path; without one, return a presigned
        URL that is valid for an hour.

        The file appears under its name when it is complete, or not at all. Missing parent
        directories are created once the gateway has found the file. An interrupted download is
        resumed, also by a later call and with another presigned URL; see
        :func:`beray.transfers.transfer.download`.

        Args:
            mode: ``presigned``, the only published mode.
            overwrite: False keeps an existing file, and raises.
            transfer: Reports progress, and cancels.

        Raises:
            InvalidInput: An argument is invalid; nothing was sent.
            ObjectNotFoundError: There is no such file.
            LocalFileExists: The target exists, and ``overwrite`` is False.
            LocalFileError: The target cannot be written. It is an ``OSError``, too.
            FileTransferError: The file did not arrive completely; what arrived is kept for the
                next call.
            FileTransferCancelled: Through ``transfer``; nothing is left.
        """
        if mode != "presigned":
            raise InvalidArgument(f"mode must be 'presigned', got {mode!r}")
        if local_path is None:
            return presigned_url(self._transport, s3_url, PRESIGNED_SECONDS)
        target = Path(checked_path(local_path, "local_path"))
        handle = checked_transfer(transfer)
        source = PresignedFile(self._transport, checked_s3_url(s3_url), handle)
        if not target.parent.is_dir():
            with handle.separating_cancel():
                source.locate()
            target.parent.mkdir(parents=True, exist_ok=True)
        return download(
            source.fetch,
            target,
            source=f"{self._transport.base_url} {s3_url}",
            overwrite=overwrite,
            transfer=handle,
        )

    @translated()
    def get_presigned_url(self, s3_url: str, expires_in: int = PRESIGNED_SECONDS) -> str:
        """A URL by which anybody can fetch the file for ``expires_in`` seconds.

        Raises:
            InvalidInput: no ``s3://`` URL, or no such time; nothing was sent.
            ObjectNotFoundError: there is no such file.
        """
        return presigned_url(self._transport, s3_url, _seconds(expires_in, "expires_in"))

    @translated()
    def list_files(
        self,
        limit: int | str = PAGE_FILES,
        continuation_token: str | None = None,
        prefix: str | None = None,
    ) -> FileListing:
        """Return the agent's files: a page by its keys, and all URLs as a sequence.

        ``listing["files"]`` and ``listing.get("next_token")`` are the page; ``for url in
        listing`` and ``len(listing)`` include the pages that follow; see :class:`FileListing`.

        Args:
            limit: Number of files of a page. A string is the ``prefix``.
            continuation_token: ``next_token`` of the page before.
            prefix: Beginning of the keys after the agent's folder,
                ``agent-outputs/{user}/{agent}/``; it may begin with this folder.

        Raises:
            AgentContextRequiredError: The credentials do not belong to an agent.
            InvalidInput: An argument is invalid; nothing was sent.
        """
        if isinstance(limit, str):
            if prefix is not None:
                raise InvalidArgument("prefix was passed twice")
            prefix = limit
        size = PAGE_FILES if isinstance(limit, str) else limit
        return self._listing("/internal/files/list", size, continuation_token, prefix, {})

    @overload
    def list_temp_files(
        self,
        session_id: str | None = None,
        limit: int = PAGE_FILES,
        continuation_token: str | None = None,
        prefix: str | None = None,
    ) -> FileListing: ...

    @overload
    def list_temp_files(self, prefix: str | None, session_id: str, /) -> FileListing: ...

    @translated()
    def list_temp_files(
        self,
        session_id: str | None = None,
        limit: int | str = PAGE_FILES,
        continuation_token: str | None = None,
        prefix: str | None = None,
    ) -> FileListing:
        """Return the agent's temporary files, of one session or of all; as ``list_files``.

        Args:
            limit: Number of files of a page. A string is the session, and the first argument
                the ``prefix`` then.
            prefix: Beginning of the keys after the session's folder, or the agent's.
        """
        size = PAGE_FILES
        if not isinstance(limit, str):
            size = limit
        elif prefix is None:
            prefix, session_id = session_id, limit
        else:
            raise InvalidArgument("prefix was passed twice")
        asked = {} if session_id is None else {"session_id": _checked_session(session_id)}
        call = "/internal/files/list_temp"
        return self._listing(call, size, continuation_token, prefix, asked)

    @translated()
    def cleanup_temp_files(self, session_id: str | None = None) -> int:
        """Remove the temporary files of a session and return their number.

        Without a session, all temporary files of the agent are removed; files of ``upload_file``
        are not. If a first answer was lost and the call was repeated, files that the first call
        removed are not counted.
        """
        params = {} if session_id is None else {"session_id": _checked_session(session_id)}
        answer = self._transport.json(
            schema.CLEANED, "DELETE", "/internal/files/cleanup_temp", params=params
        )
        return int(answer.get("deleted_count") or 0)

    @translated()
    def delete_file(self, s3_url: str) -> bool:
        """Remove a file of one's own; return whether it was there. BeRay's gateway only.

        Where a first answer was lost and the call was made again, it was not.

        Raises:
            AuthenticationError: it is another agent's.
        """
        answer = self._transport.json(
            schema.CLEANED, "DELETE", "/internal/files", params={"s3_url": checked_s3_url(s3_url)}
        )
        return int(answer.get("deleted_count") or 0) > 0

    def _sent(
        self,
        call: str,
        path: LocalPath,
        content_type: str | None,
        fields: Mapping[str, str],
        transfer: Transfer | None,
    ) -> UploadResult:
        path = checked_path(path, "path")
        kind = _content_type(path, content_type)
        handle = checked_transfer(transfer)
        with uploads.open_for_upload(path) as file, uploads.guard_transfer_errors(handle):
            upload = uploads.UploadBody(file, handle)
            body = uploads.MultipartBody(upload, on_wire(Path(path).name), kind, fields)
            stored = self._transport.json(
                schema.STORED,
                "POST",
                call,
                data=body,
                headers={"Content-Type": body.content_type},
                cancel=handle.cancel_token,
            )
        known = {name: value for name, value in stored.items() if value is not None}
        named = {"filename": on_wire(Path(path).name), "size": len(upload)}
        return UploadResult(stored["s3_url"], named | known)

    def _listing(
        self,
        call: str,
        limit: int,
        continuation_token: str | None,
        prefix: str | None,
        asked: Mapping[str, str],
    ) -> FileListing:
        size = {"limit": checked_count(limit, "limit", 1)}
        query: dict[str, Any] = dict(asked)
        if prefix is not None:
            query["prefix"] = checked_text(prefix, "prefix", empty=True)

        @translated()
        def page(token: str | None) -> FilePage:
            position = {} if token is None else {"continuation_token": token}
            params = size | position | query
            return self._transport.json(schema.FILE_PAGE, "GET", call, params=params)

        if continuation_token is not None:
            checked_text(continuation_token, "continuation_token")
        return FileListing(page(continuation_token), page)


def _one_path(file_path: LocalPath | None, path: LocalPath | None) -> LocalPath:
    """Return the path that was passed under one of its two names."""
    if (file_path is None) == (path is None):
        raise InvalidArgument("path must be the path of a file (file_path or path, not both)")
    chosen = path if file_path is None else file_path
    assert chosen is not None
    return chosen


def _content_type(path: str, given: str | None) -> str:
    if given is None:
        # By the name alone: of a whole path, it might be taken for a URL.
        return mimetypes.guess_type(Path(path).name)[0] or "application/octet-stream"
    kind = checked_text(given, "content_type")
    if not kind.isascii() or not kind.isprintable():
        raise InvalidArgument("content_type has characters that no content type has")
    return kind


def _seconds(value: float, name: str) -> int:
    seconds = int(checked_number(value, name, _LONGEST))
    if not seconds:
        raise InvalidArgument(f"{name} must be a second at least")
    return seconds


def _lifetime(ttl: float | None, ttl_hours: float | None) -> int:
    """Return the seconds that a temporary file is kept."""
    if ttl_hours is None:
        return _seconds(DAY_SECONDS if ttl is None else ttl, "ttl")
    if ttl not in (None, DAY_SECONDS):
        raise InvalidArgument("ttl and ttl_hours are two times for one file; give one of them")
    return _hours(ttl_hours, "ttl_hours")


def _hours(value: float, name: str) -> int:
    return _seconds(checked_number(value, name, _LONGEST / 3600, "hours") * 3600, name)


def _checked_session(session_id: str) -> str:
    if not isinstance(session_id, str) or not session_id or not session_id.isprintable():
        raise InvalidArgument("session_id must be a text that is not empty")
    return session_id
