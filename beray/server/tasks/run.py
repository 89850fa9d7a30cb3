"""One run: a runner does a task's goal, within its limits, with its files watched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import structlog
from sqlalchemy.exc import SQLAlchemyError

from beray.events import MsgError, MsgEventCustomUpdate, TaskStatusChanged
from beray.server.runners import Chosen, Job, Outcome, Runners, agent_homes
from beray.server.runners.base import GatewayAccess, OverBudget
from beray.server.runtime.shortage import delays, is_shortage, patiently
from beray.server.sandbox.network_policy import NetworkState
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.storage.database_errors import is_full
from beray.server.storage.store import Store
from beray.server.storage.tables import Task
from beray.server.tasks import redaction
from beray.server.tasks.event_log import EventLog
from beray.server.tasks.event_sink import OutputLimit, TaskSink
from beray.server.tasks.redaction import SecretFilter
from beray.server.tasks.usage_limits import Budget
from beray.server.workspace.disk_quota import OverQuota
from beray.server.workspace.watcher import FileWatch
from beray.server.workspace.workspace import Workspaces

if TYPE_CHECKING:
    from beray.server.accounts.run_token import RunTokens  # which asks for services itself

log = structlog.get_logger("beray.runs")


class Runs:
    """Does tasks."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        event_log: EventLog,
        runners: Runners,
        workspaces: Workspaces,
        sandbox: Sandbox,
        files: FileWatch,
        access: RunTokens,
        has_prefabs: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._store = store
        self._event_log = event_log
        self._runners = runners
        self._workspaces = workspaces
        self._sandbox = sandbox
        self._files = files
        self._access = access
        self._has_prefabs = has_prefabs

    async def run(self, task: Task, goal: str | None = None) -> Outcome:
        """Do ``task``, or ``goal`` in it; what is wrong with it is said in its log.

        Cancelled, it leaves nothing of it running.

        Raises:
            TaskEnded: it takes no more events.
            SQLAlchemyError: its log cannot be written.
        """
        started = time.monotonic()
        await self._begin(task.id)
        budget = Budget(self._store, self._settings, task)
        try:
            outcome, problem = await self._with_access(task, goal or task.goal, budget)
        finally:
            await budget.spend(time.monotonic() - started)
        if problem is not None:
            await self._event_log.append(task.id, problem)
        return outcome

    async def _begin(self, task_id: int) -> None:
        """Log that a task runs; wait while the disk is full, instead of using up the queue."""
        for attempt, seconds in enumerate(delays()):
            try:
                await self._event_log.append(task_id, TaskStatusChanged(status="RUNNING"))
                return
            except SQLAlchemyError as error:
                if not is_full(error):
                    raise
            if not attempt:
                log.warning("a task waits for space on the disk", task_id=task_id)
            await asyncio.sleep(seconds)

    async def _with_access(
        self, task: Task, goal: str, budget: Budget
    ) -> tuple[Outcome, MsgError | None]:
        """How it ended, and what is to be said of it last."""
        # A task of an earlier version does not say who does it.
        chosen = self._runners.settle(task.runner, task.model, goal)
        async with AsyncExitStack() as closing:
            known, access = redaction.known(self._settings, task.tools), None
            if _asks_for(task, "gateway") or (chosen.runner == "model" and self._has_prefabs()):
                agent = f"task-{task.id}"
                access = await closing.enter_async_context(self._access.grant(task.user_id, agent))
            if access is not None:
                known = [*known, access.token]
            sink = TaskSink(
                self._event_log,
                task.id,
                output_bytes=self._settings.task_output_bytes,
                secrets=SecretFilter(known),
                budget=budget,
            )
            return await self._outcome(task, goal, chosen, access, sink, budget)

    async def _outcome(
        self,
        task: Task,
        goal: str,
        chosen: Chosen,
        access: GatewayAccess | None,
        sink: TaskSink,
        budget: Budget,
    ) -> tuple[Outcome, MsgError | None]:
        job = Job(
            task.id,
            goal,
            task.tools,
            self._workspaces.path(task.id),
            model=chosen.model,
            network=_asks_for(task, "network"),
            conversation=conversation_file(self._settings, task.id) if task.chat else None,
            gateway=access,
            commands_use_gateway=_asks_for(task, "gateway"),
            user_id=task.user_id,
        )
        if job.commands_use_gateway and access is None:
            return _failed("gateway", "the server does not listen, so it has no gateway")
        needs = self._sandbox.networks.problem(chosen.runner, asked=job.network)
        if needs is not None:
            return _failed("network", needs)
        runner = self._runners.choose(chosen.runner)
        is_agent = chosen.runner in ("acp", "command")
        if self._sandbox.networks.uses_host(chosen.runner, asked=job.network):
            await self._event_log.append(task.id, _warning(self._sandbox.networks.state))

        async def attempt() -> tuple[Outcome, MsgError | None]:
            try:
                async with self._files.telling(job.work_dir, sink.emit_aside):
                    ended = await self._bounded(
                        job, runner.run(job, sink), budget, is_agent=is_agent
                    )
                    sink.end_line()
                await sink.flush()
            except OutputLimit:
                most = self._settings.task_output_bytes
                return _failed("output_limit", f"its output is more than {most} bytes")
            except (OSError, RuntimeError, ValueError, SQLAlchemyError) as error:
                if is_shortage(error) and not sink.has_logged:
                    raise
                return _broken(task.id, error)
            return ended

        # A run that could not begin for want of a resource begins again.
        return await patiently(attempt)

    async def _bounded(
        self, job: Job, run: Coroutine[Any, Any, Outcome], budget: Budget, *, is_agent: bool
    ) -> tuple[Outcome, MsgError | None]:
        space = self._workspaces.space(job.task_id) or self._sandbox.disk_space(job.work_dir)
        try:
            # A chat's work_dir may be full already. Short commands would end unmeasured.
            await space.require_within()
        except BaseException as error:
            run.close()
            if isinstance(error, OverQuota):
                return _failed("quota", str(error))
            raise
        running = asyncio.ensure_future(run)
        guards = [asyncio.ensure_future(space.enforce())]
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
        except OverBudget as error:
            return _failed("budget", str(error))
        except OverQuota as error:
            return _failed("quota", str(error))
        except TimeoutError as error:
            if not clock.expired():
                return _broken(job.task_id, error)
            return _failed("budget", f"the limit is reached: {seconds:g} seconds")
        finally:
            for started in (running, *guards):
                started.cancel()
            await asyncio.wait([running, *guards])
            space.forget()


def _asks_for(task: Task, name: Literal["network", "gateway"]) -> bool:
    """Return True if a task asks for something that its commands do not have by themselves."""
    return bool((task.limits or {}).get(name))


def conversation_file(settings: Settings, task_id: int) -> Path:
    """Return the path of a chat's history; see ``chat_history``."""
    return settings.data_dir / "conversations" / f"{task_id:d}.jsonl"


def _warning(network: NetworkState) -> MsgEventCustomUpdate:
    message = f"Warning: this task uses the {network}."
    payload = {"kind": "warning", "message": message}
    return MsgEventCustomUpdate(payload=payload, source="sandbox")


def _failed(reason: str, why: str) -> tuple[Outcome, MsgError]:
    problem = MsgError(code=reason.upper(), details=f"The task was ended: {why}.")
    return Outcome("FAILED", reason), problem


def _broken(task_id: int, error: Exception) -> tuple[Outcome, MsgError]:
    log.error("a run broke", task_id=task_id, exc_info=error)
    return Outcome("FAILED", "error"), MsgError(code="RUNNER_FAILED", details=_public(error))


def _public(error: Exception) -> str:
    """What a user may read of an error of the server: its kind, not its paths."""
    if isinstance(error, OSError) and error.strerror:
        return f"The server could not run the task: {error.strerror}."
    return f"The server could not run the task ({type(error).__name__})."
