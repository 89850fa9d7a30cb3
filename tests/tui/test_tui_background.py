"""What waits for the server: batched, bounded, and closed without waiting."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from textual.content import Content

from beray.client import BeRayClient
from beray.streaming.streams import StreamState
from beray.testing import FaultServer, ScriptedResponse
from tests.support import PROMPT_SECONDS
from tests.tui.controller_fakes import MessageInbox
from tests.tui.dashboard_pilot import screen, until, until_shown
from tests.tui.dashboard_stub import StubClient, full_client, stub_app, text
from tui import messages
from tui.io import mailbox
from tui.io.background import TaskStreamReader
from tui.screens.save import SaveScreen


def test_a_burst_of_events_is_announced_in_few_messages_and_given_whole() -> None:
    client: Any = StubClient()
    client.events = {1: [text(str(number)) for number in range(3000)]}
    inbox: Any = MessageInbox()
    reader = TaskStreamReader(client, 1, inbox)
    taken: list[Any] = []
    try:
        inbox.wait_for(
            lambda got: any(
                isinstance(one, messages.StreamChanged) and one.state is StreamState.ENDED
                for one in got
            )
        )
        got = inbox.wait_for(
            lambda got: any(isinstance(one, messages.EventsWaiting) for one in got)
        )
        told = sum(isinstance(one, messages.EventsWaiting) for one in got)
        taken = reader.take()
    finally:
        reader.close()
    assert told == 1
    assert [event["text"] for event in taken] == [str(number) for number in range(3000)]


def test_a_reader_whose_events_nobody_takes_stops_reading() -> None:
    client: Any = StubClient()
    given = []

    def endless() -> Any:
        while True:
            given.append(len(given))
            yield text("x")

    class Stream:
        retry_in = 0.0
        last_event_id = None
        __iter__ = staticmethod(endless)

        def close(self) -> None: ...

    client.stream_task_updates = lambda *_, **__: Stream()
    inbox: Any = MessageInbox()
    reader = TaskStreamReader(client, 1, inbox)
    readers = [thread for thread in threading.enumerate() if thread.name == "beray-stream"]
    taken = 0
    while taken < 10_000:
        taken += len(reader.take())
        assert len(given) - taken <= 2 * mailbox.MAX_WAITING
    reader.close()
    for thread in readers:
        thread.join(10.0)
        assert not thread.is_alive()


def test_events_that_come_while_others_are_taken_are_announced_again() -> None:
    client: Any = StubClient()
    client.events = {1: [text(str(number)) for number in range(20_000)]}
    inbox: Any = MessageInbox()
    reader = TaskStreamReader(client, 1, inbox)
    taken, told = 0, 0
    while taken < 20_000:
        told += 1
        inbox.wait_for(
            lambda got: sum(isinstance(one, messages.EventsWaiting) for one in got) >= told  # noqa: B023
        )
        taken += len(reader.take())
    reader.close()
    assert taken == 20_000


async def test_an_action_is_about_the_task_under_the_cursor_however_quick_the_keys(
    tmp_path: Path,
) -> None:
    client = full_client()
    async with stub_app(client, tmp_path).run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "● live")
        await pilot.press("down", "x")
        await until_shown(pilot, "Delete this task?")
        assert "#10" in screen(pilot)


async def test_giving_up_a_download_that_waits_for_the_server_leaves_nothing(
    tmp_path: Path,
) -> None:
    with FaultServer([ScriptedResponse(b"x" * 1000, stall_at=10)]) as server:
        client = BeRayClient(server.url, "token")
        app = stub_app(StubClient(), tmp_path / "profiles")
        target = tmp_path / "there" / "file"
        target.parent.mkdir()
        async with app.run_test(size=(80, 24)) as pilot:
            dialog = SaveScreen(
                Content("a file"),
                target,
                lambda path, overwrite, transfer: client.download_file(
                    1, "file", path, overwrite=overwrite, transfer=transfer
                ),
            )
            app.push_screen(dialog)
            await until_shown(pilot, "Overwrite")
            await pilot.press("enter")
            await until_shown(pilot, "0 B of 1.0 K")
            (thread,) = app.transfers
            await pilot.press("escape")
            await until(pilot, lambda: not thread.is_alive(), PROMPT_SECONDS)
            assert app.screen is not dialog
            assert list(target.parent.iterdir()) == []
