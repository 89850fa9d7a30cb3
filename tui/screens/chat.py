"""Chats on the main screen: opening them and sending messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from beray.exceptions import TransferCancelled
from beray.sanitize import one_line
from beray.schema import Task
from tui import messages, sanitize, status
from tui.io import background
from tui.screens.notifications import TaskNotifications

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from beray.transfers.transfer import Transfer
    from tui.chat.message_box import MessageBox
    from tui.chat.messages import (
        ChatMessageFailed,
        ChatMessageSent,
        ChatOpened,
        ChatOpenFailed,
    )
    from tui.composer.sending import SubmitResult


class ChatActions(TaskNotifications):
    """Part of the main screen for chats."""

    def __init__(self, client: BeRayClient, clock: Callable[[], datetime]) -> None:
        super().__init__(client, clock)
        self._box: MessageBox | None = None
        """Created when a chat is first selected."""
        self._making = asyncio.Lock()
        self._sending: set[int] = set()
        """Chats to which a message is currently sent."""
        self._asked: dict[int, int] = {}
        """By chat, the ``seq`` before the last sent message: the answer follows it."""

    @property
    def selected_chat(self) -> Task | None:
        """The selected task if it is a chat."""
        task = self.task_state.selected_task
        return task if task is not None and status.is_chat(task) else None

    # Message box

    def show_selected(self) -> None:
        super().show_selected()
        self._show_box()

    def _turn_to(self, what: str) -> None:
        super()._turn_to(what)
        self._show_box()

    def _show_box(self) -> None:
        chat = self.selected_chat
        if self._box is None:
            if chat is not None:
                self.call_later(self._fill_message_box)
            return
        if chat is not None:
            answering = not status.is_idle(chat)
            answering |= chat.get("last_seq", 0) <= self._asked.get(chat["id"], -1)
            sending = chat["id"] in self._sending
            self._box.show(chat, answering=answering, sending=sending)
        self._box.display = chat is not None and self._shown == "events"

    async def _fill_message_box(self) -> None:
        """Create the message box if a chat is selected."""
        async with self._making:
            if self._box is None and self.selected_chat is not None:
                from tui.chat.message_box import MessageBox  # may never be needed

                user_state = self.dashboard.user_state
                box = MessageBox(self._said_before, user_state, self.account, id="message")
                box.display = False
                await self.panes.of_task.mount(box)
                if box.children:  # otherwise the app is closing
                    self._box = box
                    self._show_box()

    def _said_before(self) -> list[str]:
        """Return the user's messages in the selected chat, as far as they are loaded."""
        watched = self.task_state.selected
        events = watched.record.window.events if watched is not None else ()
        texts = [event.get("text") for _, event in events if event.get("type") == "USER_MESSAGE"]
        return [text for text in texts if isinstance(text, str)]

    async def action_message(self) -> None:
        """Focus the message box."""
        if self.selected_chat is not None:
            await self._fill_message_box()
            self._turn_to("events")
            if self._box is not None:
                self._box.focus_text()

    # Opening a chat

    def action_new_chat(self) -> None:
        from tui.chat.send_message import unused_chat_name

        self._ask_for_chat(unused_chat_name(self.task_state.tasks.values()))

    def _ask_for_chat(self, suggested: str, refusal: str = "") -> None:
        from tui.chat.name_screen import ChatNameScreen

        def entered(name: str | None) -> None:
            if name is not None:
                self._open_chat(name)

        self.app.push_screen(ChatNameScreen(suggested, refusal), entered)

    def _open_chat(self, name: str) -> None:
        from tui.chat.messages import ChatOpened, ChatOpenFailed

        client = self.client
        background.run(
            self,
            lambda: ChatOpened(client.open_chat(name)),
            lambda error: ChatOpenFailed(name, error),
        )

    async def on_chat_opened(self, message: ChatOpened) -> None:
        await self.put_and_select(message.task)
        await self.action_message()

    def on_chat_open_failed(self, message: ChatOpenFailed) -> None:
        if not self.session_ended(message.error):
            self._ask_for_chat(message.name, sanitize.error_text(message.error))

    async def put_and_select(self, task: Task) -> None:
        """Add ``task`` to the list, select it and show its events."""
        raise NotImplementedError

    def on_task_deleted(self, message: messages.TaskDeleted) -> None:
        self._asked.pop(message.task_id, None)
        if self._box is not None:
            self._box.discard_draft(message.task_id)

    # Sending a message

    def on_message_box_message_submitted(self, message: MessageBox.MessageSubmitted) -> None:
        task, draft = self.task_state.get(message.task_id), message.draft
        name = task.get("chat") if task is not None else None
        if name is None or message.task_id in self._sending:
            return
        from tui.chat.messages import ChatMessageFailed, ChatMessageSent
        from tui.chat.send_message import send_message

        client, task_id, text = self.client, message.task_id, draft.goal.strip()

        def work(transfer: Transfer | None = None) -> SubmitResult:
            return send_message(client, name, task_id, text, draft.attachments, transfer)

        def came(outcome: SubmitResult | Exception | None) -> None:
            if isinstance(outcome, Exception):
                self.post_message(ChatMessageFailed(task_id, outcome))
            elif outcome is not None:
                self.post_message(ChatMessageSent(task_id, draft, outcome))

        self._sending.add(task_id)
        if draft.attachments:
            from tui.composer.sending_screen import SendingScreen

            self.app.push_screen(SendingScreen(text, work), came)
        else:
            background.run(
                self,
                lambda: ChatMessageSent(task_id, draft, work()),
                lambda error: ChatMessageFailed(task_id, error),
            )
        self._show_box()

    def on_chat_message_sent(self, message: ChatMessageSent) -> None:
        task_id, task = message.task_id, message.sent.task
        self._sending.discard(task_id)
        self._asked[task_id] = task.get("last_seq", 0)
        if self._box is not None:
            self._box.message_sent(task_id, message.draft)
        if message.sent.note:
            self.notify(one_line(message.sent.note), severity="warning", markup=False)
        chat = self.selected_chat
        if chat is not None and chat["id"] == task_id:
            self.panes.events.action_end()  # show the message and its answer
        self._show_box()

    def on_chat_message_failed(self, message: ChatMessageFailed) -> None:
        self._sending.discard(message.task_id)
        self._show_box()
        error, chat = message.error, self.selected_chat
        if isinstance(error, TransferCancelled) or self.session_ended(error):
            return
        if self._box is not None and chat is not None and chat["id"] == message.task_id:
            self._box.show_problem(sanitize.error_text(error))
        else:
            self.on_operation_failed(
                messages.OperationFailed(f"send the message to #{message.task_id}", error)
            )
