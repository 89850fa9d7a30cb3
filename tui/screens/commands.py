"""What the palette offers on the main screen: every action, by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from textual.app import SystemCommand

if TYPE_CHECKING:
    from tui.screens.main import MainScreen


def commands(screen: MainScreen) -> Iterator[SystemCommand]:
    """The actions that there are now: without a task, what makes one."""
    yield SystemCommand("New task", "Give a goal", screen.action_new_task)
    yield SystemCommand("New chat", "Talk with the agent, or go on", screen.action_new_chat)
    yield SystemCommand("Prefabs", "Functions to call, with files", screen.dashboard.action_prefabs)
    if screen.board.watched_task is not None:
        yield from _of_task(screen)
        yield from _of_log(screen)
    yield SystemCommand("Filter tasks", "By goal, state or id", screen.filter_tasks)
    yield SystemCommand("Help", "The keys", screen.action_help)


def _of_task(screen: MainScreen) -> Iterator[SystemCommand]:
    if screen.watched_chat is not None:
        yield SystemCommand("Message", "Say something in the chat", screen.action_message)
        yield SystemCommand("Stop answer", "Stop what is being said", screen.action_stop_task)
        yield SystemCommand("Delete chat", "With all that was said", screen.action_delete_task)
    else:
        yield SystemCommand("Stop task", "Stop the selected task", screen.action_stop_task)
        yield SystemCommand("Run again", "The same goal as a new task", screen.action_run_again)
        yield SystemCommand("Delete task", "With its events and files", screen.action_delete_task)
    yield SystemCommand("Events", "What the task does", lambda: screen.action_show("events"))
    yield SystemCommand("Files", "What the task made", lambda: screen.action_show("files"))
    yield SystemCommand("Download ZIP", "All files of the task", screen.action_download_zip)
    if screen.selected_file is not None:
        yield SystemCommand("Download file", "The selected one", screen.action_download)


def _of_log(screen: MainScreen) -> Iterator[SystemCommand]:
    log = screen.panes.events
    yield SystemCommand("Search the log", "For text, or re: and a pattern", log.action_find)
    yield SystemCommand("Filter the log", "By kind, source or text", log.action_filter)
    yield SystemCommand("Only errors", "Filter the log by errors", log.action_filter_errors)
    yield SystemCommand("Next error", "In the log", log.action_next_error)
    yield SystemCommand("Previous error", "In the log", log.action_previous_error)
    yield SystemCommand("Next file change", "In the log", log.action_next_file)
    yield SystemCommand("Previous file change", "In the log", log.action_previous_file)
    yield SystemCommand("Beginning of the log", "Its first event", log.action_home)
    yield SystemCommand("End of the log", "And follow what comes", log.action_end)
    yield SystemCommand("Replay", "A finished task, as it went", log.action_replay)
