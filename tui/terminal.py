"""What is told to the terminal around the dashboard: its title, a progress, notifications.

The sequences are made from data by pure functions; ``Terminal`` writes them, through the
one driver that writes everything else, and only where something has changed.

Sources: XTerm control sequences (OSC 0, XTWINOPS 22 and 23), ConEmu's OSC 9;4 as Windows
Terminal, VTE and Ghostty read it, OSC 9 of iTerm2 and OSC 777 of rxvt-unicode.
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

if TYPE_CHECKING:
    from textual.app import App

NAME: Final = "BeRay"
_TEXT_LIMIT: Final = 160
_ST: Final = "\x1b\\"
_PUSH_TITLE: Final = "\x1b[22;0t"
_POP_TITLE: Final = "\x1b[23;0t"
_PROGRESS_OF_ITERM2: Final = (3, 6, 6)
_NEWSWORTHY: Final = frozenset({"COMPLETED", "FAILED", "INPUT_REQUIRED"})
_NEWS_ONE_BY_ONE: Final = 3


@dataclass(frozen=True)
class Abilities:
    """What may be written to the terminal without harm.

    Attributes:
        notify: the number of the OSC that makes a notification, or ``None``.
    """

    title: bool = False
    progress: bool = False
    notify: int | None = None


def abilities(environ: Mapping[str, str], windows: bool = os.name == "nt") -> Abilities:
    """What the terminal that ``environ`` tells of takes; nothing is asked of it."""
    term = environ.get("TERM", "").lower()
    if term in ("dumb", "linux", "unknown") or (not term and not windows):
        return Abilities()
    foot, rxvt = term.startswith("foot"), term.startswith("rxvt")
    # Both have no progress to show, and take every OSC 9 for a notification, or for nothing.
    progress = not foot and not rxvt and not _is_old_iterm2(environ)
    notify = 777 if foot or rxvt or environ.get("VTE_VERSION") else 9
    return Abilities(title=True, progress=progress, notify=notify)


def _is_old_iterm2(environ: Mapping[str, str]) -> bool:
    # Through ssh only the second pair arrives.
    for name, version in (
        ("TERM_PROGRAM", "TERM_PROGRAM_VERSION"),
        ("LC_TERMINAL", "LC_TERMINAL_VERSION"),
    ):
        if environ.get(name) in ("iTerm.app", "iTerm2"):
            numbers = re.findall(r"\d+", environ.get(version, ""))
            return tuple(map(int, numbers[:3])) < _PROGRESS_OF_ITERM2
    return False


@dataclass(frozen=True)
class Standing:
    """How the tasks stand: numbers of tasks, and the ids of those that wait for input."""

    running: int = 0
    waiting: tuple[int, ...] = ()
    failed_unread: int = 0


def title(standing: Standing) -> str:
    """The title, what needs somebody first."""
    waiting = standing.waiting
    if len(waiting) == 1:
        return f"{NAME} · #{waiting[0]} needs input"
    if waiting:
        return f"{NAME} · {len(waiting)} need input"
    if standing.running:
        return f"{NAME} · {standing.running} running"
    if standing.failed_unread:
        return f"{NAME} · {standing.failed_unread} failed"
    return NAME


def progress(standing: Standing | None) -> str:
    """State and value of OSC 9;4. A failure is shown until it has been read."""
    if standing is not None and standing.failed_unread:
        return "2;100"
    return "3;0" if standing is not None and standing.running else "0;0"


def change(before: Standing | None, after: Standing | None, able: Abilities) -> str:
    """What to write when the standing changes; ``None``: the dashboard is not there."""
    parts = []
    if able.title and before is None and after is not None:
        parts.append(_PUSH_TITLE)
    if able.title and after is not None and (before is None or title(before) != title(after)):
        parts.append(f"\x1b]0;{_plain(title(after))}{_ST}")
    if able.progress and progress(before) != progress(after):
        parts.append(f"\x1b]9;4;{progress(after)}{_ST}")
    if able.title and before is not None and after is None:
        # A terminal that keeps no stack of titles is left with an empty one.
        parts.append(f"\x1b]0;{_ST}{_POP_TITLE}")
    return "".join(parts)


def notification(text: str, able: Abilities) -> str:
    """What to write for a notification of ``text``, wherever that comes from."""
    if able.notify == 777:
        return f"\x1b]777;notify;{NAME};{_plain(text)}{_ST}"
    if able.notify == 9:
        # The name comes first: a number there would be a command to some terminals.
        return f"\x1b]9;{NAME}: {_plain(text)}{_ST}"
    return ""


def _plain(text: str) -> str:
    """``text`` with nothing in it that ends or divides a sequence."""
    return one_line(text, _TEXT_LIMIT).replace(";", ",")


def news(before: Sequence[Task], after: Sequence[Task]) -> list[str]:
    """What is worth a notification: tasks of ``before`` that finished, failed or wait now."""
    known = {task["id"]: task["status"] for task in before}
    changed = [
        task
        for task in after
        if task["status"] in _NEWSWORTHY
        and known.get(task["id"], task["status"]) != task["status"]
        # Who has stopped an answer knows that it has ended.
        and not (status.is_chat(task) and task.get("reason") == "user")
    ]
    if len(changed) > _NEWS_ONE_BY_ONE:
        counted = Counter(map(_word, changed))
        return [", ".join(f"{count} {word}" for word, count in counted.items())]
    return [f"#{task['id']} {_word(task)}: {status.title(task)}" for task in changed]


def _word(task: Task) -> str:
    return "answered" if status.is_chat(task) else status.look(task).word


class Terminal:
    """The terminal that ``app`` runs on. To be called in the app's own thread."""

    def __init__(self, app: App[None], environ: Mapping[str, str] = os.environ) -> None:
        self._app = app
        self._able = abilities(environ)
        self._shown: Standing | None = None

    def show(
        self, *, running: int = 0, waiting: Sequence[int] = (), failed_unread: int = 0
    ) -> None:
        """Show how the tasks stand.

        Args:
            running: how many run.
            waiting: the ids of those that wait for input.
            failed_unread: how many failed and have not been looked at since.
        """
        self._show(Standing(running, tuple(waiting), failed_unread))

    def tell(self, text: str) -> None:
        """Notify of ``text``, unless the terminal is in front: it may be shown there then.

        A terminal that does not say whether it is in front counts as being there.
        """
        if not self._app.app_focus:
            self._write(notification(text, self._able))

    def close(self) -> None:
        """Leave the terminal as it was found. Nothing is shown any more after that."""
        self._show(None)
        self._able = Abilities()

    def _show(self, standing: Standing | None) -> None:
        if standing != self._shown:
            before, self._shown = self._shown, standing
            self._write(change(before, standing, self._able))

    def _write(self, sequence: str) -> None:
        driver = self._app._driver
        if sequence and driver is not None and not (driver.is_headless or driver.is_web):
            driver.write(sequence)
            driver.flush()
