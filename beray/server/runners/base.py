"""What every runner is given, and what it gives back.

A runner does the goal of one task. It emits events into a sink and never touches the
store. It is stopped by cancellation: when ``run`` has returned or raised, no process
of the task may be alive.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from beray.events import Event


@dataclass(frozen=True, slots=True)
class Job:
    """The task, as far as it concerns whoever does it."""

    task_id: int
    goal: str
    tools: list[dict[str, Any]] | None
    work_dir: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended. The server logs it as the task's last event."""

    status: Literal["COMPLETED", "FAILED"]
    reason: str | None = None


class Sink(Protocol):
    async def emit(self, event: Event) -> None:
        """Log an event; returns once it is on disk."""


class Runner(Protocol):
    async def run(self, job: Job, sink: Sink) -> Outcome: ...
