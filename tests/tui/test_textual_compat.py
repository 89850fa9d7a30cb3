"""One test for each use of a private part of Textual."""

from __future__ import annotations

import io
import re
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from rich.console import Console
from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Footer, Static

import tui
from tui import _textual_compat as compat


class Driver:
    def __init__(self, *, headless: bool = False, web: bool = False) -> None:
        self.is_headless, self.is_web = headless, web
        self.written: list[str] = []

    def write(self, text: str) -> None:
        self.written.append(text)

    def flush(self) -> None:
        self.written.append("flushed")


def test_a_sequence_is_written_by_the_driver_of_a_real_terminal() -> None:
    app: Any = App()
    compat.write_to_terminal(app, "before it runs")
    for driver, written in (
        (Driver(), ["\x1b]0;x\x1b\\", "flushed"]),
        (Driver(headless=True), []),
        (Driver(web=True), []),
    ):
        app._driver = driver
        compat.write_to_terminal(app, "")
        compat.write_to_terminal(app, "\x1b]0;x\x1b\\")
        assert driver.written == written


async def test_the_report_of_a_crash_has_no_local_variables() -> None:
    class Crashing(App[None]):
        def __init__(self) -> None:
            super().__init__()
            compat.hide_locals_in_crash_reports(self)
            self.error_console = Console(file=io.StringIO(), width=200)

        def on_key(self) -> None:
            password = "the " + "password"
            raise RuntimeError("a mistake" if password else "")

    app = Crashing()
    with pytest.raises(RuntimeError, match="a mistake"):
        async with app.run_test() as pilot:
            await pilot.press("a")
    app._print_error_renderables()
    printed = app.error_console.file.getvalue()  # type: ignore[attr-defined]
    assert "RuntimeError: a mistake" in printed and "on_key" in printed
    assert "the password" not in printed


def test_alt_enter_is_a_line_break_in_terminals_without_the_kitty_protocol() -> None:
    compat.read_alt_enter_as_line_break()
    assert [key.value for key in ANSI_SEQUENCES_KEYS["\x1b\r"]] == ["ctrl+j"]  # type: ignore[union-attr]


async def test_a_footer_is_ready_once_it_knows_the_keys() -> None:
    class WithFooter(App[None]):
        def compose(self) -> ComposeResult:
            yield Footer()

    assert not compat.footer_is_ready(Footer())
    async with WithFooter().run_test() as pilot:
        await pilot.pause()
        assert compat.footer_is_ready(pilot.app.query_one(Footer))


def test_rendered_strips_are_released() -> None:
    Strip.render_ansi.cache_clear()
    assert Strip.render_ansi.cache_info().currsize == 0
    compat.clear_rendered_strips()


async def test_scrollbars_and_scrolling_follow_without_a_layout() -> None:
    class Scrolling(App[None]):
        def compose(self) -> ComposeResult:
            yield ScrollView()
            with VerticalScroll():
                yield Static("\n".join(map(str, range(200))))

    async with Scrolling().run_test(size=(40, 20)) as pilot:
        view, rows = pilot.app.query_one(ScrollView), pilot.app.query_one(VerticalScroll)
        view.virtual_size = Size(10, 100)
        await pilot.pause()
        compat.update_scrollbars(view, Size(10, 500))
        assert view.vertical_scrollbar.window_virtual_size == 500
        compat.scroll_immediately(rows)
        rows.scroll_to(y=50, animate=True)
        await pilot.pause()
        assert rows.scroll_offset.y == 50
        assert not pilot.app.animator.is_being_animated(rows, "scroll_y")


def test_no_other_module_uses_private_modules_of_textual() -> None:
    folder = Path(tui.__file__).parent
    private = re.compile(r"^\s*(from|import) textual\S*\._", re.MULTILINE)
    found = {path.name for path in folder.rglob("*.py") if private.search(path.read_text("utf-8"))}
    assert found == {"_textual_compat.py"}


def test_the_installed_version_is_one_that_was_tested() -> None:
    (textual,) = [
        found
        for found in map(Requirement, requires("beray") or ())
        if found.name == "textual" and found.marker is not None
        and found.marker.evaluate({"extra": "tui"})
    ]  # fmt: skip
    assert version("textual") in textual.specifier
    assert any(one.operator == "<" for one in textual.specifier)
