"""Commands for the files of a task: ls, cat, put, get, zip."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import typer

from beray.cli import downloads, output, uploads
from beray.cli.context import ServerConnection, connect
from beray.cli.options import (
    AsJson,
    At,
    Force,
    LocalPaths,
    ProfileName,
    RemotePath,
    RemotePaths,
    TaskId,
    Url,
    wire_path,
)
from beray.cli.positions import parse_position
from beray.cli.progress import progress_bars
from beray.exceptions import ConfigurationError
from beray.schema import FileItem, size_of, size_text
from beray.transfers.local_names import local_path

STDOUT = Path("-")
_ALIGNED_ROWS: Final = 1000
"""Number of rows of a listing that are aligned with each other on a terminal."""


def ls(
    ctx: typer.Context,
    task_id: TaskId,
    path: RemotePath = ".",
    depth: Annotated[
        int | None,
        typer.Option(
            "-d",
            "--depth",
            metavar="LEVELS",
            help="Maximum number of levels; 1 lists only the directory itself.",
            min=1,
        ),
    ] = None,
    at: At = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """List the files of a task, including subdirectories.

    The columns are type, size in bytes, modification time and path.
    """
    with connect(ctx, url, profile) as server:
        items = server.client.iter_files(
            task_id, path, depth=depth, at=_checked(server, task_id, at)
        )
        if as_json:
            for item in items:
                output.json_line(item)
        elif output.is_terminal(sys.stdout):
            while rows := [_row(item) for item in islice(items, _ALIGNED_ROWS)]:
                widest = max(len(row[1]) for row in rows)
                output.table([[kind, size.rjust(widest), *rest] for kind, size, *rest in rows])
        else:
            for item in items:
                output.row(_row(item))


def _checked(server: ServerConnection, task_id: int, at: str | None) -> int | str | None:
    """Return the position of ``--at``, if the server has a checkpoint for it.

    A server without a history would ignore the position, and return the current files.
    """
    if at is None:
        return None
    position = parse_position(at)
    server.client.diff(task_id, from_=position, to=position)
    return position


def _row(item: FileItem) -> list[str]:
    is_directory = item["type"] == "directory"
    return [
        "d" if is_directory else "-",
        "" if is_directory else size_text(item),
        item.get("modified_at") or "",
        item.get("path", item["name"]),
    ]


def cat(
    ctx: typer.Context,
    task_id: TaskId,
    path: RemotePath,
    at: At = None,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Write a file to stdout.

    In a pipe, the bytes are unchanged. On a terminal, control characters are replaced.
    """
    with connect(ctx, url, profile) as server:
        content = server.transfer_client.get_file_content(
            task_id, path, stream=True, at=_checked(server, task_id, at)
        )
        downloads.to_stdout(content, path)


def put(
    ctx: typer.Context,
    task_id: TaskId,
    local: LocalPaths,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="PATH",
            help="Path in the work_dir; a directory if it ends in / or several files are uploaded.",
            callback=wire_path,
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Upload files and directories to the work_dir.

    Existing files with the same path are replaced. Permission bits are kept.
    """
    planned = uploads.plan_uploads(local, to)
    for reason in planned.skipped:
        output.note(f"not uploaded: {reason}")
    with connect(ctx, url, profile) as server, progress_bars() as start_bar:
        responses = uploads.upload_all(server.transfer_client, task_id, planned, start_bar)
    for upload, response in zip(planned.uploads, responses, strict=True):
        if as_json:
            output.json_line(response)
        else:
            size = size_of(response)
            details = "uploaded" if size is None else f"{size} bytes"
            output.note(f"{response.get('path') or upload.path}: {details}")


def get(
    ctx: typer.Context,
    task_id: TaskId,
    path: RemotePath,
    local: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="LOCAL",
            help="Local file or existing directory; - is stdout. Default: the file's name.",
        ),
    ] = None,
    at: At = None,
    force: Force = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Download a file."""
    if local == STDOUT:
        if as_json:
            raise ConfigurationError("--output - and --json both write to stdout; pass only one")
        cat(ctx, task_id, path, at, url, profile)
        return
    target = local
    if local is None or local.is_dir():
        target = local_path(local or Path(), path.rstrip("/").rpartition("/")[2])
    assert target is not None
    with connect(ctx, url, profile) as server, progress_bars() as start_bar:
        saved = server.transfer_client.download_file(
            task_id,
            path,
            target,
            overwrite=force,
            transfer=start_bar(target.name),
            at=_checked(server, task_id, at),
        )
    _report_saved(saved, as_json, path=path)


def zip_(
    ctx: typer.Context,
    task_id: TaskId,
    file: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="Local file; - is stdout."),
    ],
    paths: RemotePaths = None,
    at: At = None,
    force: Force = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Download a ZIP archive of the work_dir, or of some paths."""
    if file == STDOUT:
        if as_json:
            raise ConfigurationError("--output - and --json both write to stdout; pass only one")
        if output.is_terminal(sys.stdout):
            raise ConfigurationError(
                "stdout is a terminal; pass a file to --output, or redirect stdout"
            )
        with connect(ctx, url, profile) as server:
            content = server.transfer_client.download_files_as_zip(
                task_id, paths, stream=True, at=_checked(server, task_id, at)
            )
            downloads.to_stdout(content, "zip")
        return
    with connect(ctx, url, profile) as server, progress_bars() as start_bar:
        saved = server.transfer_client.download_zip(
            task_id,
            file,
            paths,
            overwrite=force,
            transfer=start_bar(file.name),
            at=_checked(server, task_id, at),
        )
    _report_saved(saved, as_json)


def _report_saved(local: Path, as_json: bool, **fields: str) -> None:
    size = local.stat().st_size
    if as_json:
        output.json_line({**fields, "local": output.path_text(local), "size": size})
    else:
        output.note(f"{local}: {size} bytes")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (ls, cat, put, get):
        app.command()(command)
    app.command("zip")(zip_)
