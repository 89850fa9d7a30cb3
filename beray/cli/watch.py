"""Watching from the shell: a task until it ends, or all of them, until Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from beray.cli import output, prompts
from beray.cli.context import Connection
from beray.cli.errors import DONE, FAILED, INTERRUPTED, words
from beray.cli.render import View, with_reason
from beray.cli.stream_reader import StreamReader
from beray.exceptions import BeRayException, ConnectionFailed
from beray.sanitize import one_line
from beray.schema import TERMINAL_STATUSES, Task, goal_of
from beray.streaming.streams import StreamState

_STATUS_CELLS: Final = len("INPUT_REQUIRED")


def follow(server: Connection, task_id: int, view: View) -> int:
    """Show a task's events until it has ended, and return the exit status.

    Raises:
        BeRayException: what ``TaskStream`` and ``Connection.renew`` raise.
    """
    try:
        return _outcome(server, task_id, _until_the_end(server, task_id, view))
    except KeyboardInterrupt:
        _interrupted(server, task_id, view)
        return INTERRUPTED
    except ConnectionFailed as error:
        error.add_note(f"the task goes on; `beray watch {task_id}` shows the rest")
        raise


def _until_the_end(server: Connection, task_id: int, view: View) -> str | None:
    """Show the events and return the last status that they told."""
    status: str | None = None
    told = Told(view)
    reader = StreamReader(
        server,
        lambda client, last_event_id, seconds, on_state: client.stream_task_updates(
            task_id, last_event_id=last_event_id, reconnect=seconds, on_state=on_state
        ),
    )
    try:
        while (item := reader.get()) is not None:
            if isinstance(item, BeRayException):
                raise item
            if isinstance(item, StreamState):
                told.state(item)
                continue
            view.event(item)
            if (item.get("type") or "TASK_STATUS") == "TASK_STATUS":
                status = str(item.get("status"))
    finally:
        reader.close()
        view.finish()
    return status


def _outcome(server: Connection, task_id: int, status: str | None) -> int:
    if status not in TERMINAL_STATUSES:
        # A server that closes the stream without a word, because the task has ended.
        status = server.client.get_task(task_id)["status"]
    return DONE if status == "COMPLETED" else FAILED


def _interrupted(server: Connection, task_id: int, view: View) -> None:
    """Ask whether the task is to stop as well. A second Ctrl-C just leaves."""
    goes_on = (
        f"task {task_id} goes on; `beray watch {task_id}` shows it, `beray stop {task_id}` stops it"
    )
    if not output.can_ask():
        view.note(goes_on)
        return
    try:
        output.note("")
        if not prompts.confirm(f"Stop task {task_id} as well? Otherwise it goes on."):
            view.note(goes_on)
            return
        server.client.stop_task(task_id)
        view.note(f"task {task_id} is told to stop")
    except KeyboardInterrupt:
        output.note("")
    except BeRayException as error:
        output.problem(words(error))


class Told:
    """Says once that a connection broke, and once that it is back."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._lost = False

    def state(self, state: StreamState) -> None:
        if state is StreamState.RECONNECTING and not self._lost:
            self._lost = True
            self._view.note("the connection broke; reconnecting")
        elif state is StreamState.LIVE and self._lost:
            self._lost = False
            self._view.note("connected again")


def follow_all(server: Connection, view: View) -> int:
    """Show what happens to all tasks until Ctrl-C, and return the exit status.

    Raises:
        BeRayException: what ``UpdateStream`` and ``Connection.renew`` raise.
    """
    told = Told(view)
    reader = StreamReader(
        server,
        lambda client, last_event_id, seconds, on_state: client.stream_all_updates(
            last_event_id=last_event_id, reconnect=seconds, on_state=on_state
        ),
    )
    try:
        while (item := reader.get()) is not None:
            if isinstance(item, BeRayException):
                raise item
            if isinstance(item, StreamState):
                told.state(item)
            else:
                view.event(item)
    except KeyboardInterrupt:
        output.note("")
        return INTERRUPTED
    finally:
        reader.close()
        view.finish()
    return DONE


class AllTasks:
    """A line for each change: id, status and goal, or the last line of what a task says.

    In a pipe there are tabs between them, and the time in front.
    """

    def event(self, event: Mapping[str, Any]) -> None:
        match event.get("type"):
            case "TASKS":
                for task in reversed(event.get("tasks") or ()):
                    if task["status"] not in TERMINAL_STATUSES:
                        self._line(task.get("created_at"), task["id"], _state(task), goal_of(task))
            case "TASK_STATUS":
                task = event.get("task") or {}
                held = task.get("held") is True and event.get("status") == "QUEUED"
                state = with_reason(
                    str(event.get("status")), "held" if held else event.get("reason")
                )
                goal = str(task.get("goal", ""))
                self._line(event.get("created_at"), event.get("task_id"), state, goal)
            case "TASK_DELETED":
                self._line(event.get("created_at"), event.get("task_id"), "deleted", "")
            case "TASK_PROGRESS" if event.get("last_line"):
                said = f"| {event.get('last_line')}"
                self._line(event.get("created_at"), event.get("task_id"), "", said)

    def note(self, text: str) -> None:
        output.note(f"-- {text}")

    def finish(self) -> None:
        return

    def _line(self, at: object, task_id: object, state: str, words: str) -> None:
        if output.is_terminal(sys.stdout):
            columns = f"{task_id!s:>5}  {output.cell(state):<{_STATUS_CELLS}}  "
            output.line(columns + one_line(words, 200))
        else:
            output.row([str(at or ""), str(task_id), state, one_line(words)])
        sys.stdout.flush()


def _state(task: Task) -> str:
    return with_reason(task["status"], "held" if task.get("held") else task.get("reason"))
