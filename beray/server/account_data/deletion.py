"""Deletion of accounts with their tasks, files, keys and objects.

An account is unusable as soon as its deletion is recorded. Its data is removed in the background,
the row of the account last; after a crash, the next server continues.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.server.http.errors import ApiHTTPError
from beray.server.objects.object_files import INPUTS, OUTPUTS, WORKSPACE
from beray.server.objects.store import ObjectStore
from beray.server.storage.accounts import AccountRepository
from beray.server.storage.database_errors import StorageError, error_text
from beray.server.storage.shortage import retry_on_shortage
from beray.server.storage.tables import Task
from beray.server.storage.tasks import TaskRepository
from beray.server.tasks.deletion import TaskDeletion
from beray.server.tasks.event_log import EventLog
from beray.server.tasks.executor import Executor

OBJECTS_PER_STEP: Final = 500
RETRY_SECONDS: Final = 30.0
"""Pause before a failed deletion is repeated."""
RESPONSE_SECONDS: Final = 10.0
"""Maximum wait of a request for the removal of the data, which then continues."""

log = structlog.get_logger("beray.accounts")


class AccountDeletion:
    """Removal of the data of deleted accounts. Used on one event loop, within ``running``.

    Args:
        accounts: Repository of accounts.
        tasks: Repository of tasks.
        executor: Executor, which stops running tasks.
        task_deletion: Deletion of tasks.
        event_log: Event log of the tasks.
        objects: Object store of the gateway.
        agent_homes: Directory with the agents' private directories of each user.
    """

    def __init__(
        self,
        *,
        accounts: AccountRepository,
        tasks: TaskRepository,
        executor: Executor,
        task_deletion: TaskDeletion,
        event_log: EventLog,
        objects: ObjectStore,
        agent_homes: Path,
    ) -> None:
        self._accounts = accounts
        self._tasks = tasks
        self._executor = executor
        self._task_deletion = task_deletion
        self._event_log = event_log
        self._objects = objects
        self._agent_homes = agent_homes
        self._changed = asyncio.Event()
        self._removed: dict[int, asyncio.Event] = {}

    async def remove_data(self, user_id: int) -> bool:
        """Remove the data of an account whose deletion is recorded.

        Returns:
            False if this takes longer than ``RESPONSE_SECONDS`` and continues in the background.
        """
        removed = self._removed.setdefault(user_id, asyncio.Event())
        self._changed.set()
        try:
            async with asyncio.timeout(RESPONSE_SECONDS):
                await removed.wait()
        except TimeoutError:
            return False
        return True

    async def stop_tasks(self, user_id: int) -> None:
        """Stop the running and waiting tasks of an account, and wait for the end of each."""
        for task in await run_in_threadpool(self._tasks.list_of_user, user_id):
            await self._stop(task)

    async def stop_tasks_of_disabled(self) -> None:
        """Stop the tasks of disabled and deleted accounts before a starting server resumes them.

        A running server stops them when it disables the account, but not the operator who
        disables an account of a stopped server.
        """
        for user_id in await run_in_threadpool(self._accounts.list_disabled):
            await self.stop_tasks(user_id)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Complete recorded deletions in the background, including those of earlier servers."""
        self._changed.set()
        worker = asyncio.create_task(self._work(), name="account-deletion")
        try:
            yield
        finally:
            worker.cancel()
            await asyncio.wait([worker])

    async def _work(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                deleted = await retry_on_shortage(
                    lambda: run_in_threadpool(self._accounts.list_deleted)
                )
                for user_id in deleted:
                    await self._remove(user_id)
            except (OSError, StorageError, ApiHTTPError) as error:
                problem = str(error) if isinstance(error, ApiHTTPError) else error_text(error)
                log.error(
                    "an account could not be removed completely; trying again",
                    problem=problem,
                    seconds=RETRY_SECONDS,
                )
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._changed.set)

    async def _remove(self, user_id: int) -> None:
        # A request that was authenticated before may still create a task or an object; the row is
        # removed only if there is none.
        while True:
            for task in await run_in_threadpool(self._tasks.list_of_user, user_id):
                await self._stop(task)
                await self._task_deletion.delete(task.id)
                self._event_log.forget(task.id)
            for kind in (INPUTS, OUTPUTS, WORKSPACE):
                await self._remove_objects(f"{kind}/{user_id}/")
            home = self._agent_homes / str(user_id)
            if await run_in_threadpool(home.exists):
                await run_in_threadpool(shutil.rmtree, home)
            if await run_in_threadpool(self._accounts.remove, user_id):
                break
        removed = self._removed.pop(user_id, None)
        if removed is not None:
            removed.set()

    async def _stop(self, task: Task) -> None:
        if self._executor.has_run(task.id) or task.ended_at is None:
            await self._executor.stop_and_wait(task)

    async def _remove_objects(self, prefix: str) -> None:
        while found := await self._objects.list(prefix, "", OBJECTS_PER_STEP):
            await self._objects.delete([stored.key for stored in found])
