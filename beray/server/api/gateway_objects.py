"""Route of presigned URLs of the server's own object store: ``/internal/objects/…``.

BeRay extension. The URL itself is the credential. It permits a single method: a URL for GET does
not permit HEAD.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from beray.server.api.dependencies import AppServices, require_disk_space
from beray.server.files.file_response import (
    FileRequestHeaders,
    FileRequestHeadersParam,
    Representation,
    file_response,
)
from beray.server.http.active_requests import mark_authenticated
from beray.server.http.gateway_errors import GatewayHTTPError, GatewayRoute
from beray.server.http.multipart_forms import file_too_large, upload_interrupted
from beray.server.objects.local import LocalObjectStore
from beray.server.objects.object_files import storage_errors, valid_media_type
from beray.server.objects.signing import OBJECTS_PATH, InvalidSignature, SignatureExpired
from beray.server.objects.store import ObjectNotFound
from beray.server.storage.times import parse_time

router = APIRouter(prefix=OBJECTS_PATH.rstrip("/"), tags=["gateway"], route_class=GatewayRoute)
_METHODS: Final = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"]


@router.api_route("/{key:path}", methods=_METHODS, include_in_schema=False)
async def use_url(
    request: Request,
    key: str,
    app: AppServices,
    request_headers: FileRequestHeadersParam,
    method: Annotated[str, Query()] = "",
    expires: Annotated[str, Query()] = "",
    signature: Annotated[str, Query()] = "",
) -> Response:
    """Store or return an object, as the presigned URL permits."""
    store = app.gateway.objects
    if not isinstance(store, LocalObjectStore):
        raise GatewayHTTPError(404, "NOT_FOUND", "This server stores its objects in S3.")
    try:
        if method != request.method:
            raise InvalidSignature
        store.signer.check(method, key, expires, signature)
    except InvalidSignature:
        raise GatewayHTTPError(
            403,
            "INVALID_SIGNATURE",
            "The URL was changed, or was issued for another method or object. Request a new one.",
        ) from None
    except SignatureExpired:
        raise GatewayHTTPError(
            403, "URL_EXPIRED", "The URL has expired. Request a new one."
        ) from None
    mark_authenticated(request, app.active_requests, None)
    with storage_errors():
        if request.method == "PUT":
            await require_disk_space(app)
            return await _put(request, store, key, app.settings.gateway_object_bytes)
        return await run_in_threadpool(_get, store, key, request_headers)


async def _put(request: Request, store: LocalObjectStore, key: str, max_bytes: int) -> Response:
    """Store the request body as an object, atomically."""
    declared = request.headers.get("Content-Length", "")
    if declared.isdigit() and int(declared[:20]) > max_bytes:
        raise file_too_large(max_bytes)
    await store.put(
        key, _body(request, max_bytes), valid_media_type(request.headers.get("Content-Type"))
    )
    opened = await run_in_threadpool(store.open, key)
    opened.file.close()
    return Response(status_code=200, headers={"ETag": opened.etag})


async def _body(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    size = 0
    try:
        async for block in request.stream():
            size += len(block)
            if size > max_bytes:
                raise file_too_large(max_bytes)
            yield block
    except ClientDisconnect:
        raise upload_interrupted() from None
    if request.headers.get("Content-Length", str(size)) != str(size):
        raise upload_interrupted()


def _get(store: LocalObjectStore, key: str, request_headers: FileRequestHeaders) -> Response:
    try:
        found = store.open(key)
    except ObjectNotFound:
        raise GatewayHTTPError(404, "FILE_NOT_FOUND", "The file does not exist.") from None
    return file_response(
        Representation(
            found.file,
            key.rpartition("/")[2],
            found.content_type or "application/octet-stream",
            found.stored.size,
            found.etag,
            parse_time(found.stored.last_modified).timestamp(),
            lambda: found.sha256,
        ),
        request_headers,
    )
