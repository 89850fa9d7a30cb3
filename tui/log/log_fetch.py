"""What the log asks the server for, and the answers, of which only the last one counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from textual.containers import Vertical

from tui.io import background
from tui.log.messages import Answered, Refused

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from beray.schema import TaskEvent

_RETRY_SECONDS: Final = 3.0
"""How long after a failed fetch none is made for scrolling."""

T = TypeVar("T")


class Asking(Vertical):
    """Fetches events of one task."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._client: BeRayClient | None = None
        self._task_id: int | None = None
        self._generation = 0
        """Answers of an earlier generation are for what is not shown any more."""
        self._asked = False
        self._again_at = 0.0

    @property
    def task_id(self) -> int | None:
        return self._task_id

    def can_ask(self) -> bool:
        """Whether something may be fetched now that nobody has asked for."""
        return not self._asked and self._client is not None and time.monotonic() >= self._again_at

    def fetch(self, after: int, limit: int, then: Callable[[list[TaskEvent]], None]) -> None:
        """Get events of this task; a fetch that was asked for before is forgotten."""
        client, task_id = self._client, self._task_id
        if client is not None and task_id is not None:
            self.ask(lambda: client.list_events(task_id, after=after, limit=limit), then)

    def ask(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Do ``work`` in the background, and ``then`` here with what came of it."""
        self.forget_answers()
        self._asked = True
        generation = self._generation

        def worked() -> Answered:
            result = work()
            return Answered(generation, lambda: then(result))

        background.run(self, worked, lambda error: Refused(generation, error))

    def forget_answers(self) -> None:
        self._generation += 1
        self._asked = False

    def on_answered(self, message: Answered) -> None:
        message.stop()
        if message.generation == self._generation:
            self._asked = False
            message.then()

    def on_refused(self, message: Refused) -> None:
        message.stop()
        if message.generation == self._generation:
            self._asked = False
            self.refused(message.error)

    def refused(self, error: Exception) -> None:
        """What was asked for cannot be had."""
        self._again_at = time.monotonic() + _RETRY_SECONDS
