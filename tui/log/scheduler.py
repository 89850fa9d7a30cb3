"""Time, timers and threads for the objects of the log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from textual.widget import Widget

from tui.io import background
from tui.log.messages import CallbackReady

T = TypeVar("T")


class Stoppable(Protocol):
    """Timer that can be stopped."""

    def stop(self) -> None:
        """Stop the timer."""


class Scheduler(Protocol):
    """Source of time and executor of delayed and blocking work.

    All callbacks are called in the event loop.
    """

    def now(self) -> float:
        """Return the time in seconds, of a clock that never goes back."""

    def call_after(self, seconds: float, callback: Callable[[], None]) -> Stoppable:
        """Call ``callback`` once."""

    def call_every(self, seconds: float, callback: Callable[[], None]) -> Stoppable:
        """Call ``callback`` repeatedly."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` in the event loop. This method may be called from any thread."""

    def run(
        self,
        work: Callable[[], T],
        on_result: Callable[[T], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Call ``work`` in a background thread.

        Args:
            work: May block.
            on_result: Called with the result of ``work``.
            on_error: Called with a ``BeRayException`` or ``OSError`` of ``work``.
        """


class WidgetScheduler:
    """Scheduler that uses the timers and the message queue of a widget.

    Args:
        widget: Must call the callback of a ``CallbackReady`` message.
    """

    def __init__(self, widget: Widget) -> None:
        self._widget = widget

    def now(self) -> float:
        """Return the time of the monotonic clock."""
        return time.monotonic()

    def call_after(self, seconds: float, callback: Callable[[], None]) -> Stoppable:
        """Call ``callback`` once, unless the widget is removed before."""
        return self._widget.set_timer(seconds, callback)

    def call_every(self, seconds: float, callback: Callable[[], None]) -> Stoppable:
        """Call ``callback`` repeatedly until the widget is removed."""
        return self._widget.set_interval(seconds, callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call ``callback``, unless the widget was removed."""
        background.deliver(self._widget, CallbackReady(callback))

    def run(
        self,
        work: Callable[[], T],
        on_result: Callable[[T], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Call ``work`` in a daemon thread. The result is dropped if the widget was removed."""

        def worked() -> CallbackReady:
            result = work()
            return CallbackReady(lambda: on_result(result))

        background.run(self._widget, worked, lambda error: CallbackReady(lambda: on_error(error)))
