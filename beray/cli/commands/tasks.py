"""Tasks: run, tasks, show, watch, stop, rm."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Final

import typer

from beray.cli import downloads, output, prompts, task_options, uploads
from beray.cli.context import Connection, connected
from beray.cli.errors import FAILED, INTERRUPTED
from beray.cli.options import AsJson, Force, ProfileName, TaskId, Url, encodable
from beray.cli.progress import bars
from beray.cli.render import JsonLines, Lines, View, brief, with_reason
from beray.cli.watch import AllTasks, follow, follow_all
from beray.client import BeRayClient
from beray.exceptions import BeRayException, ConfigurationError
from beray.sanitize import one_line, printable
from beray.schema import Task, TaskEvent, goal_of
from beray.streaming.retraction import without_retracted

_PAGE: Final = 5000
"""Events that are read at once."""


def run(
    ctx: typer.Context,
    goal: Annotated[
        str,
        typer.Argument(
            metavar="GOAL",
            help="What to do, in plain words; ! before a shell command.",
            callback=encodable,
        ),
    ],
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Print the task's id instead of watching it.")
    ] = False,
    file: Annotated[
        list[Path] | None,
        typer.Option(
            "--file",
            "-f",
            metavar="LOCAL",
            help="A file or folder to put into the work_dir first; may be repeated.",
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Fetch the files into DIR at the end."),
    ] = None,
    force: Force = False,
    runner: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who does it: shell, model, acp or command."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Such as openai:gpt-4o.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=N",
            help="What it may take: tokens, requests, cost_usd or seconds; may be repeated.",
        ),
    ] = None,
    network: Annotated[
        bool, typer.Option("--network", help="Let its shell commands reach the network.")
    ] = False,
    gateway: Annotated[
        bool,
        typer.Option(
            "--gateway",
            help="Give its commands access to the gateway: X_INTERNAL_TOKEN, BERAY_GATEWAY_URL.",
        ),
    ] = False,
    tool: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=URL",
            help="MCP server: NAME=URL, NAME=JSON, or the NAME of one that the server defines; "
            "may be repeated.",
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="A word to know it by; may be repeated."),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> int:
    """Create a task and watch it until it ends.

    Exit status 0 if it was completed, 1 if not. Its text goes to stdout, everything else to stderr.
    """
    if not goal.strip():
        raise ConfigurationError("the goal is empty")
    if detach and output_dir is not None:
        raise ConfigurationError("--output waits for the end of the task, --detach does not")
    if output_dir is not None and output_dir.exists() and not output_dir.is_dir():
        raise ConfigurationError(f"{output_dir} is not a folder")
    asked = task_options.asked(
        runner=runner,
        model=model,
        limits=limit,
        network=network,
        gateway=gateway,
        tools=tool,
        tags=tag,
    )
    planned = uploads.plan(file or [])
    with connected(ctx, url, profile) as server:
        task = _created(server, goal, asked, planned)
        task_id = task["id"]
        if detach:
            output.json_line(task) if as_json else output.line(str(task_id))
            return 0
        if not as_json:
            output.note(f"-- task {task_id}")
        status = follow(server, task_id, _view(as_json))
        if output_dir is not None and status != INTERRUPTED:
            _fetch(server, task_id, output_dir, force)
        return status


def _created(
    server: Connection, goal: str, asked: task_options.Asked, planned: uploads.Plan
) -> Task:
    """Create the task, with its files in place before it starts."""
    client = server.client
    for left_out in planned.left_out:
        output.note(f"-- not uploaded: {left_out}")
    if not planned.uploads and not planned.folders:
        task = client.create_task(goal, **asked)
        task_options.note_unheard(asked, task)
        return task
    task = client.create_task(goal, start=False, **asked)
    task_options.note_unheard(asked, task)
    held = task.get("held") is True
    if not held:
        output.note("-- this server starts tasks at once: the files come while it runs")
    try:
        with bars() as begin:
            uploads.send(server.patient, task["id"], planned, begin)
        return client.start_task(task["id"]) if held else task
    except BaseException:
        # A task without its files must not run, and would wait for ever.
        if held:
            _discard(client, task["id"])
        raise


def _discard(client: BeRayClient, task_id: int) -> None:
    try:
        client.delete_task(task_id)
    except BeRayException:
        output.note(f"-- task {task_id} is held and still there; `beray rm {task_id}` deletes it")


def _fetch(server: Connection, task_id: int, folder: Path, force: bool) -> None:
    planned = downloads.plan(server.client.iter_files(task_id), folder)
    with bars() as begin:
        downloads.fetch(server.patient, task_id, planned, begin, overwrite=force)
    output.note(f"-- {len(planned.files)} files in {folder}")


def watch(
    ctx: typer.Context,
    task_id: Annotated[
        int | None, typer.Argument(metavar="[ID]", help="The task.", min=0, show_default=False)
    ] = None,
    all_tasks: Annotated[
        bool, typer.Option("--all", "-a", help="Watch all your tasks, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> int:
    """Show a task's events until it has ended, or what happens to all tasks.

    From the first event on; the exit status is that of `run`. A chat does not end: Ctrl-C
    leaves it. With --all: each change of a status and, as they run, their last lines; in a
    pipe time, id, status and text with tabs between them.
    """
    if (task_id is None) != all_tasks:
        raise ConfigurationError("name one task, or all of them with --all")
    with connected(ctx, url, profile) as server:
        # A stream is patient with its server; one that cannot be reached is said at once.
        server.client.get_current_user()
        if task_id is None:
            return follow_all(server, JsonLines() if as_json else AllTasks())
        return follow(server, task_id, _view(as_json))


def _view(as_json: bool) -> View:
    return JsonLines() if as_json else Lines()


def tasks(
    ctx: typer.Context,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="Only tasks with this tag; repeated, with all of them."),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """List your tasks, the newest first.

    In a pipe: id, status, created_at and goal, with tabs between them.
    """
    with connected(ctx, url, profile) as server:
        found = sorted(server.client.list_tasks(), key=lambda task: task["id"], reverse=True)
    found = [task for task in found if set(tag or ()) <= set(task.get("tags") or ())]
    if as_json:
        for task in found:
            output.json_line(task)
    elif output.is_terminal(sys.stdout):
        now = datetime.now(UTC)
        rows = [
            [str(task["id"]), _status(task), age(task.get("created_at"), now), _goal(task)]
            for task in found
        ]
        output.table([["ID", "STATUS", "AGE", "GOAL"], *rows])
    else:
        for task in found:
            created_at = task.get("created_at") or ""
            output.row([str(task["id"]), task["status"], created_at, _goal(task)])


def show(
    ctx: typer.Context,
    task_id: TaskId,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Show a task and, in brief, its events."""
    with connected(ctx, url, profile) as server:
        task = server.client.get_task(task_id)
        earlier = _earlier_events(server.client, task)
        if as_json:
            output.json_line(_with_all_events(task, earlier))
            return
        _show_facts(task)
        for event in without_retracted(chain(earlier, task.get("events", ()))):
            seq, kind = str(event.get("seq", "")), str(event.get("type", ""))
            output.line(
                f"{output.cell(seq):>6}  {output.cell(kind.removeprefix('AGENT_EVENT_')):<16}  "
                f"{one_line(brief(event), 200)}".rstrip()
            )


def _earlier_events(client: BeRayClient, task: Task) -> Iterator[TaskEvent]:
    """Yield the events that the server left out of a large log, page by page."""
    if task.get("events_truncated") is not True:
        return
    after, first = 0, task.get("first_seq", 1)
    while after < first - 1:
        page = client.list_events(task["id"], after=after, limit=min(_PAGE, first - 1 - after))
        if not page:
            return
        yield from page
        after = page[-1].get("seq", after + len(page))


def _with_all_events(task: Task, earlier: Iterator[TaskEvent]) -> Task:
    if task.get("events_truncated") is not True:
        return task
    events = [*earlier, *task.get("events", ())]
    return {**task, "events": events, "first_seq": 1, "events_truncated": False}


def _show_facts(task: Task) -> None:
    facts = {
        "id": str(task["id"]),
        "status": _status(task),
        "created": task.get("created_at"),
        "started": task.get("started_at"),
        "ended": task.get("ended_at"),
    }
    for name, value in (facts | task_options.facts(task)).items():
        if value:
            output.line(f"{name + ':':<10}{output.cell(value)}")
    # Its further lines stay under the first, and look like nothing else.
    output.line("goal:     " + printable(goal_of(task)).replace("\n", "\n" + " " * 10))


def stop(
    ctx: typer.Context,
    task_id: TaskId,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Stop a task."""
    with connected(ctx, url, profile) as server:
        answer = server.client.stop_task(task_id)
    output.json_line(answer) if as_json else output.note(answer.get("message") or "")


def rm(
    ctx: typer.Context,
    task_id: TaskId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> int:
    """Delete a task, its events and its files."""
    if not yes and not output.can_ask():
        raise ConfigurationError("nobody can be asked here; --yes deletes without asking")
    with connected(ctx, url, profile) as server:
        if not yes:
            goal = one_line(goal_of(server.client.get_task(task_id)), 60)
            if not prompts.confirm(f"Delete task {task_id} ({goal}) with its events and files?"):
                output.note("nothing was deleted")
                return FAILED
        answer = server.client.delete_task(task_id)
    output.json_line(answer) if as_json else output.note(answer.get("message") or "")
    return 0


def age(created_at: str | None, now: datetime) -> str:
    """How long ago a wire time was, in its largest unit; "" where it cannot be told."""
    try:
        seconds = int((now - datetime.fromisoformat(created_at or "")).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"


def _status(task: Task) -> str:
    held = task.get("held") is True and task["status"] == "QUEUED"
    return with_reason(task["status"], "held" if held else task.get("reason"))


def _goal(task: Task) -> str:
    return one_line(goal_of(task), max(len(goal_of(task)), 1))


def register(app: typer.Typer) -> None:
    for command in (run, tasks, show, watch, stop, rm):
        app.command()(command)
