"""Help and palette say what can be done here; the theme that was chosen stays."""

from __future__ import annotations

from pathlib import Path

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Input

from tests.tui import dashboard_stub as stub
from tests.tui.dashboard_pilot import screen, until, until_shown
from tui.screens.help import HelpScreen, commands, legend, sections
from tui.theme import DARK


class Part(Vertical, can_focus=True):
    BINDINGS = [  # noqa: RUF012 - as Textual has it
        Binding("x,y", "first", "First thing"),
        Binding("z", "second", "Second thing", show=False),
        Binding("w", "hidden"),
    ]


class Small(App[None]):
    BINDINGS = [  # noqa: RUF012
        Binding("a", "always", "Always", tooltip="What it does"),
        Binding("n", "never", "Never"),
        Binding("u", "not_now", "Unable"),
    ]
    done = 0

    def compose(self) -> ComposeResult:
        yield Part()
        yield Input(id="goal")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return {"never": False, "not_now": None}.get(action, True)

    def action_always(self) -> None:
        self.done += 1


async def test_the_keys_of_the_focused_part_come_first_and_all_are_from_the_bindings() -> None:
    app = Small()
    async with app.run_test() as pilot:
        app.screen.query_one(Part).focus()
        await pilot.pause()
        first, *_, last = sections(app.screen)
        assert first.title == "Part"
        assert first.keys == [("x y", "First thing", True), ("z", "Second thing", True)]
        assert last.title == "Everywhere"
        assert ("a", "What it does", True) in last.keys and ("u", "Unable", False) in last.keys
        assert "Never" not in str(sections(app.screen))
        offered = {command.title: command for command in commands(app.screen)}
        assert {"First thing", "Second thing", "Always"} <= offered.keys()
        assert not {"Unable", "Never", ""} & offered.keys()
        await offered["Always"].callback()
        assert app.done == 1
        app.screen.query_one(Input).focus()
        await pilot.pause()
        # What the field takes as text is no key there.
        assert "Always" not in str(sections(app.screen))
        assert "First thing" not in str(sections(app.screen))


async def test_help_over_the_tasks_scrolls_to_what_the_glyphs_mean(tmp_path: Path) -> None:
    async with stub.stub_app(stub.full_client(), tmp_path).run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "● online")
        await pilot.press("question_mark")
        await until_shown(pilot, "Task list", "esc closes")
        assert "Status symbols" not in screen(pilot)
        scroll = pilot.app.screen.query_one(VerticalScroll)
        scroll.scroll_end(animate=False)
        await until_shown(pilot, "Status symbols", *(look.word for look in legend()))
        assert {look.glyph for look in legend()} >= set("○●◆✓✗■‖◧")
        await pilot.press("question_mark")
        await until(pilot, lambda: not isinstance(pilot.app.screen, HelpScreen))


async def test_the_theme_that_was_chosen_is_there_at_the_next_start(tmp_path: Path) -> None:
    app = stub.stub_app(stub.full_client(), tmp_path)
    async with app.run_test() as pilot:
        assert app.theme == DARK.name
        assert {"beray", "beray-light", "nord"} <= app.available_themes.keys()
        app.theme = "nord"
        await pilot.pause()
    assert stub.stub_app(stub.full_client(), tmp_path).theme == "nord"
