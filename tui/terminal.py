"""Window title, progress indicator and notifications of the terminal.

Pure functions create the control sequences. ``Terminal`` writes them through Textual's driver,
and only if something has changed.

Sources: XTerm control sequences (OSC 0, XTWINOPS 22 and 23), ConEmu's OSC 9;4 as implemented by
Windows Terminal, VTE and Ghostty, OSC 9 of iTerm2 and OSC 777 of rxvt-unicode.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from beray.sanitize import one_line
from beray.schema import Task
from tui import status
from tui._textual_compat import write_to_terminal

if TYPE_CHECKING:
    from textual.app import App

APP_NAME: Final = "BeRay"
_TEXT_LIMIT: Final = 160
_ST: Final = "\x1b\\"
_PUSH_TITLE: Final = "\x1b[22;0t"
_POP_TITLE: Final = "\x1b[23;0t"
_ITERM2_PROGRESS_VERSION: Final = (3, 6, 6)
_NOTIFIED_STATUSES: Final = frozenset({"COMPLETED", "FAILED", "INPUT_REQUIRED"})
_MAX_SEPARATE_NOTIFICATIONS: Final = 3


@dataclass(frozen=True)
class TerminalCapabilities:
    """Control sequences that the terminal is known to support or to ignore.

    Attributes:
        window_title: True if the window title can be set.
        progress_value: True if OSC 9;4 can be sent safely.
        notify: Number of the OSC that shows a notification, or None.
    """

    window_title: bool = False
    progress_value: bool = False
    notify: int | None = None


def detect_capabilities(
    environ: Mapping[str, str], windows: bool = os.name == "nt"
) -> TerminalCapabilities:
    """Return the capabilities of the terminal that ``environ`` describes, without querying it."""
    term = environ.get("TERM", "").lower()
    if term in ("dumb", "linux", "unknown") or (not term and not windows):
        return TerminalCapabilities()
    foot, rxvt = term.startswith("foot"), term.startswith("rxvt")
    # These two have no progress indicator and treat every OSC 9 as a notification, or ignore it.
    progress_value = not foot and not rxvt and not _is_old_iterm2(environ)
    notify = 777 if foot or rxvt or environ.get("VTE_VERSION") else 9
    return TerminalCapabilities(window_title=True, progress_value=progress_value, notify=notify)


def _is_old_iterm2(environ: Mapping[str, str]) -> bool:
    # ssh forwards only the second pair of variables.
    for name, version in (
        ("TERM_PROGRAM", "TERM_PROGRAM_VERSION"),
        ("LC_TERMINAL", "LC_TERMINAL_VERSION"),
    ):
        if environ.get(name) in ("iTerm.app", "iTerm2"):
            numbers = re.findall(r"\d+", environ.get(version, ""))
            return tuple(map(int, numbers[:3])) < _ITERM2_PROGRESS_VERSION
    return False


@dataclass(frozen=True)
class TaskSummary:
    """Number of running tasks, ids of tasks that wait for input, number of unread failures."""

    running: int = 0
    waiting: tuple[int, ...] = ()
    failed_unread: int = 0


def window_title(summary: TaskSummary) -> str:
    """Return the window title. Tasks that need the user come first."""
    waiting = summary.waiting
    if len(waiting) == 1:
        return f"{APP_NAME} · #{waiting[0]} needs input"
    if waiting:
        return f"{APP_NAME} · {len(waiting)} need input"
    if summary.running:
        return f"{APP_NAME} · {summary.running} running"
    if summary.failed_unread:
        return f"{APP_NAME} · {summary.failed_unread} failed"
    return APP_NAME


def progress_value(summary: TaskSummary | None) -> str:
    """Return state and value of OSC 9;4. A failure is shown until it has been read."""
    if summary is not None and summary.failed_unread:
        return "2;100"
    return "3;0" if summary is not None and summary.running else "0;0"


def update_sequence(
    before: TaskSummary | None, after: TaskSummary | None, capabilities: TerminalCapabilities
) -> str:
    """Return the sequences for a change of the summary; None means that the app is not shown."""
    parts = []
    if capabilities.window_title and before is None and after is not None:
        parts.append(_PUSH_TITLE)
    if (
        capabilities.window_title
        and after is not None
        and (before is None or window_title(before) != window_title(after))
    ):
        parts.append(f"\x1b]0;{_sanitize(window_title(after))}{_ST}")
    if capabilities.progress_value and progress_value(before) != progress_value(after):
        parts.append(f"\x1b]9;4;{progress_value(after)}{_ST}")
    if capabilities.window_title and before is not None and after is None:
        # Terminals without a title stack are left with an empty title.
        parts.append(f"\x1b]0;{_ST}{_POP_TITLE}")
    return "".join(parts)


def notification(text: str, capabilities: TerminalCapabilities) -> str:
    """Return the sequence that shows ``text``, which may be untrusted, as a notification."""
    if capabilities.notify == 777:
        return f"\x1b]777;notify;{APP_NAME};{_sanitize(text)}{_ST}"
    if capabilities.notify == 9:
        # The name comes first: some terminals interpret a leading number as a command.
        return f"\x1b]9;{APP_NAME}: {_sanitize(text)}{_ST}"
    return ""


def _sanitize(text: str) -> str:
    """Return ``text`` without characters that end or divide a control sequence."""
    return one_line(text, _TEXT_LIMIT).replace(";", ",")


def status_notifications(before: Sequence[Task], after: Sequence[Task]) -> list[str]:
    """Return notifications for tasks of ``before`` that have completed, failed or need input."""
    known = {task["id"]: task["status"] for task in before}
    changed = [
        task
        for task in after
        if task["status"] in _NOTIFIED_STATUSES
        and known.get(task["id"], task["status"]) != task["status"]
        # The user who stopped an answer does not need to be notified of its end.
        and not (status.is_chat(task) and task.get("reason") == "user")
    ]
    if len(changed) > _MAX_SEPARATE_NOTIFICATIONS:
        counted = Counter(map(_word, changed))
        return [", ".join(f"{count} {word}" for word, count in counted.items())]
    return [f"#{task['id']} {_word(task)}: {status.title(task)}" for task in changed]


def _word(task: Task) -> str:
    return "answered" if status.is_chat(task) else status.task_display(task).word


class Terminal:
    """Terminal that ``app`` runs on. Must be called in the app's thread."""

    def __init__(self, app: App[None], environ: Mapping[str, str] = os.environ) -> None:
        self._app = app
        self._capabilities = detect_capabilities(environ)
        self._shown: TaskSummary | None = None

    def show(
        self, *, running: int = 0, waiting: Sequence[int] = (), failed_unread: int = 0
    ) -> None:
        """Show a summary of the tasks.

        Args:
            running: Number of running tasks.
            waiting: Ids of the tasks that wait for input.
            failed_unread: Number of failed tasks that the user has not looked at.
        """
        self._show(TaskSummary(running, tuple(waiting), failed_unread))

    def notify(self, text: str) -> None:
        """Show ``text`` as a notification, unless the terminal has the focus.

        A terminal that does not report its focus counts as focused.
        """
        if not self._app.app_focus:
            self._write(notification(text, self._capabilities))

    def close(self) -> None:
        """Restore the terminal. Later calls have no effect."""
        self._show(None)
        self._capabilities = TerminalCapabilities()

    def _show(self, summary: TaskSummary | None) -> None:
        if summary != self._shown:
            before, self._shown = self._shown, summary
            self._write(update_sequence(before, summary, self._capabilities))

    def _write(self, sequence: str) -> None:
        write_to_terminal(self._app, sequence)
