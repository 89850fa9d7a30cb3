"""Runs, and what depends on their kind: the interface between the executor and its policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from beray.events import Event, MsgUserMessage
from beray.server.storage.tables import Task
from beray.server.storage.tasks import UnfinishedTask

RunKind = Literal["goal", "answer"]
"""``goal``: the run of a task. ``answer``: the answer to a message of a chat."""
StopReason = Literal["user", "shutdown"]


def kind_of(task: Task | UnfinishedTask) -> RunKind:
    """Return the kind of a task's runs."""
    return "goal" if task.chat is None else "answer"


@dataclass(slots=True, eq=False, kw_only=True)
class Run:
    """One execution of a task's goal, or of the answer to a message.

    Attributes:
        kind: Kind of the run, which selects its policy and its slots.
        task_id: Id of the task.
        user_id: Owner of the task.
        position: Place among the waiting runs of its user, in ascending order; None: the last.
        message: Message of the user that starts the run. It is logged before the run waits.
        is_message_logged: Set by the policy once the message is in the log.
        goal: Goal that the policy has prepared from the message; None: the goal of the task.
    """

    kind: RunKind
    task_id: int
    user_id: int
    position: int | None = None
    message: MsgUserMessage | None = None
    is_message_logged: bool = False
    goal: str | None = None


@dataclass(frozen=True, kw_only=True)
class SlotLimits:
    """Limits of the runs of one kind.

    Attributes:
        slots: Maximum number of running runs.
        slots_per_user: Maximum number of running runs of one user; None means all slots.
        waiting_per_user: Maximum number of waiting runs of one user; None means no limit.
        noun: Plural noun for the runs in messages.
    """

    slots: int
    slots_per_user: int | None
    waiting_per_user: int | None = None
    noun: str = "tasks"


class RunPolicy(Protocol):
    """Part of a run's lifecycle that depends on its kind."""

    @property
    def limits(self) -> SlotLimits:
        """Limits of the runs of this kind."""

    @property
    def outlives_server(self) -> bool:
        """True if waiting runs remain for the next server; otherwise ``close`` stops them."""

    async def prepare(self, run: Run) -> None:
        """Log the message of a run, and set ``run.goal``, before the run waits for a slot.

        Called only for runs with a message.

        Raises:
            TaskClosed: The task has ended or was deleted.
        """

    async def execute(self, run: Run) -> Sequence[Event]:
        """Execute a run and return its last events. A cancellation ends all of its processes.

        Raises:
            TaskClosed: The task has ended or was deleted.
        """

    def stopped(self, run: Run, reason: StopReason) -> Sequence[Event]:
        """Return the last events of a run that was stopped."""

    def failed(self, run: Run) -> Sequence[Event]:
        """Return the last events of a run that failed with an error of the server."""

    def on_end(self, run: Run) -> None:
        """Handle the end of a run, whose last events are written."""

    async def stop_idle(self, task_id: int) -> bool:
        """Stop a task that has no run; return False if there is nothing to stop."""

    async def recover(self, tasks: Sequence[UnfinishedTask]) -> list[Run]:
        """Recover tasks that an earlier server has left unfinished.

        Returns:
            Runs to submit, in the order of ``tasks``. Interrupted runs are ended instead.
        """

    def subject(self, task_id: int) -> str:
        """Return the subject of messages about a run, such as "Task 5"."""
