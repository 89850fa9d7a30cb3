"""Routes of the gateway's files: ``/internal/files/…``.

Source: the Gateway wire page.
"""

from __future__ import annotations

import base64
import binascii
import re
import tempfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import IO, Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from beray.sanitize import printable
from beray.server.accounts.principals import Principal
from beray.server.api.dependencies import (
    AppServices,
    require_disk_space,
)
from beray.server.api.error_statuses import (
    GATEWAY_AGENT,
    GATEWAY_CALLER,
    GATEWAY_UPLOAD,
    error_statuses,
)
from beray.server.api.gateway_auth import CurrentPrincipal
from beray.server.files.http_ranges import BLOCK_BYTES
from beray.server.http.gateway_errors import GatewayHTTPError, GatewayRoute, invalid_input
from beray.server.http.integers import CANONICAL_INTEGER
from beray.server.http.multipart_forms import UploadForm
from beray.server.http.validation_errors import InputProblem
from beray.server.objects import object_files
from beray.server.objects.store import MAX_KEY_BYTES, ObjectNotFound, StoredObject
from beray.server.runners.token_listener import is_relayed
from beray.server.services import Services

UPLOAD_URL_SECONDS: Final = 3600
DAY_SECONDS: Final = 24 * 3600
MAX_TTL_SECONDS: Final = 30 * DAY_SECONDS
MAX_URL_SECONDS: Final = 7 * DAY_SECONDS
"""Maximum validity of a presigned URL in S3."""
_FORM: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}

router = APIRouter(prefix="/internal/files", tags=["gateway"], route_class=GatewayRoute)
Limit = Annotated[
    int, Query(ge=1, le=1000, description="Maximum number of files."), CANONICAL_INTEGER
]
Token = Annotated[
    str | None,
    Query(
        max_length=2 * MAX_KEY_BYTES,
        description="`next_continuation_token` of the previous page; null: first page.",
    ),
]
Prefix = Annotated[
    str,
    Query(max_length=MAX_KEY_BYTES, description="Start of the keys or paths to list."),
]
S3Url = Annotated[str, Query(max_length=2 * MAX_KEY_BYTES, description="`s3://` URL of the file.")]
SessionId = Annotated[
    str | None,
    Query(max_length=128, description="Session of the agent; null: all sessions."),
]


class UploadUrlRequest(BaseModel):
    """Body of a request for an upload URL."""

    filename: str = Field(min_length=1, max_length=4096)
    content_type: str | None = None


@router.post("/generate_upload_url", responses=error_statuses(GATEWAY_CALLER))
async def generate_upload_url(
    body: UploadUrlRequest, request: Request, caller: CurrentPrincipal, app: AppServices
) -> dict[str, str]:
    """Return a presigned URL to upload a file with PUT, and the file's `s3_url`."""
    store = app.gateway.objects
    key = _new_key(object_files.new_input_key, caller, body.filename)
    with object_files.storage_errors():
        url = await store.presigned_url("PUT", key, UPLOAD_URL_SECONDS, _base_url(request, app))
    return {"upload_url": url, "s3_url": object_files.s3_url(store, key)}


@router.post(
    "/upload",
    openapi_extra=_FORM,
    dependencies=[Depends(require_disk_space)],
    responses=error_statuses(GATEWAY_UPLOAD),
)
async def upload(request: Request, caller: CurrentPrincipal, app: AppServices) -> dict[str, Any]:
    """Store a permanent file of an agent."""
    object_files.outputs_prefix(caller)
    form = UploadForm(request, app.settings.gateway_object_bytes)
    await form.read_to_file()
    key = _new_key(object_files.new_output_key, caller, form.filename or "")
    return await _put(app, form, key, form.content())


@router.post(
    "/upload_temp",
    openapi_extra=_FORM,
    dependencies=[Depends(require_disk_space)],
    responses=error_statuses(GATEWAY_UPLOAD),
)
async def upload_temp(
    request: Request, caller: CurrentPrincipal, app: AppServices
) -> dict[str, Any]:
    """Store a temporary file of an agent, for `ttl` seconds (default: one day)."""
    object_files.workspace_prefix(caller)
    form = UploadForm(request, app.settings.gateway_object_bytes)
    await form.read_to_file()
    if {"ttl", "session_id"} <= form.fields.keys():
        return await _put_temporary(app, caller, form, form.content())
    # These fields may follow the file in the form, and determine its key.
    with object_files.storage_errors(), tempfile.TemporaryFile(dir=app.settings.data_dir) as buffer:
        async for block in form.content():
            await run_in_threadpool(buffer.write, block)
        buffer.seek(0)
        return await _put_temporary(app, caller, form, _blocks(buffer))


async def _blocks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while block := await run_in_threadpool(file.read, BLOCK_BYTES):
        yield block


async def _put_temporary(
    app: Services, caller: Principal, form: UploadForm, content: AsyncIterator[bytes]
) -> dict[str, Any]:
    ttl = form.fields.get("ttl") or str(DAY_SECONDS)
    if not re.fullmatch("[0-9]{1,9}", ttl) or not 1 <= int(ttl) <= MAX_TTL_SECONDS:
        raise _invalid("ttl", f"expects 1 to {MAX_TTL_SECONDS:,} seconds, got {ttl[:40]!r}")
    session_id = _session(form.fields.get("session_id") or None)
    make = partial(object_files.new_temporary_key, session_id=session_id)
    key = _new_key(make, caller, form.filename or "")
    await app.gateway.temporary.expect(key, int(ttl))
    response = await _put(app, form, key, content)
    await app.gateway.temporary.keep(key, int(ttl))
    return response


@router.get(
    "/download",
    responses=error_statuses(
        {
            **GATEWAY_CALLER,
            404: "`FILE_NOT_FOUND`: the file does not exist, or belongs to another user.",
        }
    ),
)
async def download(
    request: Request,
    caller: CurrentPrincipal,
    app: AppServices,
    s3_url: S3Url,
    mode: Annotated[Literal["presigned"], Query(description="Kind of the response.")] = "presigned",
    expires_in: Annotated[
        int,
        Query(ge=1, le=MAX_URL_SECONDS, description="Validity of the URL in seconds."),
        CANONICAL_INTEGER,
    ] = 3600,
) -> dict[str, str]:
    """Return a presigned URL to download a file with GET."""
    store, key = app.gateway.objects, _key(app, s3_url)
    try:
        if not object_files.may_read(caller, key):
            raise ObjectNotFound(key)
        with object_files.storage_errors():
            await store.head(key)
            url = await store.presigned_url("GET", key, expires_in, _base_url(request, app))
    except ObjectNotFound:
        raise GatewayHTTPError(
            404, "FILE_NOT_FOUND", "The file does not exist or belongs to another user or agent."
        ) from None
    return {"presigned_url": url}


@router.get("/list", responses=error_statuses(GATEWAY_AGENT))
async def list_files(
    caller: CurrentPrincipal,
    app: AppServices,
    limit: Limit = 100,
    continuation_token: Token = None,
    prefix: Prefix = "",
) -> dict[str, Any]:
    """List an agent's permanent files.

    `prefix` is a BeRay extension: the start of a key, or of a path in the agent's directory.
    """
    return await _page(app, object_files.outputs_prefix(caller), prefix, limit, continuation_token)


@router.get("/list_temp", responses=error_statuses(GATEWAY_AGENT))
async def list_temp(
    caller: CurrentPrincipal,
    app: AppServices,
    session_id: SessionId = None,
    limit: Limit = 100,
    continuation_token: Token = None,
    prefix: Prefix = "",
) -> dict[str, Any]:
    """List an agent's temporary files, of one session or of all sessions.

    `prefix` is a BeRay extension, as in `list`.
    """
    directory = object_files.workspace_prefix(caller)
    if session_id is not None:
        directory = object_files.session_prefix(caller, _session(session_id))
    return await _page(app, directory, prefix, limit, continuation_token)


@router.delete("/cleanup_temp", responses=error_statuses(GATEWAY_AGENT))
async def cleanup_temp(
    caller: CurrentPrincipal,
    app: AppServices,
    session_id: SessionId = None,
) -> dict[str, int]:
    """Delete the temporary files of a session, or all temporary files of the agent."""
    directory = object_files.workspace_prefix(caller)
    if session_id is not None:
        directory = object_files.session_prefix(caller, _session(session_id))
    with object_files.storage_errors():
        return {"deleted_count": await app.gateway.temporary.clean(directory)}


@router.delete(
    "",
    responses=error_statuses(
        {
            **GATEWAY_CALLER,
            403: "`FORBIDDEN`: the file does not belong to the caller.",
        }
    ),
)
async def delete_file(caller: CurrentPrincipal, app: AppServices, s3_url: S3Url) -> dict[str, int]:
    """Delete a file. BeRay extension."""
    key = _key(app, s3_url)
    if not object_files.may_read(caller, key):
        return {"deleted_count": 0}
    if not object_files.may_remove(caller, key):
        raise GatewayHTTPError(
            403,
            "FORBIDDEN",
            "Only the signed-in user or the agent that the file belongs to can delete it.",
        )
    with object_files.storage_errors():
        return {"deleted_count": await app.gateway.objects.delete([key])}


async def _put(
    app: Services, form: UploadForm, key: str, content: AsyncIterator[bytes]
) -> dict[str, Any]:
    store = app.gateway.objects
    with object_files.storage_errors():
        stored = await store.put(key, content, object_files.valid_media_type(form.content_type))
    return {
        "success": True,
        "s3_url": object_files.s3_url(store, key),
        "filename": key.rpartition("/")[2],
        "size": stored.size,
    }


async def _page(
    app: Services, directory: str, prefix: str, limit: int, token: str | None
) -> dict[str, Any]:
    if prefix != printable(prefix):
        raise _invalid("prefix", "must not contain control characters")
    store = app.gateway.objects
    prefix = prefix if prefix.startswith(directory) else directory + prefix
    after = _after(token, prefix) if token is not None else ""
    with object_files.storage_errors():
        found = await store.list(prefix, after, limit + 1)
    response: dict[str, Any] = {"files": [_to_wire(app, stored) for stored in found[:limit]]}
    if len(found) > limit:
        response["next_token"] = base64.urlsafe_b64encode(found[limit - 1].key.encode()).decode()
    return response


def _after(token: str, prefix: str) -> str:
    """Return the key that a continuation token contains."""
    try:
        key = base64.b64decode(token, b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        key = ""
    if not key.startswith(prefix):
        raise _invalid(
            "continuation_token",
            "does not belong to this listing; use the next_token of the previous page",
        )
    return key


def _to_wire(app: Services, stored: StoredObject) -> dict[str, Any]:
    return {
        "key": stored.key,
        "size": stored.size,
        "last_modified": stored.last_modified,
        "s3_url": object_files.s3_url(app.gateway.objects, stored.key),
    }


def _key(app: Services, s3_url: str) -> str:
    try:
        return object_files.parse_s3_url(app.gateway.objects, s3_url)
    except ValueError as error:
        raise _invalid("s3_url", str(error)) from None


def _new_key(make: Callable[[Principal, str], str], caller: Principal, filename: str) -> str:
    try:
        return make(caller, filename)
    except ValueError as error:
        raise _invalid("filename", str(error)) from None


def _session(session_id: str | None) -> str | None:
    if session_id is not None and not object_files.is_valid_key_part(session_id):
        raise _invalid(
            "session_id", "may have at most 128 characters: letters, digits, '.', '_' and '-'"
        )
    return session_id


def _base_url(request: Request, app: Services) -> str:
    # A sandbox can reach only the address that it sent the request to.
    public_url = None if is_relayed(request.scope) else app.settings.public_url
    return public_url or str(request.base_url)


def _invalid(place: str, problem: str) -> GatewayHTTPError:
    return invalid_input([InputProblem((place,), problem)])
