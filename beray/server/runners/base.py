"""Interface of runners: job, event sink, usage and outcome.

A runner executes the goal of one task. It emits events into a sink and has no access to the
database. It is stopped by cancellation: when ``run`` has returned or raised, no process of the
task may be alive.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from beray.events import Event
from beray.server.sandbox.network_policy import GatewayRelay


@dataclass(frozen=True, slots=True)
class GatewayAccess:
    """Access of a run to the gateway of its server, valid until the run ends."""

    url: str
    token: str = field(repr=False)
    socket: str | None = None
    """Unix socket through which sandboxed commands connect; they send the token, too."""

    @property
    def relay(self) -> GatewayRelay:
        """Return the access in the form that the sandbox expects."""
        return GatewayRelay(self.url, self.socket, self.token)


@dataclass(frozen=True, slots=True)
class Job:
    """Task or chat message for a runner."""

    task_id: int
    goal: str
    tools: list[dict[str, Any]] | None
    """MCP servers, each ``{"name": {"url": …}}``, ``{"name": {"command": …}}`` or
    ``{"name": {"server": …}}``."""
    work_dir: Path
    model: str | None = None
    """Requested model, such as ``openai:gpt-4o``; ``None``: the server's default."""
    network: bool = False
    """True if the task's shell commands may use the network."""
    conversation: Path | None = None
    """File with the messages of the task or chat so far; see ``chat_history``. None if its runner
    keeps none."""
    chat: bool = False
    """True for an answer in a chat."""
    gateway: GatewayAccess | None = None
    """Access to the gateway; ``None``: no access."""
    commands_use_gateway: bool = False
    """True if the task's commands have that access; otherwise only the run's prefab tools do."""
    user_id: int = 0
    """Owner of the task."""

    @property
    def relay(self) -> GatewayRelay | None:
        """Return the gateway access of the task's commands, None if they have none."""
        return self.gateway.relay if self.gateway and self.commands_use_gateway else None


@dataclass(frozen=True, slots=True)
class Usage:
    """Requests, tokens and cost of a run so far."""

    requests: int = 0
    input_tokens: int = 0
    """All input tokens, including those read from the provider's cache."""
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float | None = None
    """``None``: the price of the model is unknown."""
    estimated: bool = False
    """True if some token counts are estimates: an answer ended before the provider reported its
    usage."""

    @property
    def tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        known = self.cost_usd is not None or other.cost_usd is not None
        return Usage(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            (self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
            self.estimated or other.estimated,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """Final status of a run. The server logs it as the task's last event."""

    status: Literal["COMPLETED", "FAILED"]
    reason: str | None = None
    """Reason of a failure, such as ``exit_code``."""


class BudgetExceeded(Exception):
    """The budget of the task or the daily budget of its user is used up; the message names it."""


class Sink(Protocol):
    """Destination of the events and the usage of one run."""

    async def emit(self, event: Event, count: int = 1) -> None:
        """Log an event; return once it is on disk or queued for writing in order.

        If a text chunk has the field ``retracts``, that number of preceding events is retracted;
        see ``beray.streaming.retraction``.

        Args:
            event: The event.
            count: Number of events of the runner that were merged into this one.
        """

    async def charge(self, usage: Usage) -> None:
        """Report the usage so far, before each request to a model.

        Args:
            usage: Total of the run, not the difference to the last report.

        Raises:
            BudgetExceeded: The budget is used up, so no further request is allowed.
        """

    async def record(self, usage: Usage) -> None:
        """Report the total usage at the end of the run."""


class Runner(Protocol):
    """Executor of goals."""

    async def run(self, job: Job, sink: Sink) -> Outcome:
        """Execute the goal of a job.

        Raises:
            BudgetExceeded: ``Sink.charge`` raised it.
        """
