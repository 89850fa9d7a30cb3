"""Transfers and listings of the files of a gateway.

Requests for presigned URLs go directly to the object store, on a session without credentials.
Uploads are streamed. A download exists completely under its final name or not at all, and resumes
after an interruption.

Source: the Gateway wire page.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beray.gateway import schema
from beray.gateway.errors import gateway_errors
from beray.gateway.file_arguments import LocalPath, checked_content_type
from beray.gateway.file_results import FileListing, UploadResult
from beray.gateway.presigned import PresignedFile, PresignedTransport
from beray.gateway.schema import FilePage
from beray.gateway.validation import (
    checked_count,
    checked_path,
    checked_s3_url,
    checked_string,
    checked_transfer,
)
from beray.http.transport import Transport
from beray.transfers import upload as uploads
from beray.transfers.download import download
from beray.transfers.local_names import on_wire
from beray.transfers.transfer import Transfer


class GatewayFiles:
    """Transfers and listings of files, which ``GatewayClient`` composes to its methods.

    Args:
        transport: Transport of the gateway.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(
        self,
        url_path: str,
        local_path: LocalPath,
        content_type: str | None,
        fields: Mapping[str, str],
        transfer: Transfer | None,
    ) -> UploadResult:
        """Upload a local file to the gateway as a form.

        Args:
            url_path: Path of the request.
            local_path: The local file.
            content_type: Media type; ``None`` guesses it from the name.
            fields: Further fields of the form.
            transfer: Reports progress and cancels the upload.
        """
        local_path = checked_path(local_path, "path")
        media_type = checked_content_type(local_path, content_type)
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

    def upload_input(
        self, local_path: LocalPath, content_type: str | None, transfer: Transfer | None
    ) -> UploadResult:
        """Upload a local file to the object store by a presigned URL; see ``upload``."""
        local_path = checked_path(local_path, "path")
        media_type = checked_content_type(local_path, content_type)
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

    def download(
        self, s3_url: str, local_path: LocalPath, transfer: Transfer | None, *, overwrite: bool
    ) -> Path:
        """Download a file; see ``GatewayClient.download_file``."""
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

    def list(
        self,
        url_path: str,
        limit: int,
        continuation_token: str | None,
        prefix: str | None,
        query: Mapping[str, str],
    ) -> FileListing:
        """Return a page of files, and with it all following pages.

        Args:
            url_path: Path of the request.
            limit: Number of files of a page.
            continuation_token: ``next_token`` of the previous page.
            prefix: Beginning of the keys.
            query: Further query parameters.
        """
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

    def delete(self, url_path: str, params: Mapping[str, str]) -> int:
        """Delete files, and return their number."""
        response = self._transport.json(schema.DELETION, "DELETE", url_path, params=params)
        return int(response.get("deleted_count") or 0)
