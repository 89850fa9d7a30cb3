"""Commands that the palette offers on the main screen."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from textual.app import SystemCommand

if TYPE_CHECKING:
    from tui.screens.main import MainScreen


def commands(screen: MainScreen) -> Iterator[SystemCommand]:
    """Yield the commands that are available now."""
    yield SystemCommand("New task", "Enter a goal", screen.action_new_task)
    yield SystemCommand("New chat", "Talk with the agent", screen.action_new_chat)
    yield SystemCommand(
        "Prefabs", "Run functions with files", partial(screen.app.run_action, "prefabs")
    )
    if screen.task_state.selected_task is not None:
        yield from _of_task(screen)
        yield from _of_log(screen)
    yield SystemCommand("Filter tasks", "By goal, state or id", screen.filter_tasks)
    yield SystemCommand("Help", "Keys and symbols", screen.action_help)


def _of_task(screen: MainScreen) -> Iterator[SystemCommand]:
    if screen.chats.selected is not None:
        yield SystemCommand("Message", "Write to the selected chat", screen.action_message)
        yield SystemCommand("Stop answer", "Stop the current answer", screen.action_stop_task)
        yield SystemCommand("Delete chat", "With its messages and files", screen.action_delete_task)
    else:
        yield SystemCommand("Stop task", "Stop the selected task", screen.action_stop_task)
        yield SystemCommand("Run again", "The same goal as a new task", screen.action_run_again)
        yield SystemCommand("Delete task", "With its events and files", screen.action_delete_task)
    yield SystemCommand("Events", "Show the task's log", lambda: screen.action_show("events"))
    yield SystemCommand("Files", "Show the task's files", lambda: screen.action_show("files"))
    yield SystemCommand("Files beside the log", "Show or hide the tree", screen.action_files_beside)
    yield SystemCommand("Changes", "Show the changes of the task's files", screen.action_changes)
    yield SystemCommand("Continue", "The files of here in a new task", screen.action_continue)
    yield SystemCommand("Download ZIP", "All files of the task", screen.action_download_zip)
    if screen.files.selected_file is not None:
        yield SystemCommand("Download file", "The selected file", screen.action_download)


def _of_log(screen: MainScreen) -> Iterator[SystemCommand]:
    log = screen.panes.events
    yield SystemCommand("Search the log", "For text, or re: and a pattern", log.action_find)
    yield SystemCommand("Filter the log", "By kind, source or text", log.action_filter)
    yield SystemCommand("Only errors", "Filter the log by errors", log.action_filter_errors)
    yield SystemCommand("Next error", "In the log", log.action_next_error)
    yield SystemCommand("Previous error", "In the log", log.action_previous_error)
    yield SystemCommand("Next file change", "In the log", log.action_next_file)
    yield SystemCommand("Previous file change", "In the log", log.action_previous_file)
    yield SystemCommand("Changes of the step", "At the cursor of the log", log.action_step_changes)
    yield SystemCommand("Beginning of the log", "Go to the first event", log.action_home)
    yield SystemCommand("End of the log", "And follow new events", log.action_end)
    yield SystemCommand("Replay", "Play back a finished task", log.action_replay)
