"""The files of a task over HTTP: tree, content, upload, download.

What touches the disk runs in threads; bodies pass in blocks, whatever their size.
"""

from __future__ import annotations

import errno
import json
import mimetypes
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, BinaryIO, Final
from urllib.parse import quote, unquote_to_bytes, urlencode

import anyio
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from beray.schema import FileItem, UploadedFile
from beray.server.api import page_tokens
from beray.server.api.dependencies import AppServices, OwnTask, require_disk_space
from beray.server.files import http_ranges
from beray.server.files.file_response import (
    FileRequestHeadersParam,
    Representation,
    ThreadedResponse,
    file_response,
)
from beray.server.http.integers import CANONICAL_INTEGER, declared_size
from beray.server.http.strict_json import StrictRoute
from beray.server.workspace import archive
from beray.server.workspace.disk_quota import InsufficientSpace
from beray.server.workspace.workspace import (
    AtomicFileWriter,
    InvalidPath,
    MissingPath,
    clamp_to_date_range,
)
from beray.transfers import digest as digests
from beray.transfers import file_modes

MOST_PATHS: Final = 10_000
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_UPLOAD_DOCS: Final = {
    "requestBody": {"required": True, "content": {"application/octet-stream": _BINARY}}
}
_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


async def _readable_query(request: Request) -> None:
    """Refuse what would otherwise be read as a path with U+FFFD in it."""
    try:
        unquote_to_bytes(request.scope["query_string"]).decode()
    except UnicodeDecodeError:
        raise HTTPException(422, "The query is not UTF-8.") from None


router = APIRouter(
    prefix="/tasks/{task_id}/files",
    tags=["files"],
    dependencies=[Depends(_readable_query)],
    route_class=StrictRoute,
)
FilePath = Annotated[
    str,
    Query(
        description="Relative to the work_dir, `/` between parts; bytes that are not UTF-8 as `␦XX`"
    ),
]
FileMode = Annotated[
    str | None,
    Header(
        alias=file_modes.HEADER,
        pattern=file_modes.PATTERN,
        description="Permission bits in octal digits, such as `755`; others than 0777 are ignored.",
    ),
]


@router.get(
    "/tree",
    response_model=list[FileItem],
    responses={
        200: {
            "headers": {
                "Link": {
                    "description": 'The next page (`rel="next"`, RFC 8288), if there is one.',
                    "schema": {"type": "string"},
                }
            }
        }
    },
)
def get_tree(
    request: Request,
    task: OwnTask,
    app: AppServices,
    path: FilePath = ".",
    depth: Annotated[
        int | None,
        Query(ge=1, lt=2**63, description="Number of levels: 1 for the folder itself. Extension."),
        CANONICAL_INTEGER,
    ] = None,
    limit: Annotated[
        int | None,
        Query(ge=1, lt=2**63, description="Maximum number of entries of a page. Extension."),
        CANONICAL_INTEGER,
    ] = None,
    after: Annotated[
        str | None,
        Query(
            max_length=page_tokens.MAX_TOKEN_CHARACTERS,
            description="Where the page starts, from the `Link` of the page before. Extension.",
        ),
    ] = None,
) -> Response:
    """Return what is below a folder of the work_dir, each folder before what is in it.

    Sorted by the names in the path, as bytes. Without `depth`, `limit` and `after` the whole tree
    is returned, or 422 if it has more than `BERAY_TREE_LIMIT` entries. With one of them, the answer
    is a page of up to `limit` entries (by default and at most `BERAY_TREE_LIMIT`), and `Link` has
    the URL of the next page. Entries that exist during the whole listing are neither repeated nor
    skipped.
    """
    most = app.settings.tree_limit
    with _refusals(), app.workspaces.open(task.id) as workspace:
        if depth is None and limit is None and after is None:
            return _json(workspace.tree(path, limit=most))
        position = () if after is None else page_tokens.decode(after)
        page = workspace.page(path, limit=min(limit or most, most), depth=depth, after=position)
    headers = {}
    if page.end is not None:
        query = {
            "path": path,
            "depth": depth,
            "limit": limit,
            "after": page_tokens.encode(page.end),
        }
        given = {name: value for name, value in query.items() if value is not None}
        headers["Link"] = f'<{quote(request.url.path)}?{urlencode(given)}>; rel="next"'
    return _json(page.items, headers)


def _json(items: list[FileItem], headers: dict[str, str] | None = None) -> Response:
    content = json.dumps(items, ensure_ascii=False)
    return Response(content, media_type="application/json", headers=headers)


@router.head("/content", include_in_schema=False)
@router.get("/content", response_class=Response, responses={200: {"content": {"*/*": _BINARY}}})
def get_content(
    request: Request,
    task: OwnTask,
    app: AppServices,
    path: FilePath,
    asked: FileRequestHeadersParam,
) -> Response:
    """The bytes of a file, or the `Range` of them that is asked for."""
    with _refusals(), app.workspaces.open(task.id) as workspace:
        file, status = workspace.open_file(path)
    name = path.rpartition("/")[2]
    found = Representation(
        file,
        name,
        _media_type(name),
        status.st_size,
        http_ranges.etag(status),
        clamp_to_date_range(status.st_mtime_ns),
        lambda: _sha256(file),
        status.st_mode,
    )
    return file_response(found, asked, head=request.method == "HEAD")


def _sha256(file: BinaryIO) -> bytes:
    digest = digests.sha256_of_file(file)
    file.seek(0)
    return digest


@router.put("/content", openapi_extra=_UPLOAD_DOCS, dependencies=[Depends(require_disk_space)])
async def put_content(
    request: Request, task: OwnTask, app: AppServices, path: FilePath, mode: FileMode = None
) -> UploadedFile:
    """Write the request's body to a file: it is there whole, or not at all.

    Missing folders are made; a file that is there is replaced, and its mode kept unless the
    request has another one.
    """
    with _refusals():
        workspace = await run_in_threadpool(app.workspaces.open, task.id)
        try:
            writer = await run_in_threadpool(workspace.write, path, file_modes.parse(mode))
            try:
                await run_in_threadpool(writer.reserve, declared_size(request.headers))
                await _receive(request, writer)
                await run_in_threadpool(writer.commit)
            finally:
                with anyio.CancelScope(shield=True):
                    await run_in_threadpool(writer.discard)
        finally:
            workspace.close()
    return {"message": "The file was written.", "path": writer.path, "size": writer.size}


@router.put("/directory", dependencies=[Depends(require_disk_space)])
def put_directory(
    task: OwnTask, app: AppServices, path: FilePath, mode: FileMode = None
) -> UploadedFile:
    """Make a directory, and what is missing above it. One that is there gets the `mode`, if any."""
    with _refusals(), app.workspaces.open(task.id) as workspace:
        made = workspace.make_directory(path, file_modes.parse(mode))
    return {"message": "The directory is there.", "path": made}


class Selection(BaseModel):
    """What to put into an archive; nothing named is everything."""

    paths: list[str] = Field(default=[], max_length=MOST_PATHS)


@router.post(
    "/download",
    response_class=Response,
    responses={200: {"content": {"application/zip": _BINARY}}},
)
def download(task: OwnTask, app: AppServices, body: Selection) -> Response:
    """A ZIP of files and folders of the work_dir, or of all of it."""
    with _refusals(), ExitStack() as opened:
        workspace = opened.enter_context(app.workspaces.open(task.id))
        chosen = archive.select_paths(workspace, body.paths)
        return ThreadedResponse(
            archive.stream_zip(workspace, chosen),
            opened.pop_all(),
            headers={"Content-Disposition": f'attachment; filename="task-{task.id}.zip"'},
            media_type="application/zip",
        )


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn the reasons of a workspace into answers."""
    try:
        yield
    except InvalidPath as error:
        raise HTTPException(422, error.reason) from None
    except MissingPath as error:
        raise HTTPException(404, error.reason) from None
    except InsufficientSpace as error:
        status = 413 if error.fits_never else 507
        raise HTTPException(status, f"Nothing was written: {error.strerror}.") from None
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise HTTPException(507, f"Nothing was written: {os.strerror(error.errno)}.") from None


async def _receive(request: Request, writer: AtomicFileWriter) -> None:
    """Write the body of ``request``; a body that was cut short is an error."""
    pending = bytearray()
    try:
        async for block in request.stream():
            pending += block
            if len(pending) >= http_ranges.BLOCK_BYTES:
                await run_in_threadpool(writer.write, pending)
                pending = bytearray()
    except ClientDisconnect:
        raise HTTPException(400, "The upload was cut off; nothing was written.") from None
    await run_in_threadpool(writer.write, pending)
    declared = request.headers.get("Content-Length", str(writer.size))
    if declared != str(writer.size):
        raise HTTPException(400, f"{writer.size} of {declared} bytes arrived; nothing was written.")


def _media_type(name: str) -> str:
    guessed, encoding = mimetypes.guess_type(name)
    return "application/octet-stream" if guessed is None or encoding else guessed
