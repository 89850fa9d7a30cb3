"""Answers of chats: their goals, their ends, and their recovery."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import structlog
from starlette.concurrency import run_in_threadpool

from beray.events import Event, MsgError, MsgUserMessage, TaskStatusChanged
from beray.schema import from_workspace
from beray.server.chats.transcript import transcript
from beray.server.runners import Outcome, Runners
from beray.server.runners.chat_history import Record
from beray.server.storage.events import EventRepository
from beray.server.storage.shortage import retry_on_shortage
from beray.server.storage.tables import Task
from beray.server.storage.tasks import TaskRepository, UnfinishedTask
from beray.server.tasks.conversations import Conversations
from beray.server.tasks.end_writer import EndWriter
from beray.server.tasks.event_log import EventLog, TaskClosed
from beray.server.tasks.feed import TaskFeed
from beray.server.tasks.run import GoalRunner
from beray.server.tasks.run_policy import Run, SlotLimits, StopReason

log = structlog.get_logger("beray.chats")


class AnswerPolicy:
    """``RunPolicy`` of chats. After an answer, its chat waits for the next message."""

    outlives_server = False

    def __init__(
        self,
        *,
        limits: SlotLimits,
        tasks: TaskRepository,
        events: EventRepository,
        event_log: EventLog,
        feed: TaskFeed,
        runners: Runners,
        conversations: Conversations,
        goal_runner: GoalRunner,
        end_writer: EndWriter,
    ) -> None:
        self.limits = limits
        self._tasks = tasks
        self._events = events
        self._event_log = event_log
        self._feed = feed
        self._runners = runners
        self._conversations = conversations
        self._goal_runner = goal_runner
        self._end_writer = end_writer

    async def prepare(self, run: Run) -> None:
        """Log the message, and make the goal of it.

        Raises:
            TaskClosed: The chat was deleted.
        """
        message = run.message
        assert message is not None
        task = await self._load(run.task_id)
        run.goal = await retry_on_shortage(partial(self._goal, task, message))
        logged = self._event_log.enqueue(task.id, message)
        try:
            seq = await logged
        finally:
            # An event that is in the queue is written, also if this wait is cancelled.
            run.is_message_logged = logged.cancelled() or logged.exception() is None
        if self._runner_of(task, message.text) == "model":
            await retry_on_shortage(partial(run_in_threadpool, self._save_to_history, task, seq))

    async def execute(self, run: Run) -> Sequence[Event]:
        """Run the agent and return the last events of the answer.

        Raises:
            TaskClosed: The chat was deleted.
        """
        task = await self._load(run.task_id)
        outcome = await self._goal_runner.run(task, goal=run.goal)
        problem = await retry_on_shortage(
            partial(self._missing_end, task.id, outcome, task.last_seq)
        )
        waits = _waiting_for_user(outcome.reason)
        return [waits] if problem is None else [problem, waits]

    def stopped(self, run: Run, reason: StopReason) -> Sequence[Event]:
        """Return the error ``STOPPED`` and the status after it."""
        problem = MsgError(code="STOPPED", details="The answer was stopped.")
        return [problem, _waiting_for_user(reason)]

    def failed(self, run: Run) -> Sequence[Event]:
        """Return the error ``RUNNER_FAILED`` and the status after it."""
        problem = MsgError(code="RUNNER_FAILED", details="The server could not run the answer.")
        return [problem, _waiting_for_user("error")]

    def on_end(self, run: Run) -> None:
        """Wake the watchers of the user's tasks."""
        self._feed.wake(run.user_id)

    async def stop_idle(self, task_id: int) -> bool:
        """Return False: a chat without a run has no answer to stop."""
        return False

    async def recover(self, tasks: Sequence[UnfinishedTask]) -> list[Run]:
        """End the lost answers; their chats wait for the user."""
        lost = MsgError(code="LOST_WORKER", details="The server stopped during the answer.")
        for task in tasks:
            await self._end_writer.write(task.id, [lost, _waiting_for_user("lost_worker")])
        return []

    def subject(self, task_id: int) -> str:
        """Return the subject of messages about a run."""
        return "The answer"

    async def _load(self, task_id: int) -> Task:
        """Return the chat.

        Raises:
            TaskClosed: The chat was deleted.
        """
        task = await retry_on_shortage(lambda: run_in_threadpool(self._tasks.get, task_id))
        if task is None:
            raise TaskClosed(f"chat {task_id} was deleted")
        return task

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
        history = self._conversations.history(task.id)
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


def _waiting_for_user(reason: str | None) -> TaskStatusChanged:
    return TaskStatusChanged(status="INPUT_REQUIRED", reason=reason)


def _prompt(message: MsgUserMessage) -> str:
    """Return the message for an agent, with the names of its attachments."""
    if not message.attachments:
        return message.text
    names = ", ".join(map(from_workspace, message.attachments))
    return f"{message.text}\n\nAttached files, in the workspace: {names}"
