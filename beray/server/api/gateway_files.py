"""The routes of files: ``/internal/files/…``.

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
from beray.server.api.dependencies import AppServices, require_disk_space
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
MOST_TTL_SECONDS: Final = 30 * DAY_SECONDS
MOST_URL_SECONDS: Final = 7 * DAY_SECONDS
"""What S3 allows."""
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
Limit = Annotated[int, Query(ge=1, le=1000), CANONICAL_INTEGER]
Token = Annotated[str | None, Query(max_length=2 * MAX_KEY_BYTES)]
Prefix = Annotated[str, Query(max_length=MAX_KEY_BYTES)]
S3Url = Annotated[str, Query(max_length=2 * MAX_KEY_BYTES)]
SessionId = Annotated[str | None, Query(max_length=128)]


class NewUpload(BaseModel):
    filename: str = Field(min_length=1, max_length=4096)
    content_type: str | None = None


@router.post("/generate_upload_url")
async def generate_upload_url(
    body: NewUpload, request: Request, caller: CurrentPrincipal, app: AppServices
) -> dict[str, str]:
    """A URL to PUT a file to, and where it is then."""
    store = app.gateway.objects
    key = _new_key(object_files.new_input_key, caller, body.filename)
    with object_files.storage_errors():
        url = await store.presigned_url("PUT", key, UPLOAD_URL_SECONDS, _base_url(request, app))
    return {"upload_url": url, "s3_url": object_files.s3_url(store, key)}


@router.post("/upload", openapi_extra=_FORM, dependencies=[Depends(require_disk_space)])
async def upload(request: Request, caller: CurrentPrincipal, app: AppServices) -> dict[str, Any]:
    """Keep a file of an agent's."""
    object_files.outputs_prefix(caller)
    form = UploadForm(request, app.settings.gateway_object_bytes)
    await form.begin()
    key = _new_key(object_files.new_output_key, caller, form.filename or "")
    return await _put(app, form, key, form.content())


@router.post("/upload_temp", openapi_extra=_FORM, dependencies=[Depends(require_disk_space)])
async def upload_temp(
    request: Request, caller: CurrentPrincipal, app: AppServices
) -> dict[str, Any]:
    """Keep a file of an agent's for a while."""
    object_files.workspace_prefix(caller)
    form = UploadForm(request, app.settings.gateway_object_bytes)
    await form.begin()
    if {"ttl", "session_id"} <= form.fields.keys():
        return await _put_for_a_while(app, caller, form, form.content())
    # They may stand behind the file, and say where it belongs.
    with object_files.storage_errors(), tempfile.TemporaryFile(dir=app.settings.data_dir) as held:
        async for block in form.content():
            await run_in_threadpool(held.write, block)
        held.seek(0)
        return await _put_for_a_while(app, caller, form, _blocks(held))


async def _blocks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while block := await run_in_threadpool(file.read, BLOCK_BYTES):
        yield block


async def _put_for_a_while(
    app: Services, caller: Principal, form: UploadForm, content: AsyncIterator[bytes]
) -> dict[str, Any]:
    ttl = form.fields.get("ttl") or str(DAY_SECONDS)
    if not re.fullmatch("[0-9]{1,9}", ttl) or not 1 <= int(ttl) <= MOST_TTL_SECONDS:
        raise _invalid("ttl", f"it has to be 1 to {MOST_TTL_SECONDS} seconds")
    session_id = _session(form.fields.get("session_id") or None)
    make = partial(object_files.new_temporary_key, session_id=session_id)
    key = _new_key(make, caller, form.filename or "")
    await app.gateway.temporary.expect(key, int(ttl))
    answer = await _put(app, form, key, content)
    await app.gateway.temporary.keep(key, int(ttl))
    return answer


@router.get("/download")
async def download(
    request: Request,
    caller: CurrentPrincipal,
    app: AppServices,
    s3_url: S3Url,
    mode: Literal["presigned"] = "presigned",
    expires_in: Annotated[int, Query(ge=1, le=MOST_URL_SECONDS), CANONICAL_INTEGER] = 3600,
) -> dict[str, str]:
    """A URL from which to GET a file of the caller's."""
    store, key = app.gateway.objects, _key(app, s3_url)
    try:
        if not object_files.may_read(caller, key):
            raise ObjectNotFound(key)
        with object_files.storage_errors():
            await store.head(key)
            url = await store.presigned_url("GET", key, expires_in, _base_url(request, app))
    except ObjectNotFound:
        raise GatewayHTTPError(404, "FILE_NOT_FOUND", "There is no such file.") from None
    return {"presigned_url": url}


@router.get("/list")
async def list_files(
    caller: CurrentPrincipal,
    app: AppServices,
    limit: Limit = 100,
    continuation_token: Token = None,
    prefix: Prefix = "",
) -> dict[str, Any]:
    """An agent's permanent files.

    Ours: ``prefix``, of whole keys or of what stands behind the agent's folder.
    """
    return await _page(app, object_files.outputs_prefix(caller), prefix, limit, continuation_token)


@router.get("/list_temp")
async def list_temp(
    caller: CurrentPrincipal,
    app: AppServices,
    session_id: SessionId = None,
    limit: Limit = 100,
    continuation_token: Token = None,
    prefix: Prefix = "",
) -> dict[str, Any]:
    """An agent's temporary files, of one session or of all. Ours: ``prefix``, as of ``list``."""
    folder = object_files.workspace_prefix(caller)
    if session_id is not None:
        folder = object_files.session_prefix(caller, _session(session_id))
    return await _page(app, folder, prefix, limit, continuation_token)


@router.delete("/cleanup_temp")
async def cleanup_temp(
    caller: CurrentPrincipal,
    app: AppServices,
    session_id: Annotated[str | None, Query(max_length=128)] = None,
) -> dict[str, int]:
    """Remove the temporary files of a session, or all temporary files of the agent."""
    folder = object_files.workspace_prefix(caller)
    if session_id is not None:
        folder = object_files.session_prefix(caller, _session(session_id))
    with object_files.storage_errors():
        return {"deleted_count": await app.gateway.temporary.clean(folder)}


@router.delete("")
async def delete_file(caller: CurrentPrincipal, app: AppServices, s3_url: S3Url) -> dict[str, int]:
    """Remove a file of the caller's. Ours."""
    key = _key(app, s3_url)
    if not object_files.may_read(caller, key):
        return {"deleted_count": 0}
    if not object_files.may_remove(caller, key):
        raise GatewayHTTPError(
            403, "FORBIDDEN", "Only its owner, signed in, or the agent whose file it is removes it."
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
    app: Services, folder: str, prefix: str, limit: int, token: str | None
) -> dict[str, Any]:
    if prefix != printable(prefix):
        raise _invalid("prefix", "no key has control characters")
    store = app.gateway.objects
    prefix = prefix if prefix.startswith(folder) else folder + prefix
    after = _after(token, prefix) if token is not None else ""
    with object_files.storage_errors():
        found = await store.list(prefix, after, limit + 1)
    answer: dict[str, Any] = {"files": [_public(app, stored) for stored in found[:limit]]}
    if len(found) > limit:
        answer["next_token"] = base64.urlsafe_b64encode(found[limit - 1].key.encode()).decode()
    return answer


def _after(token: str, prefix: str) -> str:
    """The key that a continuation token stands for."""
    try:
        key = base64.b64decode(token, b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        key = ""
    if not key.startswith(prefix):
        raise _invalid("continuation_token", "this is not one of this listing")
    return key


def _public(app: Services, stored: StoredObject) -> dict[str, Any]:
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
        raise _invalid("session_id", "it has letters, digits, '.', '_' and '-', at most 128")
    return session_id


def _base_url(request: Request, app: Services) -> str:
    # From a sandbox, only the place that the request was sent to can be reached.
    public_url = None if is_relayed(request.scope) else app.settings.public_url
    return public_url or str(request.base_url)


def _invalid(place: str, problem: str) -> GatewayHTTPError:
    return invalid_input([InputProblem((place,), problem)])
