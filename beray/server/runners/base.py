"""What every runner is given, and what it gives back.

A runner does the goal of one task. It emits events into a sink and never touches the
store. It is stopped by cancellation: when ``run`` has returned or raised, no process
of the task may be alive.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from beray.events import Event
from beray.server.sandbox.network_policy import GatewayRelay


@dataclass(frozen=True, slots=True)
class GatewayAccess:
    """How a run reaches the gateway of its server, as long as it lasts."""

    url: str
    token: str = field(repr=False)
    socket: str | None = None
    """Unix socket by which commands in a sandbox are connected; they send the token, too."""

    @property
    def relay(self) -> GatewayRelay:
        """Return what a command is started with to reach the gateway."""
        return GatewayRelay(self.url, self.socket, self.token)


@dataclass(frozen=True, slots=True)
class Job:
    """The task, as far as it concerns whoever does it."""

    task_id: int
    goal: str
    tools: list[dict[str, Any]] | None
    """MCP servers, each ``{"name": {"url": …}}``, ``{"name": {"command": …}}`` or
    ``{"name": {"server": …}}``."""
    work_dir: Path
    model: str | None = None
    """The model that the task asks for, such as ``openai:gpt-4o``; ``None``: the server's."""
    network: bool = False
    """Whether its shell commands may reach the network."""
    conversation: Path | None = None
    """File with the history of a chat for its model; None for a task. See ``chat_history``."""
    gateway: GatewayAccess | None = None
    """Access to the gateway; ``None``: the run has none."""
    commands_use_gateway: bool = False
    """Whether the task's commands get that access, too; its run may have it for prefabs only."""
    user_id: int = 0
    """The user whose task this is."""

    @property
    def relay(self) -> GatewayRelay | None:
        """Return what the task's commands are started with to reach the gateway."""
        return self.gateway.relay if self.gateway and self.commands_use_gateway else None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run has taken from a model's provider so far."""

    requests: int = 0
    input_tokens: int = 0
    """All of the input, what came out of the provider's cache among it."""
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float | None = None
    """``None``: the price of the model is not known."""
    estimated: bool = False
    """Some of the tokens were guessed: an answer was cut off before its provider told them."""

    @property
    def tokens(self) -> int:
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
    """How it ended. The server logs it as the task's last event."""

    status: Literal["COMPLETED", "FAILED"]
    reason: str | None = None


class OverBudget(Exception):
    """A limit of the task, or of its user's day, is reached; the text says which."""


class Sink(Protocol):
    async def emit(self, event: Event, count: int = 1) -> None:
        """Log an event; returns once it is on disk, or on its way there in order.

        A text chunk with the field ``retracts`` withdraws so many of the events before it; see
        ``beray.streaming.retraction``.

        Args:
            count: How many events of the runner were joined to this one.
        """

    async def charge(self, usage: Usage) -> None:
        """Say what the run has taken so far, before each request to a model.

        Raises:
            OverBudget: no further request may be made.
        """

    async def record(self, usage: Usage) -> None:
        """Say what the run has taken in all, at its end."""


class Runner(Protocol):
    async def run(self, job: Job, sink: Sink) -> Outcome:
        """Do the goal.

        Raises:
            OverBudget: as ``Sink.charge`` said.
        """
