"""Access to work_dirs: runs and uploads at the same time, restores alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from beray.server.tasks.work_dir_access import RunActive, WorkDirAccess

TASK = 1


@pytest.fixture
def access() -> WorkDirAccess:
    return WorkDirAccess()


class User:
    """Use of a work_dir in a task of the event loop.

    Attributes:
        entered: Set as soon as the work_dir is used.
    """

    def __init__(self, use: AbstractAsyncContextManager[None]) -> None:
        self.entered = asyncio.Event()
        self._leaving = asyncio.Event()
        self.work = asyncio.create_task(self._run(use))

    async def _run(self, use: AbstractAsyncContextManager[None]) -> None:
        async with use:
            self.entered.set()
            await self._leaving.wait()

    async def leave(self) -> None:
        """End the use."""
        self._leaving.set()
        await self.work

    async def cancel(self) -> None:
        """Cancel the use, or the wait for it."""
        self.work.cancel()
        await asyncio.wait([self.work])


async def waits(user: User) -> bool:
    """Return True if a use has not begun after everything that is ready has run."""
    for _ in range(20):
        await asyncio.sleep(0)
    return not user.entered.is_set()


@asynccontextmanager
async def used(*uses: AbstractAsyncContextManager[None]) -> AsyncIterator[list[User]]:
    """Begin uses one after the other; end them after the block."""
    users = [User(use) for use in uses]
    for user in users:
        await user.entered.wait()
    yield users
    for user in users:
        await user.leave()


async def test_runs_and_uploads_do_not_wait_for_each_other(access: WorkDirAccess) -> None:
    async with used(access.run(TASK), access.upload(TASK), access.upload(TASK), access.run(TASK)):
        pass


async def test_a_restore_is_refused_during_a_run(access: WorkDirAccess) -> None:
    async with used(access.upload(TASK), access.run(TASK)):
        with pytest.raises(RunActive):
            async with access.restore(TASK):
                raise AssertionError
    async with access.restore(TASK):
        pass


async def test_a_restore_waits_for_uploads(access: WorkDirAccess) -> None:
    first, second = User(access.upload(TASK)), User(access.upload(TASK))
    restore = User(access.restore(TASK))
    assert await waits(restore)
    later = User(access.upload(TASK))
    await first.leave()
    assert await waits(restore)
    assert await waits(later)  # otherwise uploads could delay a restore forever
    await second.leave()
    await restore.entered.wait()
    assert await waits(later)
    await restore.leave()
    await later.entered.wait()
    await later.leave()


@pytest.mark.parametrize("use", [WorkDirAccess.run, WorkDirAccess.upload, WorkDirAccess.restore])
async def test_everything_waits_for_a_restore(
    access: WorkDirAccess,
    use: Callable[[WorkDirAccess, int], AbstractAsyncContextManager[None]],
) -> None:
    async with used(access.restore(TASK)) as (restore,):
        other = User(use(access, TASK))
        assert await waits(other)
        ended = asyncio.create_task(access.wait_restored(TASK))
        await asyncio.sleep(0)
        assert not ended.done()
        await restore.leave()
        await other.entered.wait()
        await other.leave()
        await ended


async def test_a_run_that_waits_for_a_restore_refuses_the_next_one(access: WorkDirAccess) -> None:
    async with used(access.restore(TASK)) as (restore,):
        run = User(access.run(TASK))
        assert await waits(run)
        await restore.leave()
        await run.entered.wait()
        with pytest.raises(RunActive):
            async with access.restore(TASK):
                raise AssertionError
        await run.leave()


async def test_tasks_are_independent(access: WorkDirAccess) -> None:
    async with used(access.restore(1), access.run(2), access.restore(3), access.upload(4)):
        await access.wait_restored(2)


async def test_cancelled_waits_change_nothing(access: WorkDirAccess) -> None:
    upload = User(access.upload(TASK))
    await upload.entered.wait()
    restore = User(access.restore(TASK))
    assert await waits(restore)
    waiting = [User(access.upload(TASK)), User(access.run(TASK)), User(access.restore(TASK))]
    assert await waits(waiting[0])
    await waiting[2].cancel()
    # Without the restore that they wait for, the others begin at once.
    await restore.cancel()
    for user in waiting[:2]:
        await user.entered.wait()
        await user.leave()
    await upload.leave()
    async with access.restore(TASK):
        pass


async def test_uses_that_are_cancelled_or_fail_end(access: WorkDirAccess) -> None:
    for use in (access.run, access.upload, access.restore):
        user = User(use(TASK))
        await user.entered.wait()
        await user.cancel()
        with pytest.raises(ValueError, match="failed"):
            async with use(TASK):
                raise ValueError("failed")
    async with access.restore(TASK):
        pass
