"""Commands for the history of a work_dir: log, diff, restore, apply."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from beray.cli import output, pager, prompts
from beray.cli.context import connect
from beray.cli.errors import DONE, FAILED
from beray.cli.history import diff_view
from beray.cli.history.checkpoint_contents import TaskContents
from beray.cli.history.lines import (
    applied_line,
    apply_json,
    conflict_text,
    log_cells,
    log_table,
    log_with_files,
    restored_line,
)
from beray.cli.history.step_text import StepTexts
from beray.cli.history.whole_diff import whole_diff
from beray.cli.options import (
    AsJson,
    FromPosition,
    NoPager,
    ProfileName,
    RemotePaths,
    TaskId,
    ToPosition,
    Url,
    Yes,
)
from beray.cli.positions import check_position, optional_position, parse_position
from beray.cli.progress import progress_bars
from beray.client import BeRayClient
from beray.exceptions import ConfigurationError
from beray.history_schema import CheckpointPosition, RestoreResult


def log(
    ctx: typer.Context,
    task_id: TaskId,
    stat: Annotated[
        bool, typer.Option("--stat", help="Show the files that each step changed.")
    ] = False,
    no_pager: NoPager = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """List the checkpoints of a task: its steps that changed files, oldest first.

    In a pipe, the columns checkpoint, seq, created_at, reason, files, lines added, lines deleted
    and step are tab-separated.
    """
    if stat and as_json:
        raise ConfigurationError("--stat and --json are different formats; pass only one")
    with connect(ctx, url, profile) as server:
        checkpoints = server.client.list_checkpoints(task_id)
        if as_json:
            for checkpoint in checkpoints:
                output.json_line(checkpoint)
            return
        steps = StepTexts(server.client, task_id)
        if stat:
            lines = log_with_files(server.transfer_client, task_id, checkpoints, steps)
            pager.show(lines, use_pager=not no_pager)
        elif output.is_terminal(sys.stdout):
            pager.show(log_table(checkpoints, steps), use_pager=not no_pager)
        else:
            for checkpoint in checkpoints:
                output.row(log_cells(checkpoint, steps))


def diff(
    ctx: typer.Context,
    task_id: TaskId,
    paths: RemotePaths = None,
    from_position: FromPosition = None,
    to_position: ToPosition = None,
    stat: Annotated[
        bool, typer.Option("--stat", help="Show the number of changed lines of each file.")
    ] = False,
    name_only: Annotated[
        bool, typer.Option("--name-only", help="Show only the paths of changed files.")
    ] = False,
    patch: Annotated[
        bool, typer.Option("--patch", help="Write a patch for `git apply`; the default in a pipe.")
    ] = False,
    no_pager: NoPager = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Show what a task changed in its work_dir, or the difference of two checkpoints.

    On a terminal, the lines are coloured and shown in a pager (PAGER, by default less). In a pipe,
    the output is a patch: `beray diff 12 | git apply`.
    """
    formats = {"--stat": stat, "--name-only": name_only, "--patch": patch, "--json": as_json}
    chosen = [name for name, is_on in formats.items() if is_on]
    if len(chosen) > 1:
        raise ConfigurationError(f"{' and '.join(chosen)} are different formats; pass only one")
    is_terminal = output.is_terminal(sys.stdout)
    if patch and is_terminal:
        raise ConfigurationError(
            "stdout is a terminal; redirect it to a file to save the patch unchanged, or omit "
            "--patch to read it"
        )
    from_, to = optional_position(from_position), optional_position(to_position)
    with connect(ctx, url, profile) as server:
        client = server.transfer_client
        if patch or not (chosen or is_terminal):
            output.write_bytes([client.diff_text(task_id, from_=from_, to=to, paths=paths or ())])
            return
        read = whole_diff if stat or name_only else BeRayClient.diff
        found = read(client, task_id, from_=from_, to=to, paths=paths or ())
    if as_json:
        output.json_line(found)
    elif name_only:
        for file in found["files"]:
            output.line(output.cell(file["path"])) if is_terminal else output.row([file["path"]])
    elif stat:
        pager.show(diff_view.stat(found["files"]), use_pager=not no_pager)
    else:
        pager.show(diff_view.unified(found), use_pager=not no_pager)


def restore(
    ctx: typer.Context,
    task_id: TaskId,
    position: Annotated[
        str,
        typer.Argument(
            metavar="POS",
            help="State to restore: the seq of an event, such as 17, or a checkpoint, such as c3.",
            callback=check_position,
        ),
    ],
    paths: RemotePaths = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show the changes without making them.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> int:
    """Restore the work_dir of a task, or some paths, to an earlier state.

    The changes are shown before they are confirmed. The previous state stays in the history, so
    that it can be restored as well.
    """
    to = parse_position(position)
    if not dry_run:
        prompts.require_confirmable(yes, "restore")
    with connect(ctx, url, profile) as server:
        client = server.transfer_client
        planned: RestoreResult | None = None
        if dry_run or not yes:
            planned = client.restore(task_id, to, paths=paths or (), dry_run=True)
            if not as_json:
                _show_restored(planned)
        if planned is not None and (dry_run or not planned["files"]):
            if as_json:
                output.json_line(planned)
            elif not planned["files"]:
                output.note(f"-- nothing to restore: the files are those of {_at(planned['to'])}")
            return DONE
        if planned is not None:
            question = f"Restore {_count(planned)} of task {task_id} to {_at(planned['to'])}?"
            if not prompts.confirm(question):
                output.note("nothing was restored")
                return FAILED
        result = client.restore(task_id, to, paths=paths or ())
    if as_json:
        output.json_line(result)
        return DONE
    if planned is None:
        _show_restored(result)
    text = f"-- restored {_count(result)} to {_at(result['to'])}"
    if before := result.get("before"):
        text += f"; `beray restore {task_id} {before['checkpoint']}` undoes this"
    output.note(text)
    return DONE


def _show_restored(result: RestoreResult) -> None:
    for file in result["files"]:
        output.line(restored_line(file))


def _at(position: CheckpointPosition) -> str:
    return f"{position['checkpoint']} (seq {position['seq']})"


def _count(result: RestoreResult) -> str:
    count = len(result["files"])
    return f"{count} path{'s' * (count != 1)}"


def apply(
    ctx: typer.Context,
    task_id: TaskId,
    paths: RemotePaths = None,
    into: Annotated[
        Path,
        typer.Option("--into", metavar="DIRECTORY", help="Local directory or git checkout."),
    ] = Path(),
    from_position: FromPosition = None,
    to_position: ToPosition = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Paths to leave out: a shell pattern of a name, such as '*.log', or with a / of a "
            "path; repeatable.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show the changes without making them.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace local files whose changes do not fit.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> int:
    """Apply the changes of a task to a local directory.

    Files that the task found in the same state are changed as the task did. Texts with other local
    changes get those of the task if the lines around them are equal. Anything else is a conflict:
    then nothing is changed, and the exit status is 1. Changes in .git, and links that lead out of
    the directory, are never applied.
    """
    from beray.apply.changes import apply_plan
    from beray.apply.planner import plan_changes

    from_, to = optional_position(from_position), optional_position(to_position)
    if not into.is_dir():
        raise ConfigurationError(
            f"--into {into} is not a directory; create it, or pass another one"
        )
    with connect(ctx, url, profile) as server, progress_bars() as start_bar:
        client = server.transfer_client
        found = whole_diff(client, task_id, from_=from_, to=to, paths=paths or ())
        contents = TaskContents(client, task_id, start_bar)
        plan = plan_changes(found, into, contents, exclude=exclude or (), force=force)
        is_applied = not dry_run and not plan.conflicts
        if is_applied:
            apply_plan(plan, contents)
    if as_json:
        output.json_line(apply_json(plan, is_applied=is_applied))
    else:
        for change in plan.changes if not plan.conflicts else ():
            output.line(applied_line(change))
    for path in plan.kept:
        output.note(f"-- kept the directory {path!r}, which contains other files here")
    if plan.conflicts:
        for conflict in plan.conflicts:
            output.note(conflict_text(conflict))
        count = len(plan.conflicts)
        output.error(f"{count} conflict{'s' * (count != 1)}; nothing was changed")
        return FAILED
    if not as_json:
        verb = "would change" if dry_run else "changed"
        text = f"-- {verb} {len(plan.changes)} paths in {into}" if plan.changes else "-- no changes"
        if plan.unchanged:
            text += f"; {len(plan.unchanged)} paths have their new state already"
        output.note(text)
    return DONE


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (log, diff, restore, apply):
        app.command()(command)
