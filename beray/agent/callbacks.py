"""What the user gave to be called, called one after another beside the connection.

Not by whoever reads the connection: a callback may take its time, say the next thing to the
agent, or close the connection, and none of these may wait for itself.
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
"""How long is waited, in the end, for callbacks that are running."""

log = logging.getLogger("beray.agent")
_inside: ContextVar[Callbacks | None] = ContextVar("_inside", default=None)


def takes_an_argument(function: Function) -> bool:
    """Return True if ``function`` can be called with one positional argument.

    A callable without an introspectable signature, as some of C extensions, counts as one that
    takes it: published callbacks do.
    """
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


class Callbacks:
    """Calls of functions and coroutine functions, in the order in which they were added."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: deque[tuple[Function, tuple[Any, ...]]] = deque()
        self._running: asyncio.Task[None] | None = None

    def add(self, function: Function, *arguments: Any) -> None:
        self._calls.append((function, arguments))
        self._run_on()

    async def drained(self) -> None:
        """Wait until all have been called; not from inside of one, and not for ever."""
        if _inside.get() is self:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_SECONDS
        while self._calls or self._runs():
            self._run_on()
            assert self._running is not None
            await asyncio.wait([self._running], timeout=deadline - loop.time())
            if loop.time() >= deadline:
                log.warning("a callback for agent %s does not end; it is left alone", self._name)
                return

    def _runs(self) -> bool:
        return self._running is not None and not self._running.done()

    def _run_on(self) -> None:
        if not self._runs():
            name = f"agent-{self._name}-callbacks"
            self._running = asyncio.get_running_loop().create_task(self._run(), name=name)
            self._running.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[None]) -> None:
        # The end of an event loop cancels all tasks, also one that has not begun yet.
        if self._calls and not self._runs():
            self._run_on()

    async def _run(self) -> None:
        _inside.set(self)
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
                log.warning("a callback for agent %s was cancelled", self._name)
            except Exception:
                log.exception("a callback for agent %s failed", self._name)
