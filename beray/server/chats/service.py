"""Chats: conversations with the agent that does tasks, each in a work_dir of its own.

A chat is a task that does not end: its log holds what both sides have said, its files
are had as any task's, and between two answers it waits for its user.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from beray.events import Event, MsgError, MsgUserMessage, TaskStatusChanged
from beray.schema import MOST_ATTACHMENTS, from_workspace
from beray.server.chats.history import ChatHistory, Record
from beray.server.chats.transcript import transcript
from beray.server.runners import Outcome, Runners
from beray.server.runtime.fair_queue import FairSlots, QueueFull
from beray.server.runtime.shortage import patiently
from beray.server.settings import Settings
from beray.server.storage.store import Store
from beray.server.storage.tables import Task
from beray.server.tasks.end_writer import EndWriter
from beray.server.tasks.event_log import EventLog, TaskEnded
from beray.server.tasks.feed import TaskFeed
from beray.server.tasks.queue import ended_in_time
from beray.server.tasks.run import Runs, conversation_file
from beray.server.workspace.safe_open import PathError
from beray.server.workspace.workspace import Workspaces

LONGEST_MESSAGE: Final = 200_000
"""Characters."""

QUEUE_FULL: Final = "QUEUE_FULL"
"""Code of the refusal of a user who has as many messages waiting for an answer as one may."""

log = structlog.get_logger("beray.chats")


class ChatRefused(Exception):
    """A message cannot be answered. ``code`` is for programs, the text for people."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code


class Chats:
    """Used on one event loop, until ``close``."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        feed: TaskFeed,
        event_log: EventLog,
        runners: Runners,
        runs: Runs,
        workspaces: Workspaces,
        *,
        ends: EndWriter,
    ) -> None:
        self._ends = ends
        self._settings = settings
        self._store = store
        self._feed = feed
        self._event_log = event_log
        self._runners = runners
        self._runs = runs
        self._workspaces = workspaces
        self._answers: dict[int, asyncio.Task[None]] = {}
        self._ending: set[int] = set()
        self._stopping: set[int] = set()
        self._opening = asyncio.Lock()
        self._slots = FairSlots(
            settings.chat_slots,
            settings.chat_slots_per_user,
            subject_waiting=settings.queued_per_user,
            item_noun="chat messages",
        )
        self._closing = False

    @property
    def idle(self) -> bool:
        return not self._answers

    async def open(self, user_id: int, name: str) -> Task:
        """The chat of this name; a new one where there is none."""
        task = await run_in_threadpool(self._store.chat, user_id, name)
        if task is not None and task.last_seq:
            return task
        async with self._opening:
            task = await run_in_threadpool(self._made, user_id, name)
            if task.last_seq == 0:
                waits = TaskStatusChanged(status="INPUT_REQUIRED")
                task.last_seq = await self._event_log.append(task.id, waits)
        self._feed.wake(user_id)
        return task

    def _made(self, user_id: int, name: str) -> Task:
        """What a server that died in the middle of this has left is completed."""
        task = self._store.chat(user_id, name) or self._store.add_chat(user_id, name)
        if not self._workspaces.path(task.id).exists():
            self._workspaces.create(task.id, user_id)
        return task

    async def say(self, task: Task, message: MsgUserMessage) -> None:
        """Log what a user says, and begin to answer it.

        Raises:
            ChatRefused: it cannot be answered; nothing was logged.
        """
        if self._closing:
            raise ChatRefused("SHUTDOWN", "The server is going away.")
        if task.id in self._ending:
            await asyncio.wait([self._answers[task.id]])
        if task.id in self._answers:
            raise ChatRefused("BUSY", "An answer is under way; say this when it has ended.")
        if self._ends.is_pending(task.id):
            raise ChatRefused("BUSY", "The end of the last answer cannot be saved yet; try again.")
        try:
            self._slots.require_place(task.user_id)
        except QueueFull as full:
            raise ChatRefused(QUEUE_FULL, str(full)) from full
        answer = asyncio.create_task(self._answer(task, message), name=f"chat-{task.id}")
        self._answers[task.id] = answer
        answer.add_done_callback(partial(self._free, task.id))
        self._slots.count(task.user_id, answer)

    async def require_sound(self, task: Task, message: MsgUserMessage) -> None:
        """Raises ``ChatRefused`` where a message is none, or what is attached is not there."""
        if not message.text.strip():
            raise ChatRefused("INVALID_MESSAGE", "The message is empty.")
        if len(message.text) > LONGEST_MESSAGE or "\0" in message.text:
            raise ChatRefused("INVALID_MESSAGE", "The message is too long, or no text.")
        if len(message.attachments) > MOST_ATTACHMENTS:
            raise ChatRefused("INVALID_MESSAGE", f"More than {MOST_ATTACHMENTS} attachments.")

        def look() -> None:
            with self._workspaces.open(task.id) as workspace:
                for path in message.attachments:
                    workspace.open_file(from_workspace(path))[0].close()

        try:
            await run_in_threadpool(look)
        except PathError as error:
            raise ChatRefused("ATTACHMENT", f"An attachment cannot be used: {error}.") from None

    def answering(self, task_id: int) -> bool:
        return task_id in self._answers

    async def answered(self, task_id: int) -> None:
        """Return when no answer is under way."""
        if (answer := self._answers.get(task_id)) is not None:
            await asyncio.wait([answer])

    async def stop(self, task_id: int) -> bool:
        """Stop the answer that is under way; ``False`` where there is none."""
        await self._begun()
        if task_id not in self._answers:
            return False
        self._cancel(task_id)
        return True

    async def stopped(self, task_id: int) -> None:
        """Stop an answer and return when nothing of it is running any more.

        Raises:
            Refused: 503, this takes longer than ``STOP_SECONDS``.
        """
        answer = self._answers.get(task_id)
        if answer is not None:
            self._cancel(task_id)
            await ended_in_time(answer, "The answer")

    async def close(self) -> None:
        """Stop all answers and wait for that. Idempotent."""
        self._closing = True
        await self._begun()
        for task_id in self._answers:
            self._cancel(task_id)
        if self._answers:
            await asyncio.wait(list(self._answers.values()))

    async def _begun(self) -> None:
        """Return when every answer has taken its first step.

        One that is cancelled before it would leave nothing in the log.
        """
        await asyncio.sleep(0)

    def _cancel(self, task_id: int) -> None:
        # A second cancellation, or a late one, would interrupt the logging of the end.
        if task_id not in self._stopping and task_id not in self._ending:
            self._stopping.add(task_id)
            self._answers[task_id].cancel()

    def _free(self, task_id: int, answer: asyncio.Task[None]) -> None:
        del self._answers[task_id]
        self._ending.discard(task_id)
        self._stopping.discard(task_id)
        if not answer.cancelled() and (error := answer.exception()) is not None:
            log.error("the end of an answer could not be logged", task_id=task_id, exc_info=error)

    async def _answer(self, task: Task, message: MsgUserMessage) -> None:
        """Log a message and its answer. The log always has the message and an end."""
        logged: asyncio.Future[int] | None = None
        problem: MsgError | None
        reason = None
        try:
            # ``task`` may be older than what its log has now.
            task = await self._current(task)
            goal = await patiently(partial(self._goal, task, message))
            logged = self._event_log.enqueue(task.id, message)
            seq = await logged
            if self._runner_of(task, message.text) == "model":
                await patiently(partial(run_in_threadpool, self._remember, task, seq))
            async with self._slots.slot(task.user_id):
                outcome = await self._runs.run(task, goal)
            reason = outcome.reason
            problem = await patiently(partial(self._unsaid, task.id, outcome, task.last_seq))
        except TaskEnded:
            return  # the chat was deleted
        except asyncio.CancelledError:
            if logged is None:  # it was stopped before its message was logged
                logged = self._event_log.enqueue(task.id, message)
            reason = "shutdown" if self._closing else "user"
            problem = MsgError(code="STOPPED", details="The answer was stopped.")
        except (OSError, RuntimeError, SQLAlchemyError) as error:
            log.error("an answer broke", task_id=task.id, exc_info=error)
            reason = "error"
            problem = MsgError(code="RUNNER_FAILED", details="The server could not answer.")
        # Whoever reads that it has ended may say the next thing at once.
        self._ending.add(task.id)
        waits = TaskStatusChanged(status="INPUT_REQUIRED", reason=reason)
        last: list[Event] = [waits] if problem is None else [problem, waits]
        if not await _is_written(logged):
            last.insert(0, message)
        await self._ends.write(task.id, last)
        self._feed.wake(task.user_id)

    async def _current(self, task: Task) -> Task:
        """Return the chat as it is now.

        Raises:
            TaskEnded: it was deleted.
        """
        found = await patiently(lambda: run_in_threadpool(self._store.task, task.id))
        if found is None:
            raise TaskEnded(f"chat {task.id} was deleted")
        return found

    def _runner_of(self, task: Task, text: str) -> str | None:
        return self._runners.settle(task.runner, task.model, text).runner

    async def _goal(self, task: Task, message: MsgUserMessage) -> str:
        """What a runner is asked: a shell what was said, an agent what it needs besides."""
        runner = self._runner_of(task, message.text)
        if runner == "shell":
            return message.text
        if runner in ("acp", "command"):  # which remember nothing of what was said before
            before = await run_in_threadpool(transcript, self._store, task)
            return "\n\n".join(filter(None, (before, _prompt(message))))
        return _prompt(message)

    def _remember(self, task: Task, seq: int) -> None:
        """Add the user's message ``seq`` to the history for the model.

        So are earlier ones that are missing, because their answers were stopped, or the server
        was killed, before a run began.

        Raises:
            OSError: The history cannot be saved.
        """
        history = ChatHistory(conversation_file(self._settings, task.id))
        after = history.last_seq(earlier=task.last_seq)
        records: list[Record] = []
        for number, body in self._store.user_messages(task.id, after, seq):
            message = MsgUserMessage.model_validate_json(body)
            if self._runner_of(task, message.text) == "model":
                records.append({"kind": "user", "seq": number, "text": _prompt(message)})
        if records:
            history.append(*records)

    async def _unsaid(self, task_id: int, outcome: Outcome, after: int) -> MsgError | None:
        """How an answer ended that has said neither its end nor an error."""
        if outcome.status == "COMPLETED":
            return None
        rows = await run_in_threadpool(self._store.count_end_events_after, task_id, after)
        if rows:
            return None
        code = (outcome.reason or "failed").upper()
        return MsgError(code=code, details="The agent has ended without an answer.")


def _prompt(message: MsgUserMessage) -> str:
    """Return a message as an agent reads it: with the names of its attachments."""
    if not message.attachments:
        return message.text
    names = ", ".join(map(from_workspace, message.attachments))
    return f"{message.text}\n\nAttached files, in the workspace: {names}"


async def _is_written(logged: asyncio.Future[int] | None) -> bool:
    """Return whether an event that was enqueued is in the log; a cancelled wait changes nothing."""
    if logged is None:
        return False
    await asyncio.wait([logged])
    return logged.cancelled() or logged.exception() is None
