"""Access to work_dirs: runs and uploads may change one at the same time, a restore not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal


class RunActive(Exception):
    """A run uses the work_dir, so it cannot be restored."""


@dataclass(slots=True)
class _State:
    """Current users of one work_dir."""

    users: Counter[Literal["runs", "uploads"]] = field(default_factory=Counter)
    is_restored: bool = False
    waiting: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def is_unused(self) -> bool:
        """True if the state can be forgotten."""
        return not (self.users.total() or self.is_restored or self.waiting)


class WorkDirAccess:
    """Users of all work_dirs. Used on one event loop."""

    def __init__(self) -> None:
        self._states: dict[int, _State] = {}

    def run(self, task_id: int) -> AbstractAsyncContextManager[None]:
        """Use a work_dir for a run; wait until it is not being restored."""
        return self._shared(task_id, "runs")

    def upload(self, task_id: int) -> AbstractAsyncContextManager[None]:
        """Use a work_dir for an upload; wait until it is not being restored."""
        return self._shared(task_id, "uploads")

    @asynccontextmanager
    async def _shared(self, task_id: int, users: Literal["runs", "uploads"]) -> AsyncIterator[None]:
        async with self._entered(task_id) as state:
            await state.changed.wait_for(lambda: not state.is_restored)
            state.users[users] += 1
        try:
            yield
        finally:
            async with self._entered(task_id) as state:
                state.users[users] -= 1

    @asynccontextmanager
    async def restore(self, task_id: int) -> AsyncIterator[None]:
        """Use a work_dir alone; wait for uploads and other restores.

        Raises:
            RunActive: A run uses the work_dir.
        """
        async with self._entered(task_id) as state:
            await state.changed.wait_for(lambda: not state.is_restored)
            if state.users["runs"]:
                raise RunActive
            state.is_restored = True
            try:
                await state.changed.wait_for(lambda: not state.users["uploads"])
            except BaseException:
                state.is_restored = False
                raise
        try:
            yield
        finally:
            async with self._entered(task_id) as state:
                state.is_restored = False

    async def wait_restored(self, task_id: int) -> None:
        """Wait until a work_dir is not being restored."""
        async with self._entered(task_id) as state:
            await state.changed.wait_for(lambda: not state.is_restored)

    @asynccontextmanager
    async def _entered(self, task_id: int) -> AsyncIterator[_State]:
        """Yield the state with its lock held; notify the others at the end of the block."""
        state = self._states.setdefault(task_id, _State())
        state.waiting += 1
        try:
            async with state.changed:
                try:
                    yield state
                finally:
                    state.changed.notify_all()
        finally:
            state.waiting -= 1
            if state.is_unused:
                self._states.pop(task_id, None)
