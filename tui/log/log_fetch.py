"""Background requests of the log, of which only the latest one is used."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from textual.containers import Vertical

from tui.io import background
from tui.log.messages import FetchCompleted, FetchFailed

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from beray.schema import TaskEvent

_RETRY_DELAY_SECONDS: Final = 3.0
"""Delay after a failed request before scrolling starts another one."""

T = TypeVar("T")


class LogFetcher(Vertical):
    """Container that fetches events of one task in the background.

    At most one request is pending. Starting another one discards the response of the first.
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._client: BeRayClient | None = None
        self._task_id: int | None = None
        self._generation = 0
        """Number of the current request; responses to earlier requests are discarded."""
        self._fetching = False
        self._retry_at = 0.0

    @property
    def task_id(self) -> int | None:
        """Identifier of the task whose log is shown."""
        return self._task_id

    def can_fetch(self) -> bool:
        """Return True if events may be fetched that the user has not explicitly requested."""
        return (
            not self._fetching and self._client is not None and time.monotonic() >= self._retry_at
        )

    def fetch(self, after: int, limit: int, on_result: Callable[[list[TaskEvent]], None]) -> None:
        """Fetch at most ``limit`` events after event ``after`` and pass them to ``on_result``."""
        client, task_id = self._client, self._task_id
        if client is not None and task_id is not None:
            self.run_request(
                lambda: client.list_events(task_id, after=after, limit=limit), on_result
            )

    def run_request(self, work: Callable[[], T], on_result: Callable[[T], None]) -> None:
        """Call ``work`` in a background thread, then ``on_result`` with its result here."""
        self.discard_responses()
        self._fetching = True
        generation = self._generation

        def worked() -> FetchCompleted:
            result = work()
            return FetchCompleted(generation, lambda: on_result(result))

        background.run(self, worked, lambda error: FetchFailed(generation, error))

    def discard_responses(self) -> None:
        """Ignore the response to the pending request."""
        self._generation += 1
        self._fetching = False

    def on_fetch_completed(self, message: FetchCompleted) -> None:
        message.stop()
        if message.generation == self._generation:
            self._fetching = False
            message.apply()

    def on_fetch_failed(self, message: FetchFailed) -> None:
        message.stop()
        if message.generation == self._generation:
            self._fetching = False
            self.fetch_failed(message.error)

    def fetch_failed(self, error: Exception) -> None:
        """Handle the failure of the current request."""
        self._retry_at = time.monotonic() + _RETRY_DELAY_SECONDS
