"""The sink of a run, with its failures told apart from those of tools and models."""

from __future__ import annotations

from beray.events import Event
from beray.server.runners.base import Sink, Usage


class SinkFailed(Exception):
    """The sink raised. Its exception is in ``error``, and ends the run, whoever was emitting."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Exit:
    """A ``Sink``. What the one behind it raises is raised as ``SinkFailed``.

    Attributes:
        emitted: Number of events so far.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.emitted = 0

    async def emit(self, event: Event, count: int = 1) -> None:
        self.emitted += count
        try:
            await self.sink.emit(event, count)
        except Exception as error:
            raise SinkFailed(error) from error

    async def charge(self, usage: Usage) -> None:
        try:
            await self.sink.charge(usage)
        except Exception as error:
            raise SinkFailed(error) from error

    async def record(self, usage: Usage) -> None:
        try:
            await self.sink.record(usage)
        except Exception as error:
            raise SinkFailed(error) from error
