"""Test application that contains only a log pane."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from textual.app import App, ComposeResult
from textual.pilot import Pilot

from tests.tui.dashboard_pilot import screen, until
from tests.tui.log_events import output, page
from tui import messages
from tui.events.event_buffer import EventBuffer
from tui.io.background import TaskStreamReader
from tui.log.messages import EventChanged, FileRequested, PositionChanged, StepRequested
from tui.log.pane import LogPane
from tui.state.checkpoints import LogPosition
from tui.theme import DARK


class PagesClient:
    """Stub client that returns events from a list."""

    def __init__(self, log: list[dict[str, Any]], refusal: Exception | None = None) -> None:
        self.log = log
        self.refusal = refusal
        self.asked: list[tuple[int, int]] = []

    def list_events(self, task_id: int, *, after: int = 0, limit: int = 500) -> Any:
        self.asked.append((after, limit))
        if self.refusal is not None:
            raise self.refusal
        return page(self.log, after, limit)


class LogApp(App[None]):
    """Application with a log pane that records the messages of the log."""

    CSS_PATH = "../../tui/app.tcss"

    def __init__(self) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
        self.position = ""
        self.files: list[str] = []
        self.steps: list[LogPosition | None] = []
        self.event: LogPosition | None = None
        self.failures: list[str] = []
        self.reader: TaskStreamReader | None = None

    def compose(self) -> ComposeResult:
        yield LogPane(id="events")

    @property
    def pane(self) -> LogPane:
        return self.query_one(LogPane)

    def on_step_requested(self, message: StepRequested) -> None:
        self.steps.append(message.step)

    def on_event_changed(self, message: EventChanged) -> None:
        self.event = message.position

    def on_position_changed(self, message: PositionChanged) -> None:
        self.position = message.text

    def on_file_requested(self, message: FileRequested) -> None:
        self.files.append(message.path)

    def on_operation_failed(self, message: messages.OperationFailed) -> None:
        self.failures.append(message.action)

    def watch(self, client: Any, task_id: int, last_seq: int | None) -> None:
        """Show a task of a real server, as the main screen does."""
        self.unwatch()
        buffer = EventBuffer(last_seq)
        self.pane.open(client, task_id, buffer)
        begin = str(buffer.start_after) if buffer.start_after else None
        self.reader = TaskStreamReader(client, task_id, self, begin)  # type: ignore[arg-type]

    def unwatch(self) -> None:
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    def on_events_waiting(self, message: messages.EventsWaiting) -> None:
        if self.reader is not None and message.task_id == self.reader.task_id:
            self.pane.append_events(self.reader.take())

    def on_unmount(self) -> None:
        self.unwatch()


def log_app(pilot: Pilot[None]) -> LogApp:
    assert isinstance(pilot.app, LogApp)
    return pilot.app


@asynccontextmanager
async def log_of(
    events: list[dict[str, Any]],
    *,
    size: tuple[int, int] = (80, 24),
    pageable: bool = True,
    refusal: Exception | None = None,
) -> AsyncIterator[tuple[Pilot[None], PagesClient]]:
    """Run the application with the end of a log, as after selecting its task."""
    client = PagesClient(events, refusal)
    async with LogApp().run_test(size=size) as pilot:
        buffer = EventBuffer(len(events) if pageable else None)
        pane = log_app(pilot).pane
        pane.open(client, 1, buffer)  # type: ignore[arg-type]
        pane.append_events(events[buffer.start_after :])  # type: ignore[arg-type]
        pane.view.focus()
        await until(pilot, lambda: not events or buffer.last_number == len(events))
        await pilot.pause()
        yield pilot, client


def rows_shown(pilot: Pilot[None]) -> list[str]:
    """Return the rows on the screen, without the scrollbar."""
    return [row[:-1].strip() for row in screen(pilot).split("\n")]


def top_row(pilot: Pilot[None]) -> str:
    return rows_shown(pilot)[0]


def more(number: int, count: int) -> Any:
    return [{**output(f"line {n}\n"), "seq": n} for n in range(number, number + count)]
