"""Checkpoints of tasks: when the states of work_dirs are recorded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.events import MsgEventCustomUpdate
from beray.server.storage.database_errors import StorageError
from beray.server.storage.tables import Task
from beray.server.storage.tasks import TaskRepository
from beray.server.tasks.event_log import TaskClosed
from beray.server.tasks.event_sink import OutputLimitExceeded, TaskSink
from beray.server.tasks.work_dir_access import WorkDirAccess
from beray.server.workspace.history.errors import DamagedContent
from beray.server.workspace.history.file_contents import ScanCancelled
from beray.server.workspace.history.recorder import Recorded
from beray.server.workspace.history.scan import Problem
from beray.server.workspace.history.service import WorkDirHistory
from beray.server.workspace.safe_open import PathError
from beray.server.workspace.watcher import ChangedPaths, FileWatcher
from beray.transfers import wire_names

FULL_SCAN_EVERY: Final = 20
"""Number of checkpoints after which all files are compared, whatever the watcher has reported."""
UPLOAD_DELAY_SECONDS: Final = 1.0
"""Time after an upload in which further uploads become part of the same checkpoint."""
END_SECONDS: Final = 10.0
"""Maximum time of the last checkpoint of a run that was stopped."""
MAX_LISTED_PATHS: Final = 20
CONCURRENT_COLLECTIONS: Final = 2
"""Number of users whose unused contents are removed at the same time; each uses a thread."""

log = structlog.get_logger("beray.history")


class TaskCheckpoints:
    """Recording of the states of all work_dirs. Used on the event loop.

    Args:
        history: History of the work_dirs.
        tasks: Repository of tasks.
        files: Source of hints about changed files.

    Attributes:
        access: Access to work_dirs of runs, uploads and restores.
    """

    def __init__(
        self, *, history: WorkDirHistory, tasks: TaskRepository, files: FileWatcher
    ) -> None:
        self._history = history
        self._tasks = tasks
        self._files = files
        self.access = WorkDirAccess()
        self._runs: dict[int, RunCheckpoints] = {}
        self._uploads: dict[int, _PendingUploads] = {}
        self._collecting: dict[int, asyncio.Task[None]] = {}
        self._collections: dict[int, set[int | None]] = {}
        self._collectors = asyncio.Semaphore(CONCURRENT_COLLECTIONS)
        self._is_closing = False

    @asynccontextmanager
    async def recording(self, task: Task, sink: TaskSink) -> AsyncIterator[None]:
        """Record checkpoints of a run at its start, after its steps and at its end.

        Args:
            task: Task of the run.
            sink: Sink of the run's events, which reports the steps.
        """
        async with self.access.run(task.id):
            if not self._history.is_on:
                yield
                return
            # Uploads become part of the first checkpoint of the run.
            await self._end_uploads(task.id, discard=True)
            work_dir = self._history.work_dir(task.id)
            with self._files.collecting(work_dir) as changed:
                run = RunCheckpoints(
                    history=self._history, files=self._files, changed=changed, task=task, sink=sink
                )
                self._runs[task.id] = run
                try:
                    async with run.active():
                        sink.steps = run
                        yield
                finally:
                    del self._runs[task.id]
                    self.collect(task.user_id, ended=task.id)

    @asynccontextmanager
    async def uploading(self, task: Task) -> AsyncIterator[None]:
        """Write a file of the user into a work_dir in the block, and record it soon.

        Waits while the work_dir is being restored.
        """
        async with self.access.upload(task.id):
            yield
        if not self._history.is_on:
            return
        if (run := self._runs.get(task.id)) is not None:
            run.request_later(UPLOAD_DELAY_SECONDS)
        else:
            self._record_soon(task.id, "upload")

    def record_interrupted(self, tasks: Iterable[int]) -> None:
        """Record the work_dirs of tasks whose runs the end of an earlier server interrupted."""
        if self._history.is_on:
            for task_id in tasks:
                self._record_soon(task_id, "end")

    def _record_soon(self, task_id: int, reason: str) -> None:
        if (pending := self._uploads.get(task_id)) is not None:
            pending.is_requested = True
            return
        pending = self._uploads[task_id] = _PendingUploads(reason)
        pending.work = asyncio.create_task(
            self._record_uploads(task_id, pending), name=f"uploads-{task_id}"
        )

    async def settle(self, task_id: int) -> None:
        """Record the uploads that wait to be recorded."""
        await self._end_uploads(task_id)

    async def _end_uploads(self, task_id: int, *, discard: bool = False) -> None:
        """Wait until no uploads wait to be recorded, without the usual delay."""
        while (pending := self._uploads.get(task_id)) is not None:
            pending.is_requested = pending.is_requested and not discard
            pending.hurry.set()
            assert pending.work is not None
            await asyncio.wait([pending.work])

    async def _record_uploads(self, task_id: int, pending: _PendingUploads) -> None:
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(UPLOAD_DELAY_SECONDS):
                        await pending.hurry.wait()
                if not pending.is_requested:
                    return
                pending.is_requested = False
                await run_in_threadpool(self._record_idle, task_id, pending.reason)
        except (OSError, RuntimeError, StorageError, PathError, DamagedContent) as error:
            log.warning("uploads were not recorded", task_id=task_id, problem=str(error))
        finally:
            del self._uploads[task_id]

    def _record_idle(self, task_id: int, reason: str) -> None:
        task = self._tasks.get(task_id)
        if task is not None and task.started_at is not None:  # otherwise the start records them
            self._history.record(task_id, task.user_id, seq=task.last_seq, reason=reason)

    async def delete_of_task(self, task_id: int) -> None:
        """Delete the checkpoints of a deleted task, and their contents in the background."""
        user_id = await run_in_threadpool(self._history.delete_of_task, task_id)
        if user_id is not None:
            self.collect(user_id)

    def collect(self, user_id: int, *, ended: int | None = None) -> None:
        """Remove superfluous checkpoints and unused contents of a user in the background.

        Args:
            user_id: Id of the user.
            ended: Task whose run has ended; None if checkpoints were deleted.
        """
        if self._is_closing:
            return
        self._collections.setdefault(user_id, set()).add(ended)
        if user_id not in self._collecting:
            self._collecting[user_id] = asyncio.create_task(
                self._collect(user_id), name=f"history-{user_id}"
            )

    async def _collect(self, user_id: int) -> None:
        # Checkpoints that are deleted during a collection need another one.
        try:
            while (ended := self._collections.pop(user_id, None)) is not None:
                async with self._collectors:
                    if not self._is_closing:
                        await self._remove_unused(user_id, ended)
        finally:
            del self._collecting[user_id]  # at once, so that no request is lost

    async def _remove_unused(self, user_id: int, ended: Collection[int | None]) -> None:
        running = set(self._runs)
        try:
            if await run_in_threadpool(self._thin, user_id, ended, running) or None in ended:
                await run_in_threadpool(self._history.collect, user_id)
        except (OSError, RuntimeError, StorageError) as error:
            log.warning("unused content was not removed", user_id=user_id, problem=str(error))

    def _thin(self, user_id: int, ended: Collection[int | None], running: Collection[int]) -> bool:
        thinned = [self._history.thin(task) for task in ended if task is not None]
        return self._history.thin_user(user_id, running=running) or any(thinned)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Remove unused contents that an earlier server has left; end all work on leaving."""
        if self._history.is_on:
            for user_id in await run_in_threadpool(self._history.users):
                self.collect(user_id)
        try:
            yield
        finally:
            self._is_closing = True
            for task_id in list(self._uploads):
                await self.settle(task_id)
            # Work in threads cannot be interrupted, and is short.
            if self._collecting:
                await asyncio.wait(list(self._collecting.values()))


@dataclass(slots=True, eq=False)
class _PendingUploads:
    """Uploads into an idle work_dir, or other changes, that wait to be recorded.

    Attributes:
        reason: Occasion of the checkpoint.
        hurry: Ends the delay.
        is_requested: False while the uploads so far are being recorded.
        work: Task of the event loop that records them.
    """

    reason: str
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    is_requested: bool = True
    work: asyncio.Task[None] | None = None


class RunCheckpoints:
    """Checkpoints of one run, recorded one after the other.

    Args:
        history: History of the work_dirs.
        files: Source of hints about changed files.
        changed: Hints about the work_dir.
        task: Task of the run.
        sink: Sink of the run's events.
    """

    def __init__(
        self,
        *,
        history: WorkDirHistory,
        files: FileWatcher,
        changed: ChangedPaths,
        task: Task,
        sink: TaskSink,
    ) -> None:
        self._history = history
        self._files = files
        self._changed = changed
        self._task = task
        self._sink = sink
        self._requested: tuple[int, str] | None = None
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._cancelled = threading.Event()
        self._hinted = 0
        self._timers: set[asyncio.TimerHandle] = set()
        self._reports = True

    @asynccontextmanager
    async def active(self) -> AsyncIterator[None]:
        """Record the start, the requested steps, and the end of the block."""
        is_chat = self._task.chat is not None
        reason = "upload" if is_chat else "start"
        await self._record(self._sink.last_seq, reason, always=not is_chat, is_full=True)
        worker = asyncio.create_task(self._work(), name=f"checkpoints-{self._task.id}")
        try:
            yield
        except BaseException:
            # No event follows except the status.
            await self._finish(worker, reports=False)
            raise
        await self._finish(worker, reports=True)

    async def _finish(self, worker: asyncio.Task[None], *, reports: bool) -> None:
        self._reports = reports
        ending = asyncio.ensure_future(self._end(worker))
        try:
            done, _ = await asyncio.wait([ending], timeout=None if reports else END_SECONDS)
        except asyncio.CancelledError:
            self._reports = False
            self._cancelled.set()
            await asyncio.wait([ending])
            raise
        if not done:
            self._cancelled.set()
            await asyncio.wait([ending])

    async def _end(self, worker: asyncio.Task[None]) -> None:
        for timer in self._timers:
            timer.cancel()
        await self._settled.wait()
        worker.cancel()
        await asyncio.wait([worker])
        always = self._task.chat is None
        await self._record(self._sink.last_seq, "end", always=always, is_full=True)

    def step_ended(self, seq: int) -> None:
        """Request a checkpoint after the event ``seq``, which reports the end of a step."""
        self._request(seq, "step")

    def request_later(self, seconds: float) -> None:
        """Request a checkpoint of uploaded files after a time."""
        if not self._timers:
            loop = asyncio.get_running_loop()
            self._timers.add(loop.call_later(seconds, self._request_uploads))

    def _request_uploads(self) -> None:
        self._timers.clear()
        self._request(self._sink.last_seq, "upload")

    def _request(self, seq: int, reason: str) -> None:
        self._requested = (seq, reason)
        self._settled.clear()
        self._wake.set()

    async def settled(self) -> None:
        """Wait until the requested checkpoints are recorded."""
        await self._settled.wait()

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._requested is not None:
                seq, reason = self._requested
                self._requested = None
                await self._record(seq, reason)
            if self._requested is None:
                self._settled.set()

    async def _record(
        self,
        seq: int,
        reason: str,
        *,
        always: bool = False,
        is_full: bool = False,
    ) -> None:
        """Record a checkpoint and report it in the log; problems are reported and do not raise."""
        try:
            await self._try_to_record(seq, reason, always=always, is_full=is_full)
        except ScanCancelled:
            return
        except PathError:
            return  # the work_dir was removed
        except Exception as error:
            # Whatever the error is, the run continues.
            is_expected = isinstance(error, (OSError, StorageError, DamagedContent))
            self._changed.lose()
            log.warning(
                "a checkpoint was not recorded",
                task_id=self._task.id,
                error=str(error),
                exc_info=None if is_expected else error,
            )
            await self._report(_not_recorded(error))

    async def _try_to_record(self, seq: int, reason: str, *, always: bool, is_full: bool) -> None:
        is_complete = await self._files.synchronize()
        paths = self._changed.take(is_complete=is_complete)
        self._hinted += 1
        if is_full or self._hinted >= FULL_SCAN_EVERY:
            paths, self._hinted = None, 0
        record = partial(
            self._history.record,
            self._task.id,
            self._task.user_id,
            seq=seq,
            reason=reason,
            paths=paths,
            always=always,
            is_cancelled=self._cancelled.is_set,
        )
        try:
            recorded = await run_in_threadpool(record)
        except asyncio.CancelledError:
            self._cancelled.set()  # the thread ends soon
            raise
        if recorded is not None:
            if recorded.has_changes:
                await self._report(_checkpoint(recorded))
            if recorded.problems:
                await self._report(_not_stored(recorded.problems))

    async def _report(self, payload: dict[str, Any]) -> None:
        if not self._reports:
            return
        event = MsgEventCustomUpdate(payload=payload, source="history")
        try:
            await self._sink.emit_between_lines(event)
        except (TaskClosed, OutputLimitExceeded, StorageError) as error:
            # The run itself fails with the same problem at its next event.
            log.warning("a checkpoint was not reported", task_id=self._task.id, error=str(error))


def _checkpoint(recorded: Recorded) -> dict[str, Any]:
    row = recorded.checkpoint
    payload: dict[str, Any] = {
        "kind": "checkpoint",
        "checkpoint": f"c{row.number}",
        "seq": row.seq,
        "reason": row.reason,
        "added": row.added,
        "modified": row.modified,
        "deleted": row.deleted,
    }
    if row.lines_added is not None and row.lines_deleted is not None:
        payload |= {"lines_added": row.lines_added, "lines_deleted": row.lines_deleted}
    return payload


def _not_stored(problems: list[Problem]) -> dict[str, Any]:
    paths = [wire_names.encode(problem.path) for problem in problems[:MAX_LISTED_PATHS]]
    reasons = "; ".join(dict.fromkeys(problem.reason for problem in problems))
    message = f"The history does not have the content of some files: {reasons}."
    return {"kind": "not_stored", "message": message, "paths": paths, "count": len(problems)}


def _not_recorded(error: Exception) -> dict[str, Any]:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else None
    message = f"The state of the files was not recorded: {reason or type(error).__name__}."
    return {"kind": "not_recorded", "message": message}
