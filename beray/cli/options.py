"""Options and arguments that several commands share, as types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from beray.cli.positions import check_position
from beray.cli.times import parse_duration
from beray.sanitize import is_encodable
from beray.schema import SCOPES
from beray.transfers.wire_names import to_wire_name


def encodable(text: str | None) -> str | None:
    """Return ``text`` unchanged if it can be encoded as UTF-8.

    Raises:
        typer.BadParameter: The argument's bytes were not valid UTF-8.
    """
    if text is not None and not is_encodable(text):
        raise typer.BadParameter(f"{text[:100]!a} is not valid UTF-8")
    return text


def wire_path(path: str | None) -> str | None:
    """Return the wire name of a path in a work_dir; the shell may pass the file's raw bytes."""
    return encodable(path and to_wire_name(path))


def _wire_paths(paths: list[str] | None) -> list[str] | None:
    return None if paths is None else [wire_path(path) or "" for path in paths]


def _known_scopes(scopes: list[str] | None) -> list[str] | None:
    for scope in scopes or ():
        if scope not in SCOPES:
            raise typer.BadParameter(f"expected one of {', '.join(SCOPES)}, got {scope[:100]!a}")
    return scopes


Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Server URL, instead of BERAY_URL or a profile."),
]
ProfileName = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME", help="Saved profile; `local` is your local server."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Write only JSON to stdout, one object per line.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing local files.")]
TaskId = Annotated[int, typer.Argument(metavar="ID", help="Id of the task.", min=0)]
RemotePath = Annotated[
    str,
    typer.Argument(metavar="PATH", help="Path in the task's work_dir.", callback=wire_path),
]
RemotePaths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH",
        help="Paths in the task's work_dir. Default: the whole work_dir.",
        callback=_wire_paths,
    ),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="POS",
        help="State in the history: the seq of an event, such as 17, or a checkpoint, such as c3. "
        "Default: the current files.",
        callback=check_position,
    ),
]
FromPosition = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="POS",
        help="Old state: a seq or a checkpoint. Default: the first checkpoint.",
        callback=check_position,
    ),
]
ToPosition = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="POS",
        help="New state: a seq or a checkpoint. Default: the newest checkpoint.",
        callback=check_position,
    ),
]
NoPager = Annotated[bool, typer.Option("--no-pager", help="Write to the terminal directly.")]
LocalPaths = Annotated[
    list[Path], typer.Argument(metavar="LOCAL", help="Local files and directories.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        callback=_known_scopes,
        help="Operations that the key permits: tasks:read, tasks:write, files, gateway. "
        "Repeatable. Default: gateway.",
    ),
]
Expires = Annotated[
    float | None,
    typer.Option(
        "--expires",
        metavar="DURATION",
        help="Validity, such as 90d, 12h or 30m.",
        parser=parse_duration,
    ),
]
Agent = Annotated[
    str | None,
    typer.Option(
        "--agent",
        metavar="AGENT",
        help="Agent that uses the key. Each agent has its own files.",
        callback=encodable,
    ),
]
Email = Annotated[
    str | None,
    typer.Option("--email", metavar="EMAIL", help="E-mail address of the account. Default: ask."),
]
