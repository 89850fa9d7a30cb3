"""Looking at the dashboard as a user does: what is on the screen, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rich.segment import Segment
from textual import events
from textual.constants import MAX_FPS
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widgets import Input, TextArea

from beray.client import BeRayClient
from beray.config import Profiles, Target
from beray.testing import RunningServer, access_token
from tests.support import WAIT_SECONDS
from tests.tui.textual_compat import exception_of, is_loop_busy, screen_strips
from tui.app import BeRayApp
from tui.log.pane import LogPane
from tui.screens.main import MainScreen

LOOK_SECONDS = 0.02
KEYS = {"\r": "enter", "@": "at", ".": "full_stop", " ": "space", "-": "minus"}


async def at_rest(_least: float = 0.0, most: float = 10.0) -> None:
    """Return once nothing of the app can go on before time passes or another thread speaks.

    Textual guesses this from the CPU time of the whole process, which has other threads;
    here the event loop itself is asked. What has changed is painted with the next frame.
    """
    deadline = time.monotonic() + most
    await asyncio.sleep(1 / MAX_FPS)
    busy = True
    while busy and time.monotonic() < deadline:
        await asyncio.sleep(0)
        busy = is_loop_busy()


async def until(
    pilot: Pilot[None], seen: Callable[[], object], seconds: float = WAIT_SECONDS
) -> None:
    """Let the app go on until ``seen`` is true; fail with the screen where it never is."""
    deadline = time.monotonic() + seconds
    while not seen():
        if (exception := exception_of(pilot.app)) is not None:
            raise exception
        if time.monotonic() > deadline:
            raise AssertionError(f"not seen within {seconds} s; the screen:\n{screen(pilot)}")
        await asyncio.sleep(LOOK_SECONDS)


async def until_shown(pilot: Pilot[None], *texts: str) -> None:
    def seen() -> bool:
        shown = screen(pilot)
        return all(text in shown for text in texts)

    await until(pilot, seen)


def screen(pilot: Pilot[None]) -> str:
    """Every cell of the screen, as the compositor hands it to the terminal."""
    return "\n".join("".join(segment.text for segment in strip) for strip in strips(pilot))


def strips(pilot: Pilot[None]) -> list[Strip]:
    """The lines of the screen with their styles, what shines through a dialog included."""
    return screen_strips(pilot.app)


async def wait_settled(pilot: Pilot[None]) -> None:
    """Wait until focus, hover and layout have come to rest: two pictures in a row are the same."""
    before: list[list[Segment]] = []
    for _ in range(50):
        await pilot.pause(0.05)
        now = [list(strip) for strip in strips(pilot)]
        if now == before:
            return
        before = now


async def fill(pilot: Pilot[None], field: str, text: str) -> None:
    """Put ``text`` into a field of a form and press enter there."""
    boxes = f"{field} Input, {field} TextArea"
    await until(pilot, lambda: list(pilot.app.screen.query(boxes)))
    box = pilot.app.screen.query(boxes).first()
    if isinstance(box, Input):
        box.value = text
    elif isinstance(box, TextArea):
        box.text = text
    box.focus()
    await pilot.press("enter")


def type_ahead(pilot: Pilot[None], text: str) -> None:
    """Everything at once, as a terminal gives what was typed while nobody was reading."""
    for letter in text:
        pilot.app.post_message(events.Key(KEYS.get(letter, letter), letter))


@asynccontextmanager
async def dashboard(
    server: RunningServer, client: BeRayClient, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[Pilot[None]]:
    token = access_token(client)
    target = Target(server.url, "test", token, "ada@example.test")
    app = BeRayApp(target, Profiles())
    async with app.run_test(size=size, notifications=True) as pilot:
        await until_shown(pilot, "● online")
        yield pilot


def log_rows(pilot: Pilot[None]) -> list[str]:
    return main(pilot).query_one(LogPane).row_texts


def main(pilot: Pilot[None]) -> MainScreen:
    screen = pilot.app.screen_stack[1]
    assert isinstance(screen, MainScreen)
    return screen


async def new_task(pilot: Pilot[None], goal: str) -> None:
    await pilot.press("n")
    await until_shown(pilot, "New task")
    await fill(pilot, "#new-goal", goal)
