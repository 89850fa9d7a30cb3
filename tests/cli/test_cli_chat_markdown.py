"""Rendering of Markdown that arrives in chunks."""

from __future__ import annotations

import io
import sys

import pytest

pytest.importorskip("rich")

from rich.console import Console
from rich.markdown import Markdown

from beray.cli.chat import markdown
from beray.cli.chat.markdown import MarkdownWriter
from tests.cli.cli_screen import Screen


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    for name, value in {"TERM": "xterm", "COLUMNS": "40", "LINES": "12"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Screen()


def flow_on(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> MarkdownWriter:
    # Not in the fixture: pytest replaces the streams after the fixtures have run.
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    return MarkdownWriter()


def whole(text: str) -> list[str]:
    """Return the rendering of complete Markdown by rich."""
    out = io.StringIO()
    console = Console(file=out, width=40, highlight=False)
    console.print(Markdown(text, hyperlinks=False))
    return [line.rstrip() for line in out.getvalue().rstrip("\n").split("\n")]


TEXT = """\
# Title

Some **bold** words, and more
of them on a second line
***and* on** a third.

- one
- two

  with a paragraph
- three

1. *first*
2. second

> quoted
> twice

| a | b |
|---|---|
| 1 | 2 |

```
code

more code
```
The end with `code`
===
last words"""


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
def test_chunks_are_rendered_like_the_complete_text(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    flow = flow_on(screen, monkeypatch)
    for start in range(0, len(TEXT), size):
        flow.write(TEXT[start : start + size])
    flow.finish()
    shown = screen.lines()
    assert [line for line in shown if line] == [line for line in whole(TEXT) if line]
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h")


def test_complete_blocks_are_not_drawn_again(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = flow_on(screen, monkeypatch)
    for number in range(50):
        flow.write(f"paragraph{number}\n\n")
    flow.finish()
    # Once or twice while it is incomplete, and once when it is complete.
    assert screen.getvalue().count("paragraph3\x1b") + screen.getvalue().count("paragraph3 ") <= 4
    assert [line for line in screen.lines() if line] == [f"paragraph{n}" for n in range(50)]


def test_a_block_without_an_end_is_printed_in_parts(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = flow_on(screen, monkeypatch)
    flow.write("~~~text\n")
    count = 3 * markdown.MAX_REDRAWN_CHARS // 10
    for number in range(count):
        flow.write(f"*{number:06}*\n\n")
        assert flow.redrawn_chars <= markdown.MAX_REDRAWN_CHARS + 20
    flow.write("~~~\nand *words*")
    flow.finish()
    lines = [line.strip() for line in screen.lines() if line.strip()]
    assert lines == [*(f"*{number:06}*" for number in range(count)), "and words"]


def test_notes_and_literal_text_are_separate_blocks(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = flow_on(screen, monkeypatch)
    flow.write("*one* and")
    flow.note("noted")
    flow.write("*two*")
    flow.literal(True)
    flow.write("*three* [b]")
    flow.literal(False)
    flow.busy("at work")
    assert screen.lines()[-1] == "at work"
    flow.write("*four*")
    flow.finish()
    assert [line for line in screen.lines() if line] == [
        "one and", "noted", "two", "*three* [b]", "four",
    ]  # fmt: skip


def test_html_is_shown_as_text(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = flow_on(screen, monkeypatch)
    flow.write("a <!-- b --> c\n\n<script>d</script>\n\n[e](http://f/)")
    flow.finish()
    assert [line for line in screen.lines() if line] == [
        "a <!-- b --> c", "<script>d</script>", "e (http://f/)",
    ]  # fmt: skip
