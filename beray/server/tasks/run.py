"""Runs: execution of a task's goal by a runner, within limits, with events about files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Literal

import structlog
from starlette.concurrency import run_in_threadpool

from beray.events import MsgError, MsgEventCustomUpdate, TaskStatusChanged
from beray.server.runners import (
    Job,
    Outcome,
    RunnerChoice,
    Runners,
    agent_homes,
    keeps_conversation,
)
from beray.server.runners.base import BudgetExceeded
from beray.server.runners.run_token import RunTokens
from beray.server.sandbox.network_policy import NetworkState
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.storage.database_errors import StorageError, is_full
from beray.server.storage.shortage import is_shortage, retry_delays, retry_on_shortage
from beray.server.storage.tables import Task
from beray.server.storage.usage import UsageRepository
from beray.server.tasks import redaction
from beray.server.tasks.checkpoints import TaskCheckpoints
from beray.server.tasks.conversations import Conversations
from beray.server.tasks.event_log import EventLog
from beray.server.tasks.event_sink import OutputLimitExceeded, TaskSink
from beray.server.tasks.redaction import StreamRedactor
from beray.server.tasks.usage_limits import Budget, format_limit
from beray.server.workspace.disk_quota import DiskQuotaExceeded
from beray.server.workspace.watcher import FileWatcher
from beray.server.workspace.workspace import Workspaces

log = structlog.get_logger("beray.runs")


class GoalRunner:
    """Executes goals in the work_dirs of their tasks, by the runners of this server.

    Args:
        settings: Settings of the server.
        usage: Repository of the usage.
        event_log: Log of the events.
        runners: Runners of the server.
        workspaces: Work_dirs.
        conversations: Messages of tasks and chats.
        sandbox: Sandbox of the commands.
        files: Source of the events about files.
        checkpoints: Recorder of the states of work_dirs.
        access: Issuer of the tokens for the gateway.
        has_prefabs: Returns True if prefabs are installed.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        usage: UsageRepository,
        event_log: EventLog,
        runners: Runners,
        workspaces: Workspaces,
        conversations: Conversations,
        sandbox: Sandbox,
        files: FileWatcher,
        checkpoints: TaskCheckpoints,
        access: RunTokens,
        has_prefabs: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._usage = usage
        self._event_log = event_log
        self._runners = runners
        self._workspaces = workspaces
        self._conversations = conversations
        self._sandbox = sandbox
        self._files = files
        self._checkpoints = checkpoints
        self._access = access
        self._has_prefabs = has_prefabs

    async def run(self, task: Task, *, goal: str | None = None) -> Outcome:
        """Run ``task`` and return its outcome; problems are logged as events of the task.

        A cancellation ends all processes of the run.

        Args:
            task: Task to run.
            goal: Goal to run instead of that of the task, such as a chat message.

        Raises:
            TaskClosed: The task has ended or was deleted.
            StorageError: The log cannot be written.
        """
        started = time.monotonic()
        running_seq = await self._log_running(task.id)
        budget = Budget(repository=self._usage, settings=self._settings, task=task)
        try:
            outcome, problem = await self._run_with_access(
                task, goal or task.goal, budget, running_seq
            )
        finally:
            await budget.spend(time.monotonic() - started)
        if problem is not None:
            await self._event_log.append(task.id, problem)
        return outcome

    async def _log_running(self, task_id: int) -> int:
        """Log the status RUNNING, waiting while the disk is full instead of failing the queue.

        Returns:
            The ``seq`` of the event.
        """
        for attempt, seconds in enumerate(retry_delays()):
            try:
                return await self._event_log.append(task_id, TaskStatusChanged(status="RUNNING"))
            except StorageError as error:
                if not is_full(error):
                    raise
            if not attempt:
                log.warning("a task waits for disk space", task_id=task_id)
            await asyncio.sleep(seconds)
        raise AssertionError("delays have no end")

    async def _run_with_access(
        self, task: Task, goal: str, budget: Budget, last_seq: int
    ) -> tuple[Outcome, MsgError | None]:
        """Return the outcome of a run, and the last event to log."""
        # Tasks of earlier versions have no runner.
        chosen = self._runners.settle(task.runner, task.model, goal)
        has_conversation = keeps_conversation(chosen.runner)
        async with AsyncExitStack() as stack:
            secrets, access = redaction.task_secrets(self._settings, task.tools), None
            if _requests(task, "gateway") or (chosen.runner == "model" and self._has_prefabs()):
                agent = f"task-{task.id}"
                access = await stack.enter_async_context(self._access.grant(task.user_id, agent))
            if access is not None:
                secrets = [*secrets, access.token]
            sink = TaskSink(
                event_log=self._event_log,
                task_id=task.id,
                output_bytes=self._settings.task_output_bytes,
                secrets=StreamRedactor(secrets),
                budget=budget,
                last_seq=last_seq,
                record_position=(
                    partial(self._record_position, task.id) if has_conversation else None
                ),
            )
            job = Job(
                task.id,
                goal,
                task.tools,
                self._workspaces.path(task.id),
                model=chosen.model,
                network=_requests(task, "network"),
                conversation=self._conversations.path(task.id) if has_conversation else None,
                chat=task.chat is not None,
                gateway=access,
                commands_use_gateway=_requests(task, "gateway"),
                user_id=task.user_id,
            )
            async with self._checkpoints.recording(task, sink):
                return await self._outcome(job, chosen, sink, budget)

    async def _record_position(self, task_id: int, seq: int) -> None:
        record = self._conversations.record_position
        await retry_on_shortage(partial(run_in_threadpool, record, task_id, seq))

    async def _outcome(
        self, job: Job, chosen: RunnerChoice, sink: TaskSink, budget: Budget
    ) -> tuple[Outcome, MsgError | None]:
        if job.commands_use_gateway and job.gateway is None:
            return _failure(
                "gateway", "the gateway is not available, because the server does not listen"
            )
        network_problem = self._sandbox.networks.problem(chosen.runner, requested=job.network)
        if network_problem is not None:
            return _failure("network", network_problem)
        runner = self._runners.choose(chosen.runner)
        is_agent = chosen.runner in ("acp", "command")
        if self._sandbox.networks.uses_host(chosen.runner, requested=job.network):
            await self._event_log.append(job.task_id, _warning(self._sandbox.networks.state))

        async def attempt() -> tuple[Outcome, MsgError | None]:
            try:
                async with self._files.reporting(job.work_dir, sink.emit_between_lines):
                    ended = await self._run_with_limits(
                        job, runner.run(job, sink), budget, is_agent=is_agent
                    )
                    sink.close_lines()
                await sink.flush()
                if ended[1] is None:  # the last step was not interrupted
                    await sink.record_position()
            except OutputLimitExceeded:
                limit = self._settings.task_output_bytes
                return _failure("output_limit", f"its output exceeds {limit:,} bytes")
            except (OSError, RuntimeError, ValueError, StorageError) as error:
                if is_shortage(error) and not sink.has_logged:
                    raise
                return _server_error(job.task_id, error)
            return ended

        # A run that could not start because of a shortage is repeated.
        return await retry_on_shortage(attempt)

    async def _run_with_limits(
        self, job: Job, run: Coroutine[Any, Any, Outcome], budget: Budget, *, is_agent: bool
    ) -> tuple[Outcome, MsgError | None]:
        quota = self._workspaces.quota(job.task_id) or self._sandbox.disk_space(job.work_dir)
        try:
            # The work_dir of a chat may be full already, and a short command may end before a scan.
            await quota.check()
        except BaseException as error:
            run.close()
            if isinstance(error, DiskQuotaExceeded):
                return _failure("quota", str(error))
            raise
        running = asyncio.ensure_future(run)
        guards = [asyncio.ensure_future(quota.enforce())]
        if is_agent and self._sandbox.kind == "bubblewrap":
            copies = agent_homes.enforce(self._settings, job.user_id)
            guards.append(asyncio.ensure_future(copies))
        try:
            seconds = await budget.begin()
            async with asyncio.timeout(seconds) as clock:
                await asyncio.wait([running, *guards], return_when=asyncio.FIRST_COMPLETED)
            for guard in guards:
                if guard.done():
                    guard.result()
            return running.result(), None
        except BudgetExceeded as error:
            return _failure("budget", str(error))
        except DiskQuotaExceeded as error:
            return _failure("quota", str(error))
        except TimeoutError as error:
            if seconds is None or not clock.expired():
                return _server_error(job.task_id, error)
            return _failure("budget", f"the limit of {format_limit('seconds', seconds)} is reached")
        finally:
            for started in (running, *guards):
                started.cancel()
            await asyncio.wait([running, *guards])
            quota.forget()


def _requests(task: Task, name: Literal["network", "gateway"]) -> bool:
    """Return True if a task requests access that its commands do not have by default."""
    return bool((task.limits or {}).get(name))


def _warning(network: NetworkState) -> MsgEventCustomUpdate:
    message = f"Warning: this task uses the {network}."
    payload = {"kind": "warning", "message": message}
    return MsgEventCustomUpdate(payload=payload, source="sandbox")


def _failure(code: str, reason: str) -> tuple[Outcome, MsgError]:
    problem = MsgError(code=code.upper(), details=f"The task was terminated: {reason}.")
    return Outcome("FAILED", code), problem


def _server_error(task_id: int, error: Exception) -> tuple[Outcome, MsgError]:
    log.error("a run failed with an error of the server", task_id=task_id, exc_info=error)
    return Outcome("FAILED", "error"), MsgError(
        code="RUNNER_FAILED", details=_public_message(error)
    )


def _public_message(error: Exception) -> str:
    """Return a message about an error of the server, without its paths."""
    if isinstance(error, OSError) and error.strerror:
        return f"The server could not run the task: {error.strerror}."
    return f"The server could not run the task ({type(error).__name__})."
