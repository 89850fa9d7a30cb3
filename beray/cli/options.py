"""The options and arguments that several commands share, as types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from beray.sanitize import is_encodable
from beray.transfers.wire_names import to_wire_name


def encodable(text: str | None) -> str | None:
    """Return ``text``, unless it came from bytes that are not text."""
    if not is_encodable(text or ""):
        raise typer.BadParameter("it is not valid UTF-8")
    return text


def wire_path(path: str | None) -> str | None:
    """Return a path in a work_dir as the wire has it: a shell may give it as the disk has it."""
    return encodable(path and to_wire_name(path))


def _wire_paths(paths: list[str] | None) -> list[str] | None:
    return None if paths is None else [wire_path(path) or "" for path in paths]


Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="The server, instead of BERAY_URL or the profile."),
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile", metavar="NAME", help="The saved profile to use; `local` is your own server."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Write one JSON object a line, and nothing else, to stdout.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite local files that exist.")]
TaskId = Annotated[int, typer.Argument(metavar="ID", help="The task.", min=0)]
RemotePath = Annotated[
    str,
    typer.Argument(metavar="PATH", help="A path in the task's work_dir.", callback=wire_path),
]
RemotePaths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH",
        help="Paths in the task's work_dir; without any, all of it.",
        callback=_wire_paths,
    ),
]
LocalPaths = Annotated[list[Path], typer.Argument(metavar="LOCAL", help="Local files and folders.")]
Email = Annotated[
    str | None,
    typer.Option("--email", metavar="EMAIL", help="The account; asked for where it is missing."),
]
