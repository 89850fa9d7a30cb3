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
from typing import Any, Final

from beray import files, uploads
from beray.exceptions import InvalidArgument
from beray.files import Transfer
from beray.gateway import schema
from beray.gateway.arguments import checked_s3_url
from beray.gateway.checks import (
    checked_count,
    checked_number,
    checked_path,
    checked_text,
    checked_transfer,
)
from beray.gateway.errors import translated
from beray.gateway.presigned import (
    PRESIGNED_SECONDS,
    PresignedFile,
    PresignedUrl,
    presigned_url,
)
from beray.gateway.schema import FilePage
from beray.local_names import on_wire
from beray.transport import Transport

LocalPath = str | os.PathLike[str]

DAY_SECONDS: Final = 86400
_LONGEST: Final = 1e10
"""Seconds, which is three hundred years: no gateway keeps anything that long."""


class GatewayFiles:
    """The part of ``GatewayClient`` that moves files."""

    _transport: Transport

    @translated()
    def upload_file(
        self,
        path: LocalPath,
        content_type: str | None = None,
        *,
        transfer: Transfer | None = None,
    ) -> str:
        """Upload an agent's output, to be kept; return its ``s3://`` URL.

        Args:
            content_type: of the file; otherwise its name says.
            transfer: reports progress, and cancels.

        Raises:
            AgentContextRequiredError: the credentials are of no agent.
            InvalidInput: an argument cannot be; nothing was sent.
            UploadOutcomeUnknown: the answer did not come; the file may be there.
            FileTransferCancelled: through ``transfer``.
            OSError: the local file cannot be read.
        """
        return self._sent("/internal/files/upload", path, content_type, {}, transfer)

    @translated()
    def upload_temp_file(
        self,
        path: LocalPath,
        ttl: int = DAY_SECONDS,
        session_id: str | None = None,
        ttl_hours: float | None = None,
        *,
        content_type: str | None = None,
        transfer: Transfer | None = None,
    ) -> str:
        """Upload a file that goes when its time is over; return its ``s3://`` URL.

        Args:
            ttl: seconds that it is kept.
            session_id: what it belongs to: ``cleanup_temp_files`` removes it earlier.
            ttl_hours: hours instead of ``ttl``.

        Raises:
            as ``upload_file``.
        """
        if ttl_hours is not None and ttl != DAY_SECONDS:
            raise InvalidArgument("ttl and ttl_hours are two times for one file; give one of them")
        seconds = _seconds(ttl, "ttl") if ttl_hours is None else _hours(ttl_hours, "ttl_hours")
        fields = {"ttl": str(seconds)}
        if session_id is not None:
            fields["session_id"] = _checked_session(session_id)
        return self._sent("/internal/files/upload_temp", path, content_type, fields, transfer)

    @translated()
    def upload_input_file(
        self,
        path: LocalPath,
        content_type: str | None = None,
        *,
        transfer: Transfer | None = None,
    ) -> str:
        """Upload a file for a prefab to work on, straight into the store; return its
        ``s3://`` URL.

        Args, raises:
            as ``upload_file``; no agent is needed.
        """
        path = checked_path(path, "path")
        kind = _content_type(path, content_type)
        handle = checked_transfer(transfer)
        with uploads.opened(path) as file, handle.told_apart():
            body = uploads.Upload(file, handle)
            target = self._transport.json(
                schema.UPLOAD_URL,
                "POST",
                "/internal/files/generate_upload_url",
                json={"filename": on_wire(Path(path).name), "content_type": kind},
                cancel=handle.calls,
                harmless=True,
            )
            url = PresignedUrl(target["upload_url"], self._transport)
            with uploads.told(handle):
                url.fetched("PUT", data=body, headers={"Content-Type": kind}, cancel=handle.calls)
        return target["s3_url"]

    @translated()
    def download_file(
        self,
        s3_url: str,
        local_path: LocalPath,
        *,
        overwrite: bool = False,
        transfer: Transfer | None = None,
    ) -> Path:
        """Download a file to ``local_path``: whole under that name, or not there.

        What a cut leaves is taken up again, also by a later call and with another presigned
        URL; see :func:`beray.files.download`.

        Raises:
            InvalidInput: an argument cannot be; nothing was sent.
            ObjectNotFoundError: there is no such file.
            FileExistsError: the target is there and ``overwrite`` was not asked for.
            FileTransferError: the file did not come whole; what came waits for the next call.
            FileTransferCancelled: through ``transfer``; nothing is left.
        """
        local_path = checked_path(local_path, "local_path")
        handle = checked_transfer(transfer)
        source = PresignedFile(self._transport, checked_s3_url(s3_url), handle)
        return files.download(
            source.fetch,
            local_path,
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
        limit: int = 100,
        continuation_token: str | None = None,
        prefix: str | None = None,
    ) -> FilePage:
        """A page of the agent's files: ``page["files"]``, and ``page.get("next_token")``,
        which continues it as ``continuation_token``.

        Args:
            limit: how many files a page has at most.
            prefix: what their keys begin with behind the agent's folder,
                ``agent-outputs/{user}/{agent}/``; a full key's beginning works as well.

        Raises:
            AgentContextRequiredError: the credentials are of no agent.
            InvalidInput: one of them is of another kind; nothing was sent.
        """
        return self._page("/internal/files/list", limit, continuation_token, prefix, {})

    @translated()
    def list_temp_files(
        self,
        session_id: str | None = None,
        limit: int = 100,
        continuation_token: str | None = None,
        prefix: str | None = None,
    ) -> FilePage:
        """A page of the agent's temporary files, of one session or of all; as ``list_files``.

        Args:
            prefix: what their keys begin with behind the session's folder, or the agent's.
        """
        asked = {} if session_id is None else {"session_id": _checked_session(session_id)}
        return self._page("/internal/files/list_temp", limit, continuation_token, prefix, asked)

    @translated()
    def cleanup_temp_files(self, session_id: str) -> int:
        """Remove the temporary files of a session; return how many there were.

        Where a first answer was lost and the call was made again, those are not counted.
        """
        params = {"session_id": _checked_session(session_id)}
        answer = self._transport.json(
            schema.CLEANED, "DELETE", "/internal/files/cleanup_temp", params=params
        )
        return answer["deleted_count"]

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
        return answer["deleted_count"] > 0

    def _sent(
        self,
        call: str,
        path: LocalPath,
        content_type: str | None,
        fields: Mapping[str, str],
        transfer: Transfer | None,
    ) -> str:
        path = checked_path(path, "path")
        kind = _content_type(path, content_type)
        handle = checked_transfer(transfer)
        with uploads.opened(path) as file, uploads.told(handle):
            upload = uploads.Upload(file, handle)
            body = uploads.Multipart(upload, on_wire(Path(path).name), kind, fields)
            stored = self._transport.json(
                schema.STORED,
                "POST",
                call,
                data=body,
                headers={"Content-Type": body.content_type},
                cancel=handle.calls,
            )
        return stored["s3_url"]

    def _page(
        self,
        call: str,
        limit: int,
        continuation_token: str | None,
        prefix: str | None,
        asked: Mapping[str, str],
    ) -> FilePage:
        params: dict[str, Any] = {"limit": checked_count(limit, "limit", 1), **asked}
        if continuation_token is not None:
            token = checked_text(continuation_token, "continuation_token")
            params["continuation_token"] = token
        if prefix is not None:
            params["prefix"] = checked_text(prefix, "prefix", empty=True)
        return self._transport.json(schema.FILE_PAGE, "GET", call, params=params)


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


def _hours(value: float, name: str) -> int:
    return _seconds(checked_number(value, name, _LONGEST / 3600, "hours") * 3600, name)


def _checked_session(session_id: str) -> str:
    if not isinstance(session_id, str) or not session_id or not session_id.isprintable():
        raise InvalidArgument("session_id must be a text that is not empty")
    return session_id
