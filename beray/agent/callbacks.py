"""Queue that runs the callbacks of an ``AgentApi`` in a task of their own.

Callbacks do not run in the task that reads the connection: a callback may take long, send a
message to the agent or close the connection, and would then wait for itself.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

Function = Callable[..., object]

DRAIN_SECONDS: Final = 5.0
"""Maximum time that closing a connection waits for callbacks."""

log = logging.getLogger("beray.agent")
_current_queue: ContextVar[CallbackQueue | None] = ContextVar("_current_queue", default=None)


def accepts_argument(function: Function) -> bool:
    """Return True if ``function`` can be called with one positional argument.

    True for callables whose signature cannot be inspected, such as some of C extensions, because
    published callbacks take an argument.
    """
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


class CallbackQueue:
    """Queue of calls of functions and coroutine functions, made one after another.

    Args:
        name: Name of the agent, for the log and the name of the task.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: deque[tuple[Function, tuple[Any, ...]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def add(self, function: Function, *arguments: Any) -> None:
        """Append a call to the queue; exceptions that it raises are logged."""
        self._calls.append((function, arguments))
        self._ensure_running()

    async def drain(self) -> None:
        """Wait until all calls are done, at most ``DRAIN_SECONDS``.

        Returns immediately if a callback of this queue calls it.
        """
        if _current_queue.get() is self:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_SECONDS
        while self._calls or self._is_running():
            self._ensure_running()
            assert self._task is not None
            await asyncio.wait([self._task], timeout=deadline - loop.time())
            if loop.time() >= deadline:
                log.warning(
                    "a callback of agent %s did not end within %g s", self._name, DRAIN_SECONDS
                )
                return

    def _is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    def _ensure_running(self) -> None:
        if not self._is_running():
            name = f"agent-{self._name}-callbacks"
            self._task = asyncio.get_running_loop().create_task(self._run(), name=name)
            self._task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        # A closing event loop cancels all tasks; queued calls then need a new one.
        if self._calls and not self._is_running():
            self._ensure_running()

    async def _run(self) -> None:
        _current_queue.set(self)
        while self._calls:
            function, arguments = self._calls.popleft()
            try:
                result = function(*arguments)
                if inspect.isawaitable(result):
                    await result
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise  # the event loop is ending, not the callback
                log.warning("a callback of agent %s was cancelled", self._name)
            except Exception:
                log.exception("a callback of agent %s failed", self._name)
