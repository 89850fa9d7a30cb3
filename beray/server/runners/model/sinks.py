"""Sink wrapper that distinguishes failures of the sink from those of tools and models."""

from __future__ import annotations

from beray.events import Event
from beray.server.runners.base import Sink, Usage


class SinkFailed(Exception):
    """The sink raised an exception, which ends the run in whatever code it occurs.

    Attributes:
        error: The exception of the sink.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class WrappedSink:
    """Sink that raises ``SinkFailed`` if the wrapped sink raises an exception.

    Attributes:
        sink: The wrapped sink.
        emitted: Number of events so far.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.emitted = 0

    async def emit(self, event: Event, count: int = 1) -> None:
        """Emit and count an event."""
        self.emitted += count
        try:
            await self.sink.emit(event, count)
        except Exception as error:
            raise SinkFailed(error) from error

    async def charge(self, usage: Usage) -> None:
        """Report the usage so far."""
        try:
            await self.sink.charge(usage)
        except Exception as error:
            raise SinkFailed(error) from error

    async def record(self, usage: Usage) -> None:
        """Report the total usage."""
        try:
            await self.sink.record(usage)
        except Exception as error:
            raise SinkFailed(error) from error
