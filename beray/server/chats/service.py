"""Chats: conversations with an agent, each in its own work_dir.

A chat is a task that does not end. Its event log has the messages of both sides, its files are
available like those of any task, and it waits for its user between two answers.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.events import Event, MsgError, MsgUserMessage, TaskStatusChanged
from beray.schema import MAX_ATTACHMENTS, from_workspace
from beray.server.chats.transcript import transcript
from beray.server.runners import Outcome, Runners
from beray.server.runners.chat_history import ChatHistory, Record
from beray.server.runtime.fair_queue import FairSlots, QueueFull
from beray.server.settings import Settings
from beray.server.storage.chats import ChatRepository
from beray.server.storage.database_errors import StorageError
from beray.server.storage.events import EventRepository
from beray.server.storage.shortage import retry_on_shortage
from beray.server.storage.tables import Task
from beray.server.storage.tasks import TaskRepository
from beray.server.tasks.end_writer import EndWriter
from beray.server.tasks.event_log import EventLog, TaskClosed
from beray.server.tasks.feed import TaskFeed
from beray.server.tasks.queue import wait_stopped
from beray.server.tasks.run import RunExecutor, chat_history_path
from beray.server.workspace.safe_open import PathError
from beray.server.workspace.workspace import Workspaces

MAX_MESSAGE_CHARACTERS: Final = 200_000
"""Maximum length of a message."""

QUEUE_FULL: Final = "QUEUE_FULL"
"""Error code for a user whose messages that wait for an answer have reached the limit."""

log = structlog.get_logger("beray.chats")


class MessageRejected(Exception):
    """A message cannot be answered.

    Attributes:
        code: Error code for programs, such as ``BUSY``.
    """

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code


class ChatService:
    """Chats and running answers. Used on one event loop, until ``close``."""

    def __init__(
        self,
        settings: Settings,
        tasks: TaskRepository,
        feed: TaskFeed,
        event_log: EventLog,
        runners: Runners,
        runs: RunExecutor,
        workspaces: Workspaces,
        *,
        chats: ChatRepository,
        events: EventRepository,
        end_writer: EndWriter,
    ) -> None:
        self._end_writer = end_writer
        self._settings = settings
        self._tasks = tasks
        self._chats = chats
        self._events = events
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
        """True if no answer is running."""
        return not self._answers

    async def open(self, user_id: int, name: str) -> Task:
        """Return the chat of this name, creating it if missing."""
        task = await run_in_threadpool(self._chats.find, user_id, name)
        if task is not None and task.last_seq:
            return task
        async with self._opening:
            task = await run_in_threadpool(self._find_or_create, user_id, name)
            if task.last_seq == 0:
                waits = TaskStatusChanged(status="INPUT_REQUIRED")
                task.last_seq = await self._event_log.append(task.id, waits)
        self._feed.wake(user_id)
        return task

    def _find_or_create(self, user_id: int, name: str) -> Task:
        """Return the chat, completing its creation if the end of a server interrupted it."""
        task = self._chats.find(user_id, name) or self._chats.create(user_id, name)
        if not self._workspaces.path(task.id).exists():
            self._workspaces.create(task.id, user_id)
        return task

    async def send(self, task: Task, message: MsgUserMessage) -> None:
        """Log a message of the user and start to answer it.

        Raises:
            MessageRejected: The message cannot be answered; nothing was logged.
        """
        if self._closing:
            raise MessageRejected("SHUTDOWN", "The server is stopping; try again later.")
        if task.id in self._ending:
            await asyncio.wait([self._answers[task.id]])
        if task.id in self._answers:
            raise MessageRejected(
                "BUSY", "An answer is still running; send the message when it has ended."
            )
        if self._end_writer.is_pending(task.id):
            raise MessageRejected("BUSY", "The end of the last answer is not saved yet; try again.")
        try:
            self._slots.require_place(task.user_id)
        except QueueFull as full:
            raise MessageRejected(QUEUE_FULL, str(full)) from full
        answer = asyncio.create_task(self._answer(task, message), name=f"chat-{task.id}")
        self._answers[task.id] = answer
        answer.add_done_callback(partial(self._finish_answer, task.id))
        self._slots.count(task.user_id, answer)

    async def validate(self, task: Task, message: MsgUserMessage) -> None:
        """Check the text and the attachments of a message.

        Raises:
            MessageRejected: The text is empty, too long or has a NUL character, or an attachment
                is not a file in the work_dir.
        """
        if not message.text.strip():
            raise MessageRejected("INVALID_MESSAGE", "The message is empty.")
        if len(message.text) > MAX_MESSAGE_CHARACTERS:
            details = (
                f"The message has {len(message.text):,} characters; the limit is "
                f"{MAX_MESSAGE_CHARACTERS:,}."
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

    def is_answering(self, task_id: int) -> bool:
        """Return True if an answer in the chat is running."""
        return task_id in self._answers

    async def wait_answered(self, task_id: int) -> None:
        """Wait until no answer in the chat is running."""
        if (answer := self._answers.get(task_id)) is not None:
            await asyncio.wait([answer])

    async def stop(self, task_id: int) -> bool:
        """Stop the running answer; return False if there is none."""
        await self._let_answers_start()
        if task_id not in self._answers:
            return False
        self._cancel(task_id)
        return True

    async def stop_and_wait(self, task_id: int) -> None:
        """Stop the running answer and wait until its processes have ended.

        Raises:
            Refused: The stop takes longer than ``STOP_SECONDS`` (503).
        """
        answer = self._answers.get(task_id)
        if answer is not None:
            self._cancel(task_id)
            await wait_stopped(answer, "The answer")

    async def close(self) -> None:
        """Stop all answers and wait for their ends. Idempotent."""
        self._closing = True
        await self._let_answers_start()
        for task_id in self._answers:
            self._cancel(task_id)
        if self._answers:
            await asyncio.wait(list(self._answers.values()))

    async def _let_answers_start(self) -> None:
        """Wait until every answer has taken its first step.

        An answer that is cancelled earlier would not log its message.
        """
        await asyncio.sleep(0)

    def _cancel(self, task_id: int) -> None:
        # A second cancellation, or a late one, would interrupt the logging of the end.
        if task_id not in self._stopping and task_id not in self._ending:
            self._stopping.add(task_id)
            self._answers[task_id].cancel()

    def _finish_answer(self, task_id: int, answer: asyncio.Task[None]) -> None:
        del self._answers[task_id]
        self._ending.discard(task_id)
        self._stopping.discard(task_id)
        if not answer.cancelled() and (error := answer.exception()) is not None:
            log.error("the end of an answer could not be logged", task_id=task_id, exc_info=error)

    async def _answer(self, task: Task, message: MsgUserMessage) -> None:
        """Log a message and its answer. The message and an end are logged in any case."""
        logged: asyncio.Future[int] | None = None
        problem: MsgError | None
        reason = None
        try:
            # ``task`` may be outdated.
            task = await self._reload(task)
            goal = await retry_on_shortage(partial(self._goal, task, message))
            logged = self._event_log.enqueue(task.id, message)
            seq = await logged
            if self._runner_of(task, message.text) == "model":
                await retry_on_shortage(
                    partial(run_in_threadpool, self._save_to_history, task, seq)
                )
            async with self._slots.slot(task.user_id):
                outcome = await self._runs.run(task, goal)
            reason = outcome.reason
            problem = await retry_on_shortage(
                partial(self._missing_end, task.id, outcome, task.last_seq)
            )
        except TaskClosed:
            return  # the chat was deleted
        except asyncio.CancelledError:
            if logged is None:  # stopped before the message was logged
                logged = self._event_log.enqueue(task.id, message)
            reason = "shutdown" if self._closing else "user"
            problem = MsgError(code="STOPPED", details="The answer was stopped.")
        except (OSError, RuntimeError, StorageError) as error:
            log.error(
                "an answer failed with an error of the server", task_id=task.id, exc_info=error
            )
            reason = "error"
            problem = MsgError(code="RUNNER_FAILED", details="The server could not run the answer.")
        # A user who sees the end may send the next message immediately.
        self._ending.add(task.id)
        waits = TaskStatusChanged(status="INPUT_REQUIRED", reason=reason)
        events: list[Event] = [waits] if problem is None else [problem, waits]
        if not await _is_written(logged):
            events.insert(0, message)
        await self._end_writer.write(task.id, events)
        self._feed.wake(task.user_id)

    async def _reload(self, task: Task) -> Task:
        """Return the current state of the chat.

        Raises:
            TaskClosed: The chat was deleted.
        """
        found = await retry_on_shortage(lambda: run_in_threadpool(self._tasks.get, task.id))
        if found is None:
            raise TaskClosed(f"chat {task.id} was deleted")
        return found

    def _runner_of(self, task: Task, text: str) -> str | None:
        return self._runners.settle(task.runner, task.model, text).runner

    async def _goal(self, task: Task, message: MsgUserMessage) -> str:
        """Return the goal for the runner: the message, with the context that the runner needs."""
        runner = self._runner_of(task, message.text)
        if runner == "shell":
            return message.text
        if runner in ("acp", "command"):  # these have no memory of the conversation
            conversation = await run_in_threadpool(transcript, self._events, task)
            return "\n\n".join(filter(None, (conversation, _prompt(message))))
        return _prompt(message)

    def _save_to_history(self, task: Task, seq: int) -> None:
        """Add the user's message ``seq`` to the history for the model.

        Earlier messages are added as well if they are missing, because their answers were
        stopped or the server was killed before the run started.

        Raises:
            OSError: The history cannot be saved.
        """
        history = ChatHistory(chat_history_path(self._settings, task.id))
        after = history.last_seq(earlier=task.last_seq)
        records: list[Record] = []
        for number, body in self._events.user_messages(task.id, after, seq):
            message = MsgUserMessage.model_validate_json(body)
            if self._runner_of(task, message.text) == "model":
                records.append({"kind": "user", "seq": number, "text": _prompt(message)})
        if records:
            history.append(*records)

    async def _missing_end(self, task_id: int, outcome: Outcome, after: int) -> MsgError | None:
        """Return an error for a failed answer without an end or error event, else None."""
        if outcome.status == "COMPLETED":
            return None
        rows = await run_in_threadpool(self._events.count_ends_after, task_id, after)
        if rows:
            return None
        code = (outcome.reason or "failed").upper()
        return MsgError(code=code, details="The agent ended without an answer.")


def _prompt(message: MsgUserMessage) -> str:
    """Return the message for an agent, with the names of its attachments."""
    if not message.attachments:
        return message.text
    names = ", ".join(map(from_workspace, message.attachments))
    return f"{message.text}\n\nAttached files, in the workspace: {names}"


async def _is_written(logged: asyncio.Future[int] | None) -> bool:
    """Return True if an enqueued event is in the log, also if waiting for it was cancelled."""
    if logged is None:
        return False
    await asyncio.wait([logged])
    return logged.cancelled() or logged.exception() is None
