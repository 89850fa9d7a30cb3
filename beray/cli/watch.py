"""Output of a task's stream until it ends, or of all tasks until Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from beray.cli import output, prompts
from beray.cli.context import ServerConnection
from beray.cli.errors import DONE, FAILED, INTERRUPTED, error_text
from beray.cli.render import EventView, status_text
from beray.cli.stream_reader import ThreadedStreamReader
from beray.exceptions import BeRayException, ConnectionFailed
from beray.sanitize import one_line
from beray.schema import TERMINAL_STATUSES, Task, goal_of
from beray.streaming.streams import StreamState

_STATUS_CELLS: Final = len("INPUT_REQUIRED")


def follow(server: ServerConnection, task_id: int, view: EventView) -> int:
    """Show a task's events until it has ended, and return the exit status.

    Raises:
        BeRayException: The stream failed, see ``TaskStream``, or the local server could not be
            started again, see ``ServerConnection.renew``.
    """
    try:
        return _exit_status(server, task_id, _show_events(server, task_id, view))
    except KeyboardInterrupt:
        _offer_to_stop(server, task_id, view)
        return INTERRUPTED
    except ConnectionFailed as error:
        error.add_note(f"the task continues; `beray watch {task_id}` shows the rest")
        raise


def _show_events(server: ServerConnection, task_id: int, view: EventView) -> str | None:
    """Show the events until the stream ends, and return the last status in them."""
    status: str | None = None
    notices = ConnectionNotices(view)
    reader = ThreadedStreamReader(
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
                notices.state(item)
                continue
            view.event(item)
            if (item.get("type") or "TASK_STATUS") == "TASK_STATUS":
                status = str(item.get("status"))
    finally:
        reader.close()
        view.finish()
    return status


def _exit_status(server: ServerConnection, task_id: int, status: str | None) -> int:
    if status not in TERMINAL_STATUSES:
        # Some servers close the stream of a finished task without its last status.
        status = server.client.get_task(task_id)["status"]
    return DONE if status == "COMPLETED" else FAILED


def _offer_to_stop(server: ServerConnection, task_id: int, view: EventView) -> None:
    """Ask whether to stop the task as well. A second Ctrl-C leaves it running."""
    hint = (
        f"task {task_id} continues; `beray watch {task_id}` shows it, "
        f"`beray stop {task_id}` stops it"
    )
    if not output.can_prompt():
        view.note(hint)
        return
    try:
        output.note("")
        if not prompts.confirm(f"Stop task {task_id} as well? Otherwise it continues."):
            view.note(hint)
            return
        server.client.stop_task(task_id)
        view.note(f"requested task {task_id} to stop")
    except KeyboardInterrupt:
        output.note("")
    except BeRayException as error:
        output.error(error_text(error))


class ConnectionNotices:
    """Notes about a stream's connection: one when it is lost, one when it is restored."""

    def __init__(self, view: EventView) -> None:
        self._view = view
        self._lost = False

    def state(self, state: StreamState) -> None:
        """Show a note if ``state`` is a change."""
        if state is StreamState.RECONNECTING and not self._lost:
            self._lost = True
            self._view.note("connection lost; reconnecting")
        elif state is StreamState.LIVE and self._lost:
            self._lost = False
            self._view.note("reconnected")


def follow_all(server: ServerConnection, view: EventView) -> int:
    """Show the updates of all tasks until Ctrl-C, and return the exit status.

    Raises:
        BeRayException: The stream failed, see ``UpdateStream``, or the local server could not be
            started again, see ``ServerConnection.renew``.
    """
    notices = ConnectionNotices(view)
    reader = ThreadedStreamReader(
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
                notices.state(item)
            else:
                view.event(item)
    except KeyboardInterrupt:
        output.note("")
        return INTERRUPTED
    finally:
        reader.close()
        view.finish()
    return DONE


class AllTasksView:
    """View with one line for each update: id, status and goal, or a task's last line of output.

    If stdout is not a terminal, the columns are tab-separated, and the first is the time.
    """

    def event(self, event: Mapping[str, Any]) -> None:
        """Write the line of an update."""
        match event.get("type"):
            case "TASKS":
                for task in reversed(event.get("tasks") or ()):
                    if task["status"] not in TERMINAL_STATUSES:
                        self._line(task.get("created_at"), task["id"], _state(task), goal_of(task))
            case "TASK_STATUS":
                task = event.get("task") or {}
                held = task.get("held") is True and event.get("status") == "QUEUED"
                state = status_text(
                    str(event.get("status")), "held" if held else event.get("reason")
                )
                goal = str(task.get("goal", ""))
                self._line(event.get("created_at"), event.get("task_id"), state, goal)
            case "TASK_DELETED":
                self._line(event.get("created_at"), event.get("task_id"), "deleted", "")
            case "TASK_PROGRESS" if event.get("last_line"):
                last_line = f"| {event.get('last_line')}"
                self._line(event.get("created_at"), event.get("task_id"), "", last_line)

    def note(self, text: str) -> None:
        """Write a line to stderr."""
        output.note(f"-- {text}")

    def finish(self) -> None:
        """Do nothing: no output is pending."""

    def _line(self, at: object, task_id: object, state: str, text: str) -> None:
        if output.is_terminal(sys.stdout):
            columns = f"{task_id!s:>5}  {output.cell(state):<{_STATUS_CELLS}}  "
            output.line(columns + one_line(text, 200))
        else:
            output.row([str(at or ""), str(task_id), state, one_line(text)])
        sys.stdout.flush()


def _state(task: Task) -> str:
    return status_text(task["status"], "held" if task.get("held") else task.get("reason"))
