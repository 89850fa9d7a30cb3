"""Routes of a task's files, ``/tasks/{task_id}/files``: tree, content, upload and download.

Disk operations run in threads. Bodies of any size are processed in blocks.
"""

from __future__ import annotations

import json
import mimetypes
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

from beray.schema import API_PREFIX, FileItem, UploadedFile
from beray.server.api import page_tokens
from beray.server.api.checkpoints import At, checkpoint_files, history_errors
from beray.server.api.dependencies import AppServices, TaskOfFiles, require_disk_space
from beray.server.api.error_statuses import NO_SPACE, TASK, TASK_FILE, error_statuses
from beray.server.api.workspace_errors import workspace_errors
from beray.server.files import http_ranges
from beray.server.files.file_response import (
    FileRequestHeaders,
    FileRequestHeadersParam,
    Representation,
    ThreadedResponse,
    file_response,
)
from beray.server.http.integers import CANONICAL_INTEGER, declared_size
from beray.server.http.strict_json import StrictRoute
from beray.server.services import Services
from beray.server.storage.tables import Task
from beray.server.workspace import archive
from beray.server.workspace.history.checkpoint_files import CheckpointFiles
from beray.server.workspace.workspace import (
    AtomicFileWriter,
    Workspace,
    clamp_to_date_range,
)
from beray.transfers import digest as digests
from beray.transfers import file_modes

MAX_PATHS: Final = 10_000
"""Maximum number of paths of a download."""
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_UPLOAD_DOCS: Final = {
    "requestBody": {"required": True, "content": {"application/octet-stream": _BINARY}}
}


async def _readable_query(request: Request) -> None:
    """Reject queries that are not UTF-8, which would be decoded to a path with U+FFFD."""
    try:
        unquote_to_bytes(request.scope["query_string"]).decode()
    except UnicodeDecodeError:
        raise HTTPException(
            422, "The query is not UTF-8. Write other bytes of a path as `␦XX`."
        ) from None


router = APIRouter(
    prefix=f"{API_PREFIX}/tasks/{{task_id}}/files",
    tags=["files"],
    dependencies=[Depends(_readable_query)],
    route_class=StrictRoute,
)
FilePath = Annotated[
    str,
    Query(
        description="Path relative to the work_dir, separated by `/`. Bytes that are not UTF-8 are "
        "written as `␦XX` (hexadecimal)."
    ),
]
FileMode = Annotated[
    str | None,
    Header(
        alias=file_modes.HEADER,
        pattern=file_modes.PATTERN,
        description="Permission bits in octal digits, such as `755`. Bits outside of 0777 are "
        "ignored.",
    ),
]


@router.get(
    "/tree",
    response_model=list[FileItem],
    responses={
        **error_statuses(
            {
                **TASK_FILE,
                409: "With `at`: the history is turned off.",
                422: "A value is invalid, or a listing without pages is too long.",
            }
        ),
        200: {
            "headers": {
                "Link": {
                    "description": 'URL of the next page (`rel="next"`, RFC 8288), if any.',
                    "schema": {"type": "string"},
                }
            }
        },
    },
)
def get_tree(
    request: Request,
    task: TaskOfFiles,
    app: AppServices,
    at: At,
    path: FilePath = ".",
    depth: Annotated[
        int | None,
        Query(
            ge=1,
            lt=2**63,
            description="Maximum depth; 1 lists the directory itself. BeRay extension.",
        ),
        CANONICAL_INTEGER,
    ] = None,
    limit: Annotated[
        int | None,
        Query(ge=1, lt=2**63, description="Maximum number of entries per page. BeRay extension."),
        CANONICAL_INTEGER,
    ] = None,
    after: Annotated[
        str | None,
        Query(
            max_length=page_tokens.MAX_TOKEN_CHARACTERS,
            description="Start of the page, from the `Link` of the previous page. BeRay extension.",
        ),
    ] = None,
) -> Response:
    """List the files and directories below a directory of the work_dir, or of a checkpoint.

    Entries are sorted by the names of their path as bytes; each directory precedes its content.
    Without `depth`, `limit` and `after`, the response is the whole tree, or 422 if it has more
    than `BERAY_TREE_LIMIT` entries. Otherwise the response is a page of up to `limit` entries (by
    default and at most `BERAY_TREE_LIMIT`), and `Link` has the URL of the next page. Entries that
    exist during the whole listing are neither repeated nor skipped.
    """
    max_entries = app.settings.tree_limit
    with workspace_errors(), _files(app, task, at) as files:
        if depth is None and limit is None and after is None:
            return _json(files.tree(path, limit=max_entries))
        position = () if after is None else page_tokens.decode(after)
        page_limit = min(limit or max_entries, max_entries)
        page = files.page(path, limit=page_limit, depth=depth, after=position)
    headers = {}
    if page.end is not None:
        query = {
            "path": path,
            "depth": depth,
            "limit": limit,
            "after": page_tokens.encode(page.end),
            "at": at,
        }
        present = {name: value for name, value in query.items() if value is not None}
        headers["Link"] = f'<{quote(request.url.path)}?{urlencode(present)}>; rel="next"'
    return _json(page.items, headers)


def _json(items: list[FileItem], headers: dict[str, str] | None = None) -> Response:
    content = json.dumps(items, ensure_ascii=False)
    return Response(content, media_type="application/json", headers=headers)


@router.head("/content", include_in_schema=False)
@router.get(
    "/content",
    response_class=Response,
    responses={
        200: {"content": {"*/*": _BINARY}},
        **error_statuses(
            {
                **TASK_FILE,
                409: "With `at`: the content is not stored, or the history is turned off.",
                422: "The path is invalid, or not that of a file.",
            }
        ),
    },
)
def get_content(
    request: Request,
    task: TaskOfFiles,
    app: AppServices,
    path: FilePath,
    request_headers: FileRequestHeadersParam,
    at: At,
) -> Response:
    """Return the content of a file, or the part requested by `Range`."""
    if at is not None:
        return _content_at(request, task, app, path, request_headers, at)
    with workspace_errors(), app.workspaces.open(task.id) as workspace:
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
    return file_response(found, request_headers, head=request.method == "HEAD")


def _content_at(
    request: Request,
    task: Task,
    app: Services,
    path: str,
    request_headers: FileRequestHeaders,
    at: str,
) -> Response:
    with workspace_errors(), history_errors():
        file, entry = checkpoint_files(app, task, at).open_file(path)
    name = path.rpartition("/")[2]
    found = Representation(
        file,
        name,
        _media_type(name),
        entry.size,
        f'"{entry.digest.hex()}"',
        clamp_to_date_range(entry.mtime_ns),
        lambda: entry.digest,
        entry.mode,
    )
    return file_response(found, request_headers, head=request.method == "HEAD")


@contextmanager
def _files(app: Services, task: Task, at: str | None) -> Iterator[Workspace | CheckpointFiles]:
    """Open the work_dir of a task, or one of its checkpoints."""
    if at is None:
        with app.workspaces.open(task.id) as workspace:
            yield workspace
        return
    with history_errors():
        yield checkpoint_files(app, task, at)


def _sha256(file: BinaryIO) -> bytes:
    digest = digests.sha256_of_file(file)
    file.seek(0)
    return digest


@router.put(
    "/content",
    openapi_extra=_UPLOAD_DOCS,
    dependencies=[Depends(require_disk_space)],
    responses=error_statuses(
        {
            **TASK,
            **NO_SPACE,
            400: "The upload was interrupted; nothing was written.",
            422: "The path or the mode is invalid.",
        }
    ),
)
async def put_content(
    request: Request, task: TaskOfFiles, app: AppServices, path: FilePath, mode: FileMode = None
) -> UploadedFile:
    """Write the request body to a file, atomically.

    Missing directories are created. An existing file is replaced; it keeps its mode unless the
    request has one.
    """
    with workspace_errors():
        workspace = await run_in_threadpool(app.workspaces.open, task.id)
        try:
            writer = await run_in_threadpool(workspace.write, path, file_modes.parse(mode))
            try:
                await run_in_threadpool(writer.reserve, declared_size(request.headers))
                await _receive(request, writer)
                async with app.checkpoints.uploading(task):
                    await run_in_threadpool(writer.commit)
            finally:
                with anyio.CancelScope(shield=True):
                    await run_in_threadpool(writer.discard)
        finally:
            workspace.close()
    return {"message": "The file was written.", "path": writer.path, "size": writer.size}


@router.put(
    "/directory",
    dependencies=[Depends(require_disk_space)],
    responses=error_statuses(
        {**TASK, **NO_SPACE, 422: "The path or the mode is invalid, or a file has this path."}
    ),
)
async def put_directory(
    task: TaskOfFiles, app: AppServices, path: FilePath, mode: FileMode = None
) -> UploadedFile:
    """Create a directory and its missing parents. BeRay extension.

    An existing directory gets the mode of the request, if any.
    """

    def make() -> str:
        with workspace_errors(), app.workspaces.open(task.id) as workspace:
            return workspace.make_directory(path, file_modes.parse(mode))

    async with app.checkpoints.uploading(task):
        made = await run_in_threadpool(make)
    return {"message": "The directory exists.", "path": made}


class DownloadRequest(BaseModel):
    """Body of a download."""

    paths: list[str] = Field(
        default=[],
        max_length=MAX_PATHS,
        description="Files and directories of the work_dir; empty for the whole work_dir.",
    )


@router.post(
    "/download",
    response_class=Response,
    responses={
        200: {"content": {"application/zip": _BINARY}},
        **error_statuses(
            {
                **TASK_FILE,
                409: "With `at`: a content is not stored, or the history is turned off.",
                422: "A path is invalid.",
            }
        ),
    },
)
def download(task: TaskOfFiles, app: AppServices, body: DownloadRequest, at: At) -> Response:
    """Return a ZIP archive of files and directories of the work_dir, or of the whole work_dir.

    With `at`, they are those of a checkpoint.
    """
    headers = {"Content-Disposition": f'attachment; filename="task-{task.id}.zip"'}
    if at is not None:
        with workspace_errors(), history_errors():
            files = checkpoint_files(app, task, at)
            selected = files.select(body.paths)
        return ThreadedResponse(
            files.stream_zip(selected), ExitStack(), headers=headers, media_type="application/zip"
        )
    with workspace_errors(), ExitStack() as opened:
        workspace = opened.enter_context(app.workspaces.open(task.id))
        chosen = archive.select_paths(workspace, body.paths)
        return ThreadedResponse(
            archive.stream_zip(workspace, chosen),
            opened.pop_all(),
            headers=headers,
            media_type="application/zip",
        )


async def _receive(request: Request, writer: AtomicFileWriter) -> None:
    """Write the body of a request to a file.

    Raises:
        HTTPException: 400, the body is shorter than its ``Content-Length``.
    """
    pending = bytearray()
    try:
        async for block in request.stream():
            pending += block
            if len(pending) >= http_ranges.BLOCK_BYTES:
                await run_in_threadpool(writer.write, pending)
                pending = bytearray()
    except ClientDisconnect:
        raise HTTPException(
            400, "The upload was interrupted, and nothing was written. Send it again."
        ) from None
    await run_in_threadpool(writer.write, pending)
    declared = request.headers.get("Content-Length", str(writer.size))
    if declared != str(writer.size):
        raise HTTPException(
            400,
            f"The upload was interrupted after {writer.size} of {declared} bytes, and nothing was "
            "written. Send it again.",
        )


def _media_type(name: str) -> str:
    guessed, encoding = mimetypes.guess_type(name)
    return "application/octet-stream" if guessed is None or encoding else guessed
