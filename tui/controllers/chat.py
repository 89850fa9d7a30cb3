"""Chats: opening them, and sending messages from the message box."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from beray.exceptions import TransferCancelled
from beray.schema import Task
from tui import sanitize, status
from tui.controllers.failures import FailureReporter
from tui.controllers.interfaces import Dialogs, ShowNotification
from tui.io import background
from tui.io.background import MessageTarget
from tui.state.chat_names import unused_chat_name
from tui.state.current_server import CurrentServer
from tui.state.task_draft import TaskDraft
from tui.state.tasks import TasksState

if TYPE_CHECKING:
    from beray.transfers.transfer import Transfer
    from tui.composer.chat_messages import ChatMessageFailed, ChatMessageSent
    from tui.composer.sending import SubmitResult


class MessageBoxView(Protocol):
    """Input of messages; implemented by ``MessageBox``."""

    display: bool

    def show(self, task: Task, *, answering: bool, sending: bool) -> None: ...

    def message_sent(self, task_id: int, draft: TaskDraft) -> None: ...

    def discard_draft(self, task_id: int) -> None: ...

    def show_problem(self, text: str) -> None: ...

    def focus_text(self) -> None: ...


class ChatController:
    """Opens chats, and sends the messages of the message box.

    Args:
        tasks: Tasks, of which one is selected.
        server: Server of the chats.
        target: Receives ``ChatOpened``, ``ChatOpenFailed``, ``ChatMessageSent`` and
            ``ChatMessageFailed``.
        dialogs: Asks for a name, and shows the progress of uploads.
        notify: Shows a notification.
        failures: Reports failed requests.
        add_box: Adds the message box to the screen; returns None if the app is closing.
        is_log_shown: Returns True while the log of the selected task is visible.
        show_log: Shows the log.
        follow_log: Shows the end of the log and follows it.
    """

    def __init__(
        self,
        *,
        tasks: TasksState,
        server: CurrentServer,
        target: MessageTarget,
        dialogs: Dialogs,
        notify: ShowNotification,
        failures: FailureReporter,
        add_box: Callable[[], Awaitable[MessageBoxView | None]],
        is_log_shown: Callable[[], bool],
        show_log: Callable[[], None],
        follow_log: Callable[[], None],
    ) -> None:
        self._tasks = tasks
        self._server = server
        self._target = target
        self._dialogs = dialogs
        self._notify = notify
        self._failures = failures
        self._add_box = add_box
        self._is_log_shown = is_log_shown
        self._show_log = show_log
        self._follow_log = follow_log
        self._box: MessageBoxView | None = None
        """Created when a chat is first selected."""
        self._adding = asyncio.Lock()
        self._sending: set[int] = set()
        """Chats to which a message is currently sent."""
        self._asked: dict[int, int] = {}
        """By chat, the ``seq`` before the last sent message: the answer follows it."""

    @property
    def selected(self) -> Task | None:
        """The selected task if it is a chat."""
        task = self._tasks.selected_task
        return task if task is not None and status.is_chat(task) else None

    # Message box

    @property
    def lacks_box(self) -> bool:
        """True if a chat is selected and the message box does not exist."""
        return self._box is None and self.selected is not None

    def show_box(self) -> None:
        """Show the message box for the selected chat, or hide it."""
        chat, box = self.selected, self._box
        if box is None:
            return
        if chat is not None:
            answering = not status.is_idle(chat)
            answering |= chat.get("last_seq", 0) <= self._asked.get(chat["id"], -1)
            box.show(chat, answering=answering, sending=chat["id"] in self._sending)
        box.display = chat is not None and self._is_log_shown()

    async def add_box(self) -> None:
        """Create the message box if a chat is selected."""
        async with self._adding:
            if self.lacks_box:
                self._box = await self._add_box()
                self.show_box()

    async def write(self) -> None:
        """Focus the message box of the selected chat."""
        if self.selected is not None:
            await self.add_box()
            self._show_log()
            if self._box is not None:
                self._box.focus_text()

    def earlier_messages(self) -> list[str]:
        """Return the user's messages in the selected chat, as far as they are loaded."""
        selected = self._tasks.selected
        events = selected.record.window.events if selected is not None else ()
        texts = [event.get("text") for _, event in events if event.get("type") == "USER_MESSAGE"]
        return [text for text in texts if isinstance(text, str)]

    def deleted(self, task_id: int) -> None:
        """Forget a chat that was deleted."""
        self._asked.pop(task_id, None)
        if self._box is not None:
            self._box.discard_draft(task_id)

    # Opening a chat

    def open(self) -> None:
        """Ask for a name, then open or create the chat."""
        self._ask_for_name(unused_chat_name(self._tasks.tasks.values()))

    def _ask_for_name(self, suggested: str, problem: str = "") -> None:
        self._dialogs.name_chat(suggested, problem, self._open)

    def _open(self, name: str) -> None:
        from tui.composer.chat_messages import ChatOpened, ChatOpenFailed

        client = self._server.client
        background.run(
            self._target,
            lambda: ChatOpened(client.open_chat(name)),
            lambda error: ChatOpenFailed(name, error),
        )

    def open_failed(self, name: str, error: Exception) -> None:
        """Ask for a name again."""
        if not self._failures.session_ended(error):
            self._ask_for_name(name, sanitize.error_text(error))

    # Sending a message

    def send(self, task_id: int, draft: TaskDraft) -> None:
        """Send ``draft`` as a message, unless one is being sent."""
        task = self._tasks.get(task_id)
        name = task.get("chat") if task is not None else None
        if name is None or task_id in self._sending:
            return
        from tui.composer.chat_messages import ChatMessageFailed, ChatMessageSent
        from tui.composer.send_message import send_message

        client, text = self._server.client, draft.goal.strip()

        def work(transfer: Transfer | None = None) -> SubmitResult:
            return send_message(client, name, task_id, text, draft.attachments, transfer)

        def done(outcome: SubmitResult | Exception | None) -> None:
            if isinstance(outcome, Exception):
                self._target.post_message(ChatMessageFailed(task_id, outcome))
            elif outcome is not None:
                self._target.post_message(ChatMessageSent(task_id, draft, outcome))

        self._sending.add(task_id)
        if draft.attachments:
            self._dialogs.send(text, work, done)
        else:
            background.run(
                self._target,
                lambda: ChatMessageSent(task_id, draft, work()),
                lambda error: ChatMessageFailed(task_id, error),
            )
        self.show_box()

    def message_sent(self, message: ChatMessageSent) -> None:
        """Show that a message was sent, and its answer."""
        task_id = message.task_id
        self._sending.discard(task_id)
        self._asked[task_id] = message.sent.task.get("last_seq", 0)
        if self._box is not None:
            self._box.message_sent(task_id, message.draft)
        if message.sent.note:
            self._notify(message.sent.note, "warning")
        if self._is_selected(task_id):
            self._follow_log()
        self.show_box()

    def message_failed(self, message: ChatMessageFailed) -> None:
        """Show why a message was not sent; its text remains in the message box."""
        task_id, error = message.task_id, message.error
        self._sending.discard(task_id)
        self.show_box()
        if isinstance(error, TransferCancelled) or self._failures.session_ended(error):
            return
        if self._box is not None and self._is_selected(task_id):
            self._box.show_problem(sanitize.error_text(error))
        else:
            self._failures.report(f"send the message to #{task_id}", error)

    def _is_selected(self, task_id: int) -> bool:
        chat = self.selected
        return chat is not None and chat["id"] == task_id
