"""Looking at the dashboard as a user does: what is on the screen, and when."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual.pilot import Pilot
from textual.widgets import Input

SECONDS = 15.0


async def until(pilot: Pilot[None], seen: Callable[[], object], seconds: float = SECONDS) -> None:
    """Let the app go on until ``seen`` is true; fail with the screen where it never is."""
    deadline = time.monotonic() + seconds
    while not seen():
        if time.monotonic() > deadline:
            raise AssertionError(f"not seen within {seconds} s; the screen:\n{screen(pilot)}")
        await pilot.pause(0.01)


async def until_shown(pilot: Pilot[None], *texts: str) -> None:
    await until(pilot, lambda: all(text in screen(pilot) for text in texts))


def screen(pilot: Pilot[None]) -> str:
    """Every cell of the screen, as the compositor hands it to the terminal."""
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


async def fill(pilot: Pilot[None], field: str, text: str) -> None:
    """Put ``text`` into a field of a form and press enter there."""
    await until(pilot, lambda: list(pilot.app.screen.query(f"{field} Input")))
    box = pilot.app.screen.query_one(f"{field} Input", Input)
    box.value = text
    box.focus()
    await pilot.press("enter")
