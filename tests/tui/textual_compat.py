"""Private interfaces of Textual and asyncio that tests of the dashboard need."""

from __future__ import annotations

import asyncio
from typing import Any

from textual._context import visible_screen_stack
from textual.app import App
from textual.strip import Strip


def is_loop_busy() -> bool:
    """Return True if callbacks of the running event loop are ready to be called."""
    loop: Any = asyncio.get_running_loop()
    return bool(loop._ready)


def exception_of(app: App[Any]) -> BaseException | None:
    """Return the exception that ended an app."""
    return app._exception


def screen_strips(app: App[Any]) -> list[Strip]:
    """Return the lines of the screen with their styles, with what a dialog lets through."""
    # Without it, a dialog's background would be drawn empty, and kept so for the app itself.
    visible_screen_stack.set(app._background_screens)
    return app.screen._compositor.render_strips()
