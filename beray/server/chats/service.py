"""Chats: conversations with an agent, each in its own work_dir.

A chat is a task that does not end. Its event log has the messages of both sides, its files are
available like those of any task, and it waits for its user between two answers.
"""

from __future__ import annotations

import asyncio
from typing import Final
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool

from beray.events import MsgUserMessage, TaskStatusChanged
from beray.schema import MAX_ATTACHMENTS, MAX_MESSAGE_CHARS, from_workspace
from beray.server.runtime.fair_queue import QueueFull
from beray.server.storage.chats import ChatRepository
from beray.server.storage.tables import Task
from beray.server.tasks.conversations import Conversations
from beray.server.tasks.end_writer import EndWriter
from beray.server.tasks.event_log import EventLog
from beray.server.tasks.executor import Executor, ExecutorClosed, RunActive
from beray.server.tasks.feed import TaskFeed
from beray.server.tasks.run_policy import Run
from beray.server.workspace.safe_open import PathError
from beray.server.workspace.workspace import Workspaces

QUEUE_FULL: Final = "QUEUE_FULL"
"""Error code for a user whose messages that wait for an answer have reached the limit."""


class MessageRejected(Exception):
    """A message cannot be answered.

    Attributes:
        code: Error code for programs, such as ``BUSY``.
    """

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code


class ChatService:
    """Chats and their messages. Used on one event loop."""

    def __init__(
        self,
        *,
        chats: ChatRepository,
        feed: TaskFeed,
        event_log: EventLog,
        workspaces: Workspaces,
        conversations: Conversations,
        executor: Executor,
        end_writer: EndWriter,
    ) -> None:
        self._chats = chats
        self._feed = feed
        self._event_log = event_log
        self._workspaces = workspaces
        self._conversations = conversations
        self._executor = executor
        self._end_writer = end_writer
        # One lock per user and name, so that chats do not wait for each other on a locked database.
        self._opening = WeakValueDictionary[tuple[int, str], asyncio.Lock]()

    async def open(self, user_id: int, name: str) -> Task:
        """Return the chat of this name, creating it if missing."""
        task = await run_in_threadpool(self._chats.find, user_id, name)
        if task is not None and task.last_seq:
            return task
        async with self._opening.setdefault((user_id, name), asyncio.Lock()):
            task = await run_in_threadpool(self._find_or_create, user_id, name)
            if task.last_seq == 0:
                waits = TaskStatusChanged(status="INPUT_REQUIRED")
                task.last_seq = await self._event_log.append(task.id, waits)
        self._feed.wake(user_id)
        return task

    def _find_or_create(self, user_id: int, name: str) -> Task:
        """Return the chat, completing its creation if the end of a server interrupted it."""
        task = self._chats.find(user_id, name) or self._chats.create(user_id, name)
        if task.last_seq == 0:
            self._conversations.prepare(task.id)
        if not self._workspaces.path(task.id).exists():
            self._workspaces.create(task.id, user_id)
        return task

    async def send(self, task: Task, message: MsgUserMessage) -> None:
        """Submit the answer to a message of the user, which is logged first.

        Raises:
            MessageRejected: The message cannot be answered; nothing was logged.
        """
        await self._executor.wait_ended(task.id, only_ending=True)
        if self._end_writer.is_pending(task.id):
            raise MessageRejected("BUSY", "The end of the last answer is not saved yet; try again.")
        run = Run(kind="answer", task_id=task.id, user_id=task.user_id, message=message)
        try:
            self._executor.submit(run)
        except ExecutorClosed:
            raise MessageRejected("SHUTDOWN", "The server is stopping; try again later.") from None
        except RunActive:
            raise MessageRejected(
                "BUSY", "An answer is still running; send the message when it has ended."
            ) from None
        except QueueFull as full:
            raise MessageRejected(QUEUE_FULL, str(full)) from full

    async def validate(self, task: Task, message: MsgUserMessage) -> None:
        """Check the text and the attachments of a message.

        Raises:
            MessageRejected: The text is empty, too long or has a NUL character, or an attachment
                is not a file in the work_dir.
        """
        if not message.text.strip():
            raise MessageRejected("INVALID_MESSAGE", "The message is empty.")
        if len(message.text) > MAX_MESSAGE_CHARS:
            details = (
                f"The message has {len(message.text):,} characters; the limit is "
                f"{MAX_MESSAGE_CHARS:,}."
            )
            raise MessageRejected("INVALID_MESSAGE", details)
        if "\0" in message.text:
            raise MessageRejected("INVALID_MESSAGE", "The message contains a NUL character.")
        if len(message.attachments) > MAX_ATTACHMENTS:
            details = (
                f"The message has {len(message.attachments)} attachments; the limit is "
                f"{MAX_ATTACHMENTS}."
            )
            raise MessageRejected("INVALID_MESSAGE", details)

        def check_attachments() -> None:
            with self._workspaces.open(task.id) as workspace:
                for path in message.attachments:
                    workspace.open_file(from_workspace(path))[0].close()

        try:
            await run_in_threadpool(check_attachments)
        except PathError as error:
            raise MessageRejected("ATTACHMENT", f"An attachment cannot be used: {error}.") from None
