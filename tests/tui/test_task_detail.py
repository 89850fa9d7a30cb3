"""Tests of the selected task's stream and files, without an application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.message import Message

from beray.exceptions import APIError, AuthenticationError, NotFoundError
from beray.schema import FileItem, FilePage
from beray.streaming.streams import StreamState
from beray.testing import RunningServer, access_token
from tests.support import until
from tests.tui import dashboard_stub as stub
from tests.tui.controller_fakes import Surroundings
from tui import messages
from tui.controllers.files import FilesController
from tui.controllers.task_checkpoints import TaskCheckpoints
from tui.controllers.task_detail import TaskDetail
from tui.state.file_listing import ROOT


class FakeLog:
    """Log that records the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.events: list[Any] = []
        self.clients: list[Any] = []

    def open(self, client: Any, task_id: int, buffer: Any, *, chat: bool = False) -> None:
        self.calls.append(("open", task_id, chat))
        self.events = []

    def leave(self) -> None:
        self.calls.append(("leave",))

    def append_events(self, events: Any) -> None:
        self.events += events

    def show_failure(self, text: str) -> None:
        self.calls.append(("failure", text))

    def use_client(self, client: Any) -> None:
        self.clients.append(client)


class FakeFiles:
    """Files that record what they show."""

    def __init__(self) -> None:
        self.selected_file: str | None = "q1.csv"
        self.is_large = False
        self.calls: list[tuple[Any, ...]] = []

    def open_folders(self) -> dict[str, int]:
        return {}

    def __getattr__(self, name: str) -> Any:
        return lambda *values: self.calls.append((name, *values))


class Detail:
    """Controllers of the selected task around a client."""

    def __init__(self, client: Any, folder: Path) -> None:
        self.around = around = Surroundings(client, folder)
        self.log, self.view = FakeLog(), FakeFiles()
        self.files_shown = False
        self.states: list[str | None] = []
        self.checkpoints = TaskCheckpoints(
            tasks=around.tasks, server=around.server, target=around.target
        )
        self.files = FilesController(
            tasks=around.tasks,
            server=around.server,
            target=around.target,
            set_timer=around.timers.set_timer,
            failures=around.failures,
            is_shown=lambda: self.files_shown,
            checkpoints=self.checkpoints,
            on_change=lambda: self.states.append(self.files.at),
        )
        self.detail = TaskDetail(
            tasks=around.tasks,
            server=around.server,
            log=lambda: self.log,
            files=self.files,
            checkpoints=self.checkpoints,
            target=around.target,
            set_timer=around.timers.set_timer,
            failures=around.failures,
            clock=lambda: stub.NOW,
            on_change=around.on_change,
        )

    def show_files(self) -> None:
        self.files.view = self.view  # type: ignore[assignment]
        self.files_shown = True

    def read(self, task_id: int, count: int) -> None:
        """Process the events of the stream until the log has ``count`` of them."""

        def has_all() -> bool:
            self.detail.take_events(task_id)
            return len(self.log.events) == count

        until(has_all)


@pytest.fixture
def detail(tmp_path: Path) -> Iterator[Detail]:
    client = stub.full_client()
    client.events[9] = [stub.text("one"), stub.text("two")]
    client.events[7] = [stub.event("TASK_STATUS", status="COMPLETED", seq=1)]
    made = Detail(client, tmp_path)
    made.around.know(*stub.TASKS, stub.CHAT)
    yield made
    made.detail.close()
    made.around.user_state.close()


# The stream


def test_the_stream_is_opened_when_the_cursor_rests_on_a_task(detail: Detail) -> None:
    opened: list[int] = []
    client: Any = detail.around.server.client
    stream_task_updates = client.stream_task_updates
    client.stream_task_updates = lambda task_id, **options: (
        opened.append(task_id) or stream_task_updates(task_id, **options)
    )
    for task_id in (12, 10, 9):
        detail.detail.select(task_id)
    assert opened == [] and len(detail.around.timers.waiting) == 1
    detail.around.timers.fire()
    detail.read(9, 2)
    assert opened == [9]
    assert detail.log.calls == [("open", 12, False), ("open", 10, False), ("open", 9, False)]
    detail.detail.select(9)  # it is selected already
    assert opened == [9]


def test_only_the_stream_of_the_selected_task_is_read(detail: Detail) -> None:
    closed: list[int] = []
    client: Any = detail.around.server.client

    def stream_task_updates(task_id: int, **options: Any) -> stub.StubStream:
        stream = stub.StubStream(client.events[task_id], options["on_state"], StreamState.LIVE)
        close = stream.close
        stream.close = lambda: closed.append(task_id) or close()  # type: ignore[method-assign,func-returns-value]
        return stream

    client.stream_task_updates = stream_task_updates
    detail.detail.select(12, settle=False)
    detail.read(12, len(stub.EVENTS))
    assert detail.log.events == stub.EVENTS
    detail.detail.select(9, settle=False)
    assert closed == [12] and detail.log.events == []
    # Messages about the task that was selected before are dropped.
    changes = detail.around.changes
    detail.detail.take_events(12)
    detail.detail.stream_changed(messages.StreamChanged(12, StreamState.ENDED, 0.0))
    detail.detail.stream_failed(messages.StreamFailed(12, NotFoundError("gone", status_code=404)))
    assert detail.log.events == [] and detail.around.changes == changes
    detail.read(9, 2)
    assert [event["text"] for event in detail.log.events] == ["one", "two"]


def test_leaving_the_list_closes_the_log(detail: Detail) -> None:
    detail.detail.select(13)
    assert detail.log.calls == [("open", 13, True)]
    detail.detail.select(None)
    assert detail.log.calls[-1] == ("leave",)
    assert detail.around.tasks.selected is None and detail.around.timers.waiting == []


def test_the_end_of_the_stream_ends_the_task(detail: Detail) -> None:
    detail.detail.select(7, settle=False)
    detail.read(7, 1)
    ended = detail.around.target.next(messages.TaskEnded)
    assert (ended.task_id, ended.event["status"]) == (7, "COMPLETED")


def test_a_failed_stream_is_shown_in_the_log(detail: Detail) -> None:
    client: Any = detail.around.server.client
    client.events[10] = NotFoundError("no such task", status_code=404)
    detail.detail.select(10, settle=False)
    detail.detail.stream_failed(detail.around.target.next(messages.StreamFailed))
    selected = detail.around.tasks.selected
    assert selected is not None and selected.stream is StreamState.ENDED
    assert selected.failure and detail.log.calls[-1] == ("failure", selected.failure)


def test_a_stream_that_the_old_session_could_not_read_is_read_in_the_next(detail: Detail) -> None:
    client: Any = detail.around.server.client
    client.events[10] = AuthenticationError("no", status_code=401)
    detail.detail.select(10, settle=False)
    detail.detail.stream_failed(detail.around.target.next(messages.StreamFailed))
    detail.around.target.next(messages.SessionEnded)
    assert ("failure", "no") not in detail.log.calls
    new: Any = stub.StubClient()
    new.events = {10: [stub.text("at last")]}
    detail.around.server.replace(detail.around.server.target, new)
    detail.detail.client_replaced()
    assert detail.log.clients == [new] and detail.log.calls[-1] == ("failure", "")
    detail.read(10, 1)
    assert [event["text"] for event in detail.log.events] == ["at last"]
    selected = detail.around.tasks.selected
    assert selected is not None and selected.failure == ""


def test_the_stream_goes_on_after_its_last_event_with_another_client(
    beray_server: RunningServer, tmp_path: Path
) -> None:
    with beray_server.sign_up() as client, beray_server.client() as second:
        token = access_token(client)
        second.set_token(token)
        task = client.create_task("!echo one; until [ -e go ]; do sleep 0.02; done; echo two")
        made = Detail(client, tmp_path)
        made.around.know(task)
        made.detail.select(task["id"], settle=False)

        def output() -> list[str]:
            made.detail.take_events(task["id"])
            return "".join(event.get("text", "") for event in made.log.events).split()

        until(lambda: output() == ["one"])
        made.around.server.replace(made.around.server.target, second)
        made.detail.client_replaced()
        client.upload_file(task["id"], "go", b"")
        until(lambda: output() == ["one", "two"])
        made.detail.close()
        made.around.user_state.close()


# The files


def test_files_are_read_once_some_time_after_events_that_change_them(detail: Detail) -> None:
    sent = stub.event("AGENT_EVENT_SEND_FILE", path="a")
    detail.detail.select(9, settle=False)
    detail.files.events_received([sent])  # type: ignore[list-item]
    assert not detail.files.is_due, "they are not shown"
    detail.show_files()
    detail.files.events_received([stub.text("x")])  # type: ignore[list-item]
    assert not detail.files.is_due
    for _ in range(3):
        detail.files.events_received([sent])  # type: ignore[list-item]
    assert detail.files.is_due and len(detail.around.timers.waiting) == 1
    detail.around.timers.fire()
    assert not detail.files.is_due
    arrived = detail.around.target.next(messages.FilesArrived)
    detail.files.files_arrived(arrived)
    name, listing = detail.view.calls[-1]
    assert name == "show" and [item["path"] for item in listing.folders[ROOT].items] == [
        "data",
        "summary.md",
    ]


def test_results_for_another_task_are_dropped(detail: Detail) -> None:
    detail.show_files()
    detail.detail.select(9)
    detail.files.read()
    detail.files.read_preview("summary.md")
    detail.files.read_folder("data", None)
    files = detail.around.target.next(messages.FilesArrived)
    detail.detail.select(10)
    assert detail.view.calls == [("forget",), ("forget",)]
    error = NotFoundError("gone", status_code=404)
    detail.files.files_arrived(files)
    detail.files.files_failed(messages.FilesFailed(9, error))
    detail.files.folder_failed(messages.FolderFailed(9, "data", error))
    detail.files.preview_failed(messages.PreviewFailed(9, "a", error))
    assert len(detail.view.calls) == 2
    detail.files.preview_failed(messages.PreviewFailed(10, "a", error))
    detail.files.folder_failed(messages.FolderFailed(10, "data", error))
    detail.files.files_failed(messages.FilesFailed(10, error))
    assert detail.view.calls[2:] == [
        ("preview_refused", "a", error),
        ("page_refused", "data", error),
        ("refused", error),
    ]


def test_an_ended_session_is_reported_instead_of_unreadable_files(detail: Detail) -> None:
    detail.show_files()
    detail.detail.select(9)
    detail.files.files_failed(messages.FilesFailed(9, AuthenticationError("no", status_code=401)))
    detail.around.target.next(messages.SessionEnded)
    assert detail.view.calls == [("forget",)]


def test_a_file_is_selected_only_while_the_files_are_shown(detail: Detail) -> None:
    assert detail.files.selected_file is None
    detail.show_files()
    assert detail.files.selected_file == "q1.csv"
    detail.files_shown = False
    assert detail.files.selected_file is None


# The files at an event of the log


CHECKPOINTS: list[Any] = [{"checkpoint": "c1", "seq": 2}, {"checkpoint": "c2", "seq": 8}]


class VersionsClient(stub.StubClient):
    """Client whose files are named after their checkpoint; records the requests."""

    def __init__(self) -> None:
        super().__init__()
        self.checkpoints = CHECKPOINTS
        self.requests: list[str | None] = []

    def list_files_page(self, task_id: int, path: str = ".", **options: Any) -> FilePage:
        at = options.get("at")
        self.requests.append(at)
        name = f"{at or 'present'}.txt"
        return FilePage([FileItem(name=name, path=name, type="file")], None)


class Versions(Detail):
    """Controllers of a task whose log is read at some event."""

    def __init__(self, folder: Path) -> None:
        self.client = VersionsClient()
        super().__init__(self.client, folder)
        self.around.know(*stub.TASKS, stub.CHAT)
        self.detail.select(9, settle=False)
        self.show_files()

    def read_at(self, number: int | None) -> None:
        """Let the log be read at an event."""
        self.files.show_event(number)
        self.around.timers.fire()

    def receive(self, *kinds: type[Message]) -> None:
        """Process the next messages of these types."""
        for kind in kinds:
            message: Any = self.around.target.next(kind)
            if isinstance(message, messages.CheckpointsArrived):
                self.checkpoints.arrived(message)
            elif isinstance(message, messages.CheckpointsFailed):
                self.checkpoints.failed(message)
            else:
                self.files.files_arrived(message)

    @property
    def shown(self) -> list[str]:
        """Names of the files that are shown."""
        listings = [call[1] for call in self.view.calls if call[0] == "show"]
        return [item["name"] for item in listings[-1].folders[ROOT].items] if listings else []


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[Versions]:
    made = Versions(tmp_path)
    yield made
    made.detail.close()
    made.around.user_state.close()


def test_the_files_at_the_event_are_shown_until_the_log_is_at_its_end(versions: Versions) -> None:
    arrived = messages.FilesArrived
    versions.files.read()
    versions.receive(arrived)
    assert versions.shown == ["present.txt"]
    versions.read_at(5)
    versions.receive(messages.CheckpointsArrived, arrived)
    assert versions.shown == ["c1.txt"] and versions.files.at == "c1"
    versions.read_at(9)
    versions.receive(arrived)
    assert versions.shown == ["c2.txt"]
    versions.read_at(7)  # read already
    assert versions.shown == ["c1.txt"]
    versions.read_at(None)
    versions.receive(arrived)
    assert versions.shown == ["present.txt"] and versions.files.at is None
    assert versions.client.requests == [None, "c1", "c2", None]
    assert versions.states == ["c1", "c2", "c1", None]
    # The tree is replaced, because its directories are of another state.
    assert [call[0] for call in versions.view.calls].count("replace") == 4


def test_a_file_that_the_log_reports_is_shown_as_it_was_after_its_step(versions: Versions) -> None:
    arrived = messages.FilesArrived
    versions.files.show_version(5)
    versions.files.read()
    versions.receive(arrived)
    assert versions.shown == ["present.txt"]  # the log is at its end
    versions.read_at(5)
    versions.receive(messages.CheckpointsArrived, arrived)
    versions.files.show_version(5)
    versions.files.show_event(5)  # the log is still there
    versions.files.read()
    versions.receive(arrived)
    assert versions.shown == ["c2.txt"]
    versions.files.show_version(9)  # there is no later checkpoint yet
    versions.files.read()
    versions.receive(arrived)
    assert versions.shown == ["present.txt"]
    versions.read_at(8)
    assert versions.shown == ["c2.txt"]


def test_files_are_read_at_intervals_and_not_while_they_are_hidden(versions: Versions) -> None:
    for number in range(3, 9):
        versions.files.show_event(number)
    assert len(versions.around.timers.waiting) == 1
    assert versions.client.requests == []
    versions.files_shown = False
    versions.files.show_event(4)
    assert versions.around.timers.waiting == []
    assert versions.client.requests == []
    versions.files_shown = True
    versions.files.read_if_shown()
    versions.receive(messages.CheckpointsArrived, messages.FilesArrived)
    assert versions.shown == ["c1.txt"] and versions.client.requests == ["c1"]


def test_events_do_not_change_the_files_of_a_checkpoint(versions: Versions) -> None:
    versions.read_at(5)
    versions.receive(messages.CheckpointsArrived, messages.FilesArrived)
    sent = stub.event("AGENT_EVENT_SEND_FILE", path="a")
    versions.files.events_received([sent])  # type: ignore[list-item]
    assert not versions.files.is_due


def test_results_for_another_checkpoint_are_dropped(versions: Versions) -> None:
    versions.read_at(5)
    versions.receive(messages.CheckpointsArrived)
    late = versions.around.target.next(messages.FilesArrived)
    versions.read_at(9)
    versions.files.files_arrived(late)
    assert versions.shown == []
    error = NotFoundError("gone", status_code=404)
    versions.files.preview_failed(messages.PreviewFailed(9, "a", error, "c1"))
    versions.files.folder_failed(messages.FolderFailed(9, "a", error))
    assert all(not call[0].endswith("refused") for call in versions.view.calls)
    versions.receive(messages.FilesArrived)
    assert versions.shown == ["c2.txt"]
    versions.read_at(5)  # the late result is not lost
    assert versions.shown == ["c1.txt"]


def test_previews_and_directories_are_those_of_the_checkpoint(versions: Versions) -> None:
    calls: list[Any] = []
    client: Any = versions.client
    client.get_file_content = lambda *values, **options: (
        calls.append(options["at"]) or stub.StubClient.get_file_content(client, *values, **options)
    )
    versions.read_at(5)
    versions.receive(messages.CheckpointsArrived, messages.FilesArrived)
    versions.files.read_preview("c1.txt")
    versions.files.preview_arrived(versions.around.target.next(messages.PreviewArrived))
    versions.files.read_folder("data", None)
    versions.files.folder_arrived(versions.around.target.next(messages.FolderArrived))
    assert [call[0] for call in versions.view.calls][-2:] == ["show_preview", "add_page"]
    assert calls == ["c1"] and versions.client.requests == ["c1", "c1"]


@pytest.mark.parametrize("status", [404, 405, 409])
def test_a_server_without_history_shows_the_present_files(versions: Versions, status: int) -> None:
    versions.client.checkpoints = APIError("no", status_code=status)
    versions.read_at(5)
    versions.receive(messages.CheckpointsFailed)
    assert versions.files.at is None
    versions.files.read()
    versions.receive(messages.FilesArrived)
    assert versions.shown == ["present.txt"]


def test_checkpoints_that_cannot_be_read_are_reported(versions: Versions) -> None:
    versions.client.checkpoints = error = APIError("no", status_code=500)
    versions.read_at(5)
    versions.receive(messages.CheckpointsFailed)
    assert versions.view.calls[-1] == ("refused", error)


def test_another_task_shows_its_present_files(versions: Versions) -> None:
    versions.read_at(5)
    versions.receive(messages.CheckpointsArrived, messages.FilesArrived)
    versions.detail.select(10)
    assert versions.files.at is None and versions.states[-1] is None
    versions.files.read()
    versions.receive(messages.FilesArrived)
    assert versions.shown == ["present.txt"]
