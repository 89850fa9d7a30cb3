"""Commands for tasks: run, tasks, show, watch, stop, rm."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Final

import typer

from beray.cli import downloads, output, prompts, task_options, uploads
from beray.cli.context import ServerConnection, connect
from beray.cli.errors import FAILED, INTERRUPTED
from beray.cli.options import AsJson, Force, ProfileName, TaskId, Url, encodable
from beray.cli.positions import describe_origin, origin_text
from beray.cli.progress import progress_bars
from beray.cli.render import (
    MAX_SUMMARY_CHARS,
    EventView,
    JsonView,
    TextView,
    status_text,
    summarize,
)
from beray.cli.times import age
from beray.cli.watch import AllTasksView, follow, follow_all
from beray.client import BeRayClient
from beray.exceptions import BeRayException, ConfigurationError
from beray.sanitize import one_line, printable
from beray.schema import Task, TaskEvent, goal_of
from beray.streaming.retraction import without_retracted

_PAGE: Final = 5000
"""Number of events per request."""


def run(
    ctx: typer.Context,
    goal: Annotated[
        str,
        typer.Argument(
            metavar="GOAL",
            help="Instruction in natural language; ! starts a shell command.",
            callback=encodable,
        ),
    ],
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Print the task's id and exit.")
    ] = False,
    file: Annotated[
        list[Path] | None,
        typer.Option(
            "--file",
            "-f",
            metavar="LOCAL",
            help="File or directory to put into the work_dir before the task starts; repeatable.",
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Download all files to DIR at the end."),
    ] = None,
    force: Force = False,
    runner: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Runner: shell, model, acp, command or agent. Default: chosen by the server.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Model, such as openai:gpt-4o."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=N",
            help="Budget: tokens, requests, cost_usd or seconds; repeatable.",
        ),
    ] = None,
    network: Annotated[
        bool, typer.Option("--network", help="Give the task's commands a network.")
    ] = False,
    gateway: Annotated[
        bool,
        typer.Option(
            "--gateway",
            help="Give the task's commands access to the gateway, by the variables "
            "X_INTERNAL_TOKEN and BERAY_GATEWAY_URL.",
        ),
    ] = False,
    tool: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=URL",
            help="MCP server: NAME=URL, NAME=JSON, or the NAME of one that the operator has "
            "defined; repeatable.",
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="Tag of the task; repeatable."),
    ] = None,
    from_task: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="ID[@POS]",
            help="Start with the files and the conversation of another task: those at its end, or "
            "at a seq (12@17) or checkpoint (12@c3).",
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> int:
    """Create a task and show its events until it ends.

    The text of the task goes to stdout, everything else to stderr. The exit status is 0 if the
    task was completed, 1 if it failed or was stopped.
    """
    if not goal.strip():
        raise ConfigurationError("the goal is empty; describe what the task should do")
    if detach and output_dir is not None:
        raise ConfigurationError(
            "--output needs the end of the task and --detach does not wait for it; pass only one"
        )
    if output_dir is not None and output_dir.exists() and not output_dir.is_dir():
        raise ConfigurationError(f"--output {output_dir} is not a directory; choose another path")
    arguments = task_options.task_arguments(
        runner=runner,
        model=model,
        limits=limit,
        network=network,
        gateway=gateway,
        tools=tool,
        tags=tag,
        origin=from_task,
    )
    planned = uploads.plan_uploads(file or [])
    with connect(ctx, url, profile) as server:
        task = _create_task(server, goal, arguments, planned)
        task_id = task["id"]
        if detach:
            output.json_line(task) if as_json else output.line(str(task_id))
            return 0
        if not as_json:
            origin = describe_origin(task)
            output.note(f"-- task {task_id}" + (f", from {origin}" if origin else ""))
        status = follow(server, task_id, _view(as_json))
        if output_dir is not None and status != INTERRUPTED:
            _download_files(server, task_id, output_dir, force)
        return status


def _create_task(
    server: ServerConnection,
    goal: str,
    arguments: task_options.TaskArguments,
    planned: uploads.UploadPlan,
) -> Task:
    """Create the task and upload its files before it starts."""
    client = server.client
    for reason in planned.skipped:
        output.note(f"-- not uploaded: {reason}")
    if not planned.uploads and not planned.directories:
        task = client.create_task(goal, **arguments)
        task_options.note_ignored_options(arguments, task)
        return task
    task = client.create_task(goal, start=False, **arguments)
    task_options.note_ignored_options(arguments, task)
    held = task.get("held") is True
    if not held:
        output.note("-- this server starts tasks at once; the files are uploaded while it runs")
    try:
        with progress_bars() as start_bar:
            uploads.upload_all(server.transfer_client, task["id"], planned, start_bar)
        return client.start_task(task["id"]) if held else task
    except BaseException:
        # A held task would wait forever, and must not run without its files.
        if held:
            _delete_held_task(client, task["id"])
        raise


def _delete_held_task(client: BeRayClient, task_id: int) -> None:
    try:
        client.delete_task(task_id)
    except BeRayException:
        output.note(
            f"-- task {task_id} is held and could not be deleted; `beray rm {task_id}` deletes it"
        )


def _download_files(server: ServerConnection, task_id: int, directory: Path, force: bool) -> None:
    planned = downloads.plan_download(server.client.iter_files(task_id), directory)
    with progress_bars() as start_bar:
        downloads.download_all(server.transfer_client, task_id, planned, start_bar, overwrite=force)
    count = len(planned.files)
    output.note(f"-- downloaded {count} {'file' if count == 1 else 'files'} to {directory}")


def watch(
    ctx: typer.Context,
    task_id: Annotated[
        int | None,
        typer.Argument(metavar="ID", help="Id of the task.", min=0, show_default=False),
    ] = None,
    all_tasks: Annotated[
        bool, typer.Option("--all", "-a", help="Show updates of all your tasks.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> int:
    """Show the events of a task, or updates of all tasks.

    With ID, all events of the task are shown, from the first one until it ends. The exit status
    is that of `run`. A chat does not end; press Ctrl-C to leave.

    With --all, status changes and the last lines of running tasks are shown until Ctrl-C. In a
    pipe, the columns time, id, status and text are tab-separated.
    """
    if task_id is None and not all_tasks:
        raise ConfigurationError("no task; pass its ID, or --all for all tasks")
    if task_id is not None and all_tasks:
        raise ConfigurationError(f"got both task {task_id} and --all; pass only one of them")
    with connect(ctx, url, profile) as server:
        # Streams reconnect for a long time, so a server that is unreachable is reported first.
        server.client.get_current_user()
        if task_id is None:
            return follow_all(server, JsonView() if as_json else AllTasksView())
        return follow(server, task_id, _view(as_json))


def _view(as_json: bool) -> EventView:
    return JsonView() if as_json else TextView()


def tasks(
    ctx: typer.Context,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORD", help="List only tasks with this tag; repeatable: with all tags."
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """List your tasks, newest first.

    In a pipe, the columns id, status, created_at and goal are tab-separated.
    """
    with connect(ctx, url, profile) as server:
        listed = sorted(server.client.list_tasks(), key=lambda task: task["id"], reverse=True)
    listed = [task for task in listed if set(tag or ()) <= set(task.get("tags") or ())]
    if as_json:
        for task in listed:
            output.json_line(task)
    elif output.is_terminal(sys.stdout):
        now = datetime.now(UTC)
        origins = {task["id"]: origin_text(task) for task in listed}
        has_origins = any(origins.values())
        rows = [["ID", "STATUS", "AGE", *(["FROM"] if has_origins else []), "GOAL"]]
        for task in listed:
            row = [str(task["id"]), _status(task), age(task.get("created_at"), now)]
            rows.append([*row, *([origins[task["id"]]] if has_origins else []), _goal(task)])
        output.table(rows)
    else:
        for task in listed:
            created_at = task.get("created_at") or ""
            output.row([str(task["id"]), task["status"], created_at, _goal(task)])


def show(
    ctx: typer.Context,
    task_id: TaskId,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Show a task, its usage, and a summary of its events."""
    with connect(ctx, url, profile) as server:
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
                f"{one_line(summarize(event), MAX_SUMMARY_CHARS)}".rstrip()
            )


def _earlier_events(client: BeRayClient, task: Task) -> Iterator[TaskEvent]:
    """Yield the events of a large log that are missing from ``task``."""
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
        "from": describe_origin(task),
    }
    for name, value in (facts | task_options.task_facts(task)).items():
        if value:
            output.line(f"{name + ':':<10}{output.cell(value)}")
    # Further lines are indented, so that they cannot imitate other fields.
    output.line("goal:     " + printable(goal_of(task)).replace("\n", "\n" + " " * 10))


def stop(
    ctx: typer.Context,
    task_id: TaskId,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Stop a task."""
    with connect(ctx, url, profile) as server:
        response = server.client.stop_task(task_id)
    output.json_line(response) if as_json else output.note(response.get("message") or "")


def rm(
    ctx: typer.Context,
    task_id: TaskId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without confirmation.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> int:
    """Delete a task with its events and files."""
    prompts.require_confirmable(yes, "delete")
    with connect(ctx, url, profile) as server:
        if not yes:
            goal = one_line(goal_of(server.client.get_task(task_id)), 60)
            if not prompts.confirm(f"Delete task {task_id} ({goal}) with its events and files?"):
                output.note("nothing was deleted")
                return FAILED
        response = server.client.delete_task(task_id)
    output.json_line(response) if as_json else output.note(response.get("message") or "")
    return 0


def _status(task: Task) -> str:
    held = task.get("held") is True and task["status"] == "QUEUED"
    return status_text(task["status"], "held" if held else task.get("reason"))


def _goal(task: Task) -> str:
    return one_line(goal_of(task), max(len(goal_of(task)), 1))


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (run, tasks, show, watch, stop, rm):
        app.command()(command)
