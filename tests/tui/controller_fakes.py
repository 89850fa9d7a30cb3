"""The parts of a screen that controllers use, recorded instead of shown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from textual.content import Content
from textual.message import Message

from beray.config import Target
from beray.exceptions import BeRayException
from beray.transfers.transfer import Transfer
from tests.support import WAIT_SECONDS
from tests.tui.dashboard_stub import NOW
from tui.controllers.failures import FailureReporter
from tui.state.current_server import CurrentServer
from tui.state.task_draft import TaskDraft
from tui.state.tasks import TasksState
from tui.state.user_state import UserState

TARGET = Target("https://beray.example", "work", "token", "ada@example.test")
M = TypeVar("M", bound=Message)


class MessageInbox:
    """Receiver of messages in the place of a screen."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._changed = threading.Condition()

    def post_message(self, message: Message) -> bool:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()
        return True

    def wait_for(self, seen: Callable[[list[Message]], object]) -> list[Message]:
        """Wait until ``seen`` is true of the messages so far; return them."""
        with self._changed:
            assert self._changed.wait_for(lambda: seen(self.messages), WAIT_SECONDS)
            return list(self.messages)

    def next(self, kind: type[M]) -> M:
        """Wait for a message of a type, and remove it and those before it."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: any(isinstance(one, kind) for one in self.messages), WAIT_SECONDS
            ), self.messages
            while not isinstance(message := self.messages.pop(0), kind):
                pass
            return message

    def has(self, kind: type[Message]) -> bool:
        with self._changed:
            return any(isinstance(one, kind) for one in self.messages)


class Timers:
    """Timers that fire when the test calls ``fire``."""

    def __init__(self) -> None:
        self.waiting: list[Timers.One] = []

    class One:
        def __init__(self, timers: Timers, callback: Callable[[], None]) -> None:
            self.timers = timers
            self.callback = callback

        def stop(self) -> None:
            if self in self.timers.waiting:
                self.timers.waiting.remove(self)

    def set_timer(self, delay: float, callback: Callable[[], None]) -> Timers.One:
        timer = self.One(self, callback)
        self.waiting.append(timer)
        return timer

    def fire(self) -> None:
        """Fire all timers."""
        waiting, self.waiting = self.waiting, []
        for timer in waiting:
            timer.callback()


class FakeDialogs:
    """Dialogs that record what they are opened with, and give an answer at once."""

    def __init__(self) -> None:
        self.opened: list[tuple[Any, ...]] = []
        self.drafts: list[TaskDraft] = []
        """Answers of the composer, in turn; without one, it stays open."""
        self.name: str | None = None
        self.agrees = False
        self.target: Path | None = None

    def compose_task(
        self, initial: TaskDraft | None, problem: str, on_submit: Callable[[TaskDraft], None]
    ) -> None:
        self.opened.append(("compose", initial, problem))
        if self.drafts:
            on_submit(self.drafts.pop(0))

    def send(self, subject: str, send: Any, on_result: Callable[[Any], None]) -> None:
        self.opened.append(("send", subject))
        result: Any
        try:
            result = send(Transfer())
        except (BeRayException, OSError) as error:
            result = error
        on_result(result)

    def confirm(
        self, title: str, subject: Content, question: str, button: str, on_yes: Callable[[], None]
    ) -> None:
        self.opened.append(("confirm", title, subject.plain, question, button))
        if self.agrees:
            on_yes()

    def save(
        self, title: Content, suggested: Path, download: Any, on_saved: Callable[[Path], None]
    ) -> None:
        self.opened.append(("save", title.plain, suggested))
        if self.target is not None:
            download(self.target, False, Transfer())
            on_saved(self.target)

    def name_chat(self, suggested: str, problem: str, on_name: Callable[[str], None]) -> None:
        self.opened.append(("name", suggested, problem))
        name, self.name = self.name, None
        if name is not None:
            on_name(name)


class Surroundings:
    """Collaborators that the controllers of one screen share.

    Attributes:
        notices: Notifications that were shown, as (text, severity).
        changes: Number of calls of ``on_change``.
    """

    def __init__(self, client: Any, folder: Path, *, has_successor: bool = False) -> None:
        self.server = CurrentServer(TARGET, client)
        self.tasks = TasksState()
        self.user_state = UserState(folder / "dashboard")
        self.target = MessageInbox()
        self.timers = Timers()
        self.dialogs = FakeDialogs()
        self.notices: list[tuple[str, str]] = []
        self.changes = 0
        self.failures = FailureReporter(
            target=self.target, notify=self.notify, has_successor=has_successor
        )

    def notify(self, text: str, severity: str = "information") -> None:
        self.notices.append((text, severity))

    def on_change(self) -> None:
        self.changes += 1

    def know(self, *tasks: Any) -> None:
        """Put tasks into the state, as the task feed does."""
        self.tasks.apply([{"type": "TASKS", "seq": 1, "tasks": list(tasks)}])
        self.tasks.sort(NOW)

    def select(self, task_id: int) -> None:
        from tui.state.selected_task import SelectedTask

        self.tasks.selected = SelectedTask(task_id)
