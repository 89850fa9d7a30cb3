"""Tests of the log on the main screen."""

from __future__ import annotations

from pathlib import Path

from beray.exceptions import ConnectionFailed
from beray.streaming.streams import StreamState
from tests.tui import dashboard_stub as stub
from tests.tui.dashboard_pilot import screen, until, until_shown
from tui.screens.main import MainScreen
from tui.state.selected_task import SelectedTask


async def test_a_file_in_the_log_opens_its_preview_and_escape_ends_the_search(
    tmp_path: Path,
) -> None:
    client = stub.full_client()
    async with stub.stub_app(client, tmp_path).run_test(size=(120, 40)) as pilot:
        await until_shown(pilot, "● live")
        main = pilot.app.screen
        assert isinstance(main, MainScreen)
        main.detail.select(12, settle=False)
        await until_shown(pilot, "TOOL_FAILED")
        await pilot.press("e", "k", "enter")
        await until_shown(pilot, "# Three quarters")
        assert main.files.selected_file == "summary.md"
        await pilot.press("e", "slash", *"shops", "enter")
        await until_shown(pilot, "event 9")
        assert pilot.app.screen is main
        await pilot.press("n")  # the next match, not a new task
        await until_shown(pilot, "no further match")
        assert pilot.app.screen is main
        await pilot.press("escape")
        await until(pilot, lambda: "no further match" not in screen(pilot))
        await pilot.press("n")
        await until(pilot, lambda: pilot.app.screen is not main)


async def test_a_failed_stream_shows_the_error_at_the_end_of_the_log(tmp_path: Path) -> None:
    client = stub.full_client()
    client.events = dict.fromkeys(range(7, 13), ConnectionFailed("the line is cut"))
    async with stub.stub_app(client, tmp_path).run_test(size=(120, 40)) as pilot:
        await until_shown(pilot, "! the line is cut", "○ stream lost")


def test_the_state_of_a_stream_counts_down_to_its_next_attempt() -> None:
    watched = SelectedTask(1)
    watched.set_stream_state(StreamState.RECONNECTING, 2.5, stub.NOW)
    assert watched.stream_text(stub.NOW) == ("◌ reconnecting in 3 s", "offline")
    later = stub.NOW.replace(second=stub.NOW.second + 2)
    assert watched.stream_text(later) == ("◌ reconnecting in 1 s", "offline")
    much_later = stub.NOW.replace(minute=stub.NOW.minute + 1)
    assert watched.stream_text(much_later) == ("◌ reconnecting", "offline")
    watched.set_stream_state(StreamState.LIVE, 0.0, later)
    assert watched.stream_text(later) == ("● live", "online")
