"""The files of a task: ls, cat, put, get, zip."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import typer

from beray.cli import downloads, output, uploads
from beray.cli.context import connected
from beray.cli.options import (
    AsJson,
    Force,
    LocalPaths,
    ProfileName,
    RemotePath,
    RemotePaths,
    TaskId,
    Url,
    wire_path,
)
from beray.cli.progress import bars
from beray.exceptions import ConfigurationError
from beray.schema import FileItem, size_of, size_text
from beray.transfers.local_names import local_path

STDOUT = Path("-")
_ROWS_AT_ONCE: Final = 1000
"""Rows of a listing that are aligned with each other on a terminal."""


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
            help="Only so many levels: 1 lists the folder itself.",
            min=1,
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """List what is in the work_dir.

    Everything below a folder, or some levels of it: type, size in bytes, modification time
    and path.
    """
    with connected(ctx, url, profile) as server:
        items = server.client.iter_files(task_id, path, depth=depth)
        if as_json:
            for item in items:
                output.json_line(item)
        elif output.is_terminal(sys.stdout):
            while rows := [_row(item) for item in islice(items, _ROWS_AT_ONCE)]:
                widest = max(len(row[1]) for row in rows)
                output.table([[kind, size.rjust(widest), *rest] for kind, size, *rest in rows])
        else:
            for item in items:
                output.row(_row(item))


def _row(item: FileItem) -> list[str]:
    is_folder = item["type"] == "directory"
    return [
        "d" if is_folder else "-",
        "" if is_folder else size_text(item),
        item.get("modified_at") or "",
        item.get("path", item["name"]),
    ]


def cat(
    ctx: typer.Context,
    task_id: TaskId,
    path: RemotePath,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Write a file to stdout.

    A pipe gets its bytes, a terminal its text.
    """
    with connected(ctx, url, profile) as server:
        content = server.patient.get_file_content(task_id, path, stream=True)
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
            help="The path in the work_dir; a folder where it ends in / or several are put.",
            callback=wire_path,
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Upload files and folders into the work_dir.

    They replace what has the same path, and keep their permission bits.
    """
    planned = uploads.plan(local, to)
    for left_out in planned.left_out:
        output.note(f"not uploaded: {left_out}")
    with connected(ctx, url, profile) as server, bars() as begin:
        answers = uploads.send(server.patient, task_id, planned, begin)
    for upload, answer in zip(planned.uploads, answers, strict=True):
        if as_json:
            output.json_line(answer)
        else:
            size = size_of(answer)
            details = "uploaded" if size is None else f"{size} bytes"
            output.note(f"{answer.get('path') or upload.path}: {details}")


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
            help="The local file or an existing folder; - is stdout. Default: its own name.",
        ),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Download a file."""
    if local == STDOUT:
        if as_json:
            raise ConfigurationError("stdout cannot take the file and --json at the same time")
        cat(ctx, task_id, path, url, profile)
        return
    target = local
    if local is None or local.is_dir():
        target = local_path(local or Path(), path.rstrip("/").rpartition("/")[2])
    assert target is not None
    with connected(ctx, url, profile) as server, bars() as begin:
        saved = server.patient.download_file(
            task_id, path, target, overwrite=force, transfer=begin(target.name)
        )
    _saved(saved, as_json, path=path)


def zip_(
    ctx: typer.Context,
    task_id: TaskId,
    file: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="The local file; - is stdout."),
    ],
    paths: RemotePaths = None,
    force: Force = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Download a ZIP of the work_dir, or of parts."""
    if file == STDOUT:
        if as_json or output.is_terminal(sys.stdout):
            raise ConfigurationError("a ZIP goes to stdout only in a pipe, and without --json")
        with connected(ctx, url, profile) as server:
            content = server.patient.download_files_as_zip(task_id, paths, stream=True)
            downloads.to_stdout(content, "zip")
        return
    with connected(ctx, url, profile) as server, bars() as begin:
        saved = server.patient.download_zip(
            task_id, file, paths, overwrite=force, transfer=begin(file.name)
        )
    _saved(saved, as_json)


def _saved(local: Path, as_json: bool, **more: str) -> None:
    size = local.stat().st_size
    if as_json:
        output.json_line({**more, "local": output.path_text(local), "size": size})
    else:
        output.note(f"{local}: {size} bytes")


def register(app: typer.Typer) -> None:
    for command in (ls, cat, put, get):
        app.command()(command)
    app.command("zip")(zip_)
