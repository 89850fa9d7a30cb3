"""Chats on the main screen: how one is opened, and what is said in it."""

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
from tui.screens.notifications import Noticing

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from beray.transfers.transfer import Transfer
    from tui.chat.message_box import MessageBox
    from tui.chat.messages import ChatMessageFailed, ChatMessageSent, ChatOpened, ChatOpenFailed
    from tui.composer.sending import SubmitResult


class Chatting(Noticing):
    """The part of the main screen for tasks that are chats."""

    def __init__(self, client: BeRayClient, clock: Callable[[], datetime]) -> None:
        super().__init__(client, clock)
        self._box: MessageBox | None = None
        """Once a chat has been looked at."""
        self._making = asyncio.Lock()
        self._sending: set[int] = set()
        """The chats to which a message is under way."""
        self._asked: dict[int, int] = {}
        """Of chats, the last event before what was said last: the answer comes behind it."""

    @property
    def watched_chat(self) -> Task | None:
        """The selected task, where it is a chat."""
        task = self.board.watched_task
        return task if task is not None and status.is_chat(task) else None

    # The place to say something

    def show_watched(self) -> None:
        super().show_watched()
        self._show_box()

    def _turn_to(self, what: str) -> None:
        super()._turn_to(what)
        self._show_box()

    def _show_box(self) -> None:
        chat = self.watched_chat
        if self._box is None:
            if chat is not None:
                self.call_later(self._furnish_box)
            return
        if chat is not None:
            answering = not status.at_rest(chat)
            answering |= chat.get("last_seq", 0) <= self._asked.get(chat["id"], -1)
            sending = chat["id"] in self._sending
            self._box.show(chat, answering=answering, sending=sending)
        self._box.display = chat is not None and self._shown == "events"

    async def _furnish_box(self) -> None:
        """Have the box be there, with the chat that is selected."""
        async with self._making:
            if self._box is None and self.watched_chat is not None:
                from tui.chat.message_box import MessageBox  # which may never be shown

                memory = self.dashboard.memory
                box = MessageBox(self._said_before, memory, self.account, id="message")
                box.display = False
                await self.panes.of_task.mount(box)
                if box.children:  # not so where the app is being left
                    self._box = box
                    self._show_box()

    def _said_before(self) -> list[str]:
        """What the user has said in the selected chat, as far as it is at hand."""
        watched = self.board.watched
        events = watched.record.window.events if watched is not None else ()
        texts = [event.get("text") for _, event in events if event.get("type") == "USER_MESSAGE"]
        return [text for text in texts if isinstance(text, str)]

    async def action_message(self) -> None:
        """Put the cursor to where something is said."""
        if self.watched_chat is not None:
            await self._furnish_box()
            self._turn_to("events")
            if self._box is not None:
                self._box.focus_text()

    # A chat

    def action_new_chat(self) -> None:
        from tui.chat.send_message import unused_chat_name

        self._ask_for_chat(unused_chat_name(self.board.tasks.values()))

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
            self._ask_for_chat(message.name, sanitize.words(message.error))

    async def put_and_select(self, task: Task) -> None:
        """Show ``task``, which is new or known, and what happens in it."""
        raise NotImplementedError

    def on_task_deleted(self, message: messages.TaskDeleted) -> None:
        self._asked.pop(message.task_id, None)
        if self._box is not None:
            self._box.discard_draft(message.task_id)

    # What is said

    def on_message_box_message_submitted(self, message: MessageBox.MessageSubmitted) -> None:
        task, draft = self.board.get(message.task_id), message.draft
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
        chat = self.watched_chat
        if chat is not None and chat["id"] == task_id:
            self.panes.events.action_end()  # what was said, and the answer, are to be seen
        self._show_box()

    def on_chat_message_failed(self, message: ChatMessageFailed) -> None:
        self._sending.discard(message.task_id)
        self._show_box()
        error, chat = message.error, self.watched_chat
        if isinstance(error, TransferCancelled) or self.session_ended(error):
            return
        if self._box is not None and chat is not None and chat["id"] == message.task_id:
            self._box.show_problem(sanitize.words(error))
        else:
            self.on_failed(messages.Failed(f"say something in #{message.task_id}", error))
