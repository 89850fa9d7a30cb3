"""Requests for events of a log, of which only the latest one is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from beray.schema import TaskEvent
from tui.log.model.scan import PageReader
from tui.log.scheduler import Scheduler

_RETRY_DELAY_SECONDS: Final = 3.0
"""Delay after a failed request before scrolling starts another one."""

T = TypeVar("T")


class EventFetcher:
    """Fetcher of the events of one task, in the background.

    At most one request is pending. Starting another one discards the response of the first.

    Args:
        page_reader: Reads a page of events from the server.
        scheduler: Runs the requests.
        on_failure: Called if a request fails whose response was not discarded.

    Attributes:
        page_reader: May be replaced; pending requests keep the reader they were started with.
        is_busy: Whether a request is pending.
    """

    def __init__(
        self,
        *,
        page_reader: PageReader,
        scheduler: Scheduler,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self.page_reader = page_reader
        self.is_busy = False
        self._scheduler = scheduler
        self._on_failure = on_failure
        self._generation = 0
        """Number of the current request; responses to earlier requests are discarded."""
        self._retry_at = 0.0

    @property
    def is_ready(self) -> bool:
        """True if events may be fetched that the user has not explicitly requested."""
        return not self.is_busy and self._scheduler.now() >= self._retry_at

    def fetch(self, after: int, limit: int, on_result: Callable[[list[TaskEvent]], None]) -> None:
        """Fetch at most ``limit`` events after event ``after`` and pass them to ``on_result``."""
        self.request(lambda read_page: read_page(after, limit), on_result)

    def request(self, work: Callable[[PageReader], T], on_result: Callable[[T], None]) -> None:
        """Call ``work`` in the background and ``on_result`` with its result.

        Args:
            work: Is passed the page reader.
            on_result: Not called if the response is discarded or the request fails.
        """
        self.discard_responses()
        self.is_busy = True
        generation, read_page = self._generation, self.page_reader

        def succeeded(result: T) -> None:
            if generation == self._generation:
                self.is_busy = False
                on_result(result)

        def failed(error: Exception) -> None:
            if generation == self._generation:
                self.is_busy = False
                self._retry_at = self._scheduler.now() + _RETRY_DELAY_SECONDS
                self._on_failure(error)

        self._scheduler.run(lambda: work(read_page), succeeded, failed)

    def discard_responses(self) -> None:
        """Ignore the response to the pending request."""
        self._generation += 1
        self.is_busy = False
