"""Uses of private parts of Textual, tested against the versions that ``pyproject.toml`` allows.

Other modules of the dashboard use the public interface of Textual only.
"""

from __future__ import annotations

from typing import Any

from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual.app import App
from textual.geometry import Size
from textual.keys import Keys
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Footer

_ALT_ENTER = "\x1b\r"


def write_to_terminal(app: App[Any], sequence: str) -> None:
    """Write a control sequence to the terminal of ``app``, in order with what Textual writes.

    Nothing is written in tests and in a browser, or before and after the app runs.
    """
    driver = app._driver
    if sequence and driver is not None and not (driver.is_headless or driver.is_web):
        driver.write(sequence)
        driver.flush()


def hide_locals_in_crash_reports(app: App[Any]) -> None:
    """Leave local variables, which include passwords and tokens, out of the report of a crash."""

    def fatal_error() -> None:
        from rich.segment import Segments
        from rich.traceback import Traceback

        app.bell()
        report = Traceback(show_locals=False, width=None)
        app._exit_renderables.append(Segments(app.console.render(report, app.console.options)))
        app._close_messages_no_wait()

    app._fatal_error = fatal_error  # type: ignore[method-assign]


def read_alt_enter_as_line_break() -> None:
    """Report alt+enter as ctrl+j in terminals without the Kitty protocol, instead of as enter."""
    if isinstance(ANSI_SEQUENCES_KEYS, dict):
        ANSI_SEQUENCES_KEYS.setdefault(_ALT_ENTER, (Keys.ControlJ,))


def footer_is_ready(footer: Footer) -> bool:
    """Return True once the footer has been notified of the active keys."""
    return footer._bindings_ready


def clear_rendered_strips() -> None:
    """Release the strips that Textual's cache of rendered strips keeps alive."""
    Strip.render_ansi.cache_clear()


def update_scrollbars(widget: Widget, virtual_size: Size) -> None:
    """Update the scrollbars of ``widget`` for a new virtual size, without a layout."""
    widget._scroll_update(virtual_size)


def scroll_immediately(widget: Widget) -> None:
    """Scroll ``widget`` without animation, even if its scrollbar does not exist yet."""
    scroll_to = widget._scroll_to

    def immediate(x: float | None = None, y: float | None = None, **options: Any) -> bool:
        return scroll_to(x, y, **{**options, "animate": False, "force": True})

    widget._scroll_to = immediate  # type: ignore[method-assign]
