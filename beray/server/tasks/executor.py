"""Executor of runs: the goals of tasks, and the answers of chats.

All runs have one lifecycle:

    submit -> PREPARING -> WAITING -> RUNNING -> ENDING

A run with a message is prepared: its message is logged. Then it waits for a slot of its kind; the
users take turns. The last events of a run are written in any case, unless its task has ended or was
deleted. What depends on the kind of a run is defined by its ``RunPolicy``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from itertools import count
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.events import Event
from beray.server.http.errors import ApiHTTPError
from beray.server.runtime.fair_queue import FairQueue, QueueFull
from beray.server.storage.tables import Task
from beray.server.storage.tasks import UnfinishedTask
from beray.server.tasks.end_writer import EndWriter
from beray.server.tasks.event_log import TaskClosed
from beray.server.tasks.run_policy import (
    Run,
    RunKind,
    RunPolicy,
    SlotLimits,
    StopReason,
    kind_of,
)

STOP_SECONDS: Final = 20.0
"""Maximum time that ``stop_and_wait`` waits for the end of a run."""
STOP_RETRY_SECONDS: Final = 2

log = structlog.get_logger("beray.queue")


class RunActive(Exception):
    """The task has a run that has not ended."""


class ExecutorClosed(Exception):
    """The server stops, and runs of this kind do not remain for the next server."""


class Executor:
    """Waiting and running runs, at most one per task. Used on one event loop, until ``close``.

    Args:
        policies: Policy of each kind of runs.
        end_writer: Writer of the last events.
        unfinished_tasks: Returns a page of the tasks that a starting server has to recover, after
            an id, in ascending order. Called in threads.
    """

    def __init__(
        self,
        *,
        policies: Mapping[RunKind, RunPolicy],
        end_writer: EndWriter,
        unfinished_tasks: Callable[[int], Sequence[UnfinishedTask]],
    ) -> None:
        self._policies = policies
        self._pools = {kind: _SlotPool(policy.limits) for kind, policy in policies.items()}
        self._end_writer = end_writer
        self._unfinished_tasks = unfinished_tasks
        self._active: dict[int, _ActiveRun] = {}
        self._closing = False

    @property
    def idle(self) -> bool:
        """True if no run is waiting or running."""
        return not self._active

    async def recover(self) -> None:
        """Recover the tasks of an earlier server: interrupted runs end, queued tasks run."""
        after = 0
        while tasks := await run_in_threadpool(self._unfinished_tasks, after):
            for kind, policy in self._policies.items():
                for run in await policy.recover([task for task in tasks if kind_of(task) == kind]):
                    self._pools[kind].add(self._register(run))
            after = tasks[-1].id
        for pool in self._pools.values():
            self._start_waiting(pool)

    def submit(self, run: Run) -> None:
        """Execute a run as soon as a slot is free.

        Raises:
            ExecutorClosed: The server stops, and the run would not remain for the next one.
            RunActive: The task has a run that has not ended.
            QueueFull: The user has reached the limit of waiting runs.
        """
        if self._closing and not self._policies[run.kind].outlives_server:
            raise ExecutorClosed(f"a run of task {run.task_id} cannot start")
        if run.task_id in self._active:
            raise RunActive(f"task {run.task_id} has an active run")
        self._pools[run.kind].require_place(run.user_id)
        active = self._register(run)
        if run.message is None:
            self._enqueue(active)
        else:
            active.stage = _Stage.PREPARING
            self._continue(active)

    async def stop(self, task: Task) -> bool:
        """Stop the run of a task without waiting for the end of its processes.

        A task without processes is stopped on return, or as soon as its log can be written.

        Returns:
            False if there is nothing to stop.
        """
        active = self._active.get(task.id)
        if active is None:
            return await self._policies[kind_of(task)].stop_idle(task.id)
        was_waiting = active.stage is _Stage.WAITING
        self._request_stop(active, "user")
        if was_waiting and active.work is not None:
            await asyncio.wait([active.work])
        return True

    async def stop_and_wait(self, task: Task) -> None:
        """Stop the run of a task and wait until its processes have ended.

        Raises:
            ApiHTTPError: The stop takes longer than ``STOP_SECONDS`` (503).
        """
        active = self._active.get(task.id)
        await self.stop(task)
        if active is None:
            return
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await active.ended.wait()
        except TimeoutError:
            subject = self._policies[active.run.kind].subject(task.id)
            message = f"{subject} is still being stopped; try again."
            raise ApiHTTPError(503, message, STOP_RETRY_SECONDS) from None

    def has_run(self, task_id: int) -> bool:
        """Return True if a run of the task has not ended."""
        return task_id in self._active

    async def wait_ended(self, task_id: int, *, only_ending: bool = False) -> None:
        """Wait until the run of a task has ended. Returns immediately if the task has no run.

        Args:
            task_id: Id of the task.
            only_ending: Wait only if the last events of the run are being written.
        """
        active = self._active.get(task_id)
        if active is not None and (active.stage is _Stage.ENDING or not only_ending):
            await active.ended.wait()

    async def close(self) -> None:
        """Stop the runs and wait for their ends. Idempotent.

        Waiting runs whose kind outlives the server remain for the next server.
        """
        self._closing = True
        for active in list(self._active.values()):
            is_waiting = active.stage is _Stage.WAITING and active.stop_reason is None
            if not (is_waiting and self._policies[active.run.kind].outlives_server):
                self._request_stop(active, "shutdown")
        stopping = [active for active in self._active.values() if active.work is not None]
        for active in stopping:
            await active.ended.wait()

    # Stages of a run

    def _register(self, run: Run) -> _ActiveRun:
        self._pools[run.kind].members[run.user_id] += 1
        active = self._active[run.task_id] = _ActiveRun(run)
        return active

    def _enqueue(self, active: _ActiveRun) -> None:
        active.stage = _Stage.WAITING
        active.work = None
        pool = self._pools[active.run.kind]
        pool.add(active)
        self._start_waiting(pool)

    def _start_waiting(self, pool: _SlotPool) -> None:
        while not self._closing and (active := pool.take()) is not None:
            active.stage = _Stage.RUNNING
            active.holds_slot = True
            self._continue(active)

    def _request_stop(self, active: _ActiveRun, reason: StopReason) -> None:
        # A second cancellation would interrupt the cleanup of the first, and a late one would
        # interrupt the writing of the end.
        if active.stop_reason is not None or active.stage is _Stage.ENDING:
            return
        active.stop_reason = reason
        if active.stage is _Stage.WAITING:
            self._pools[active.run.kind].remove(active)
            self._continue(active)
        elif active.is_started and active.work is not None:
            active.work.cancel()
        # Otherwise the work finds the reason at its start. Cancelled earlier, it would not run.

    def _continue(self, active: _ActiveRun) -> None:
        """Start the work of a run in its current stage."""
        run = active.run
        active.is_started = False
        active.work = asyncio.create_task(self._work(active), name=f"{run.kind}-{run.task_id}")
        active.work.add_done_callback(partial(self._on_work_done, active))

    async def _work(self, active: _ActiveRun) -> None:
        """Prepare or execute a run. Unless it is prepared successfully, end it."""
        run, policy = active.run, self._policies[active.run.kind]
        active.is_started = True
        events: Sequence[Event]
        try:
            if active.stop_reason is not None:
                raise asyncio.CancelledError
            if active.stage is _Stage.PREPARING:
                await policy.prepare(run)
                return
            await self._end_writer.wait_written(run.task_id)
            events = await policy.execute(run)
        except asyncio.CancelledError:
            events = policy.stopped(run, active.stop_reason or "shutdown")
        except TaskClosed:
            active.stage = _Stage.ENDING
            return
        except Exception as error:
            # Whatever the error is, the task must have an end.
            log.error(
                "a run failed with an error of the server", task_id=run.task_id, exc_info=error
            )
            events = policy.failed(run)
        # From now on, the run cannot be stopped.
        active.stage = _Stage.ENDING
        if run.message is not None and not run.is_message_logged:
            events = [run.message, *events]
        await self._end_writer.write(run.task_id, events)
        policy.on_end(run)

    def _on_work_done(self, active: _ActiveRun, work: asyncio.Task[None]) -> None:
        if not work.cancelled() and (error := work.exception()) is not None:
            log.error("the end of a run was not logged", task_id=active.run.task_id, exc_info=error)
        if active.stage is not _Stage.PREPARING or work.cancelled():
            self._remove(active)
        elif active.stop_reason is None:
            self._enqueue(active)
        else:  # stopped after the last step of the preparation
            self._continue(active)

    def _remove(self, active: _ActiveRun) -> None:
        pool = self._pools[active.run.kind]
        pool.discard(active)
        del self._active[active.run.task_id]
        active.ended.set()
        self._start_waiting(pool)


class _Stage(Enum):
    PREPARING = auto()
    WAITING = auto()
    RUNNING = auto()
    ENDING = auto()


@dataclass(slots=True, eq=False)
class _ActiveRun:
    """State of a run that has not ended.

    Attributes:
        work: Task of the event loop for the current stage; None while the run waits for a slot.
        is_started: Whether ``work`` has taken its first step.
    """

    run: Run
    stage: _Stage = _Stage.WAITING
    stop_reason: StopReason | None = None
    work: asyncio.Task[None] | None = None
    is_started: bool = False
    holds_slot: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class _SlotPool:
    """Slots of the runs of one kind, and the runs that wait for them.

    Attributes:
        members: Number of runs by user. They count from their submission to their end.
    """

    def __init__(self, limits: SlotLimits) -> None:
        self.members: Counter[int] = Counter()
        self._limits = limits
        self._queue = FairQueue(limits.slots, limits.slots_per_user)
        self._waiting: dict[int, _ActiveRun] = {}
        self._positions = count()

    def require_place(self, user_id: int) -> None:
        """Check that one more run of the user may wait.

        Raises:
            QueueFull: This would exceed the limit.
        """
        limit = self._limits.waiting_per_user
        waiting = self.members.get(user_id, 0) - self._queue.used(user_id)
        if limit is not None and waiting >= limit:
            raise QueueFull(self._limits.noun, limit)

    def add(self, active: _ActiveRun) -> None:
        """Add a waiting run."""
        run = active.run
        if run.position is None:
            run.position = next(self._positions)
        self._waiting[run.position] = active
        self._queue.add(run.user_id, run.position)

    def remove(self, active: _ActiveRun) -> None:
        """Remove a waiting run."""
        assert active.run.position is not None
        self._queue.remove(active.run.position)
        del self._waiting[active.run.position]

    def take(self) -> _ActiveRun | None:
        """Return the next run, which then uses a slot; None if no run can have one."""
        taken = self._queue.take()
        return None if taken is None else self._waiting.pop(taken[1])

    def discard(self, active: _ActiveRun) -> None:
        """Release the slot of a run that has ended, if it has one, and stop counting the run."""
        user_id = active.run.user_id
        if active.holds_slot:
            self._queue.release(user_id)
        self.members[user_id] -= 1
        if not self.members[user_id]:
            del self.members[user_id]
