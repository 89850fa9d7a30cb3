"""Rows as segments in the colours of a widget's component classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from rich.segment import Segment
from rich.style import Style
from textual.widget import Widget

from tui import status
from tui.log.render.layout import Row
from tui.widgets.drawing import foreground_style

if TYPE_CHECKING:
    from tui.log.render.markdown import Renderer

_MARKDOWN: Final = {
    "markdown.h1": "log--heading",
    "markdown.h2": "log--heading",
    "markdown.h3": "log--heading",
    "markdown.h4": "log--heading",
    "markdown.h5": "log--heading",
    "markdown.h6": "log--heading",
    "markdown.code": "log--code",
    "markdown.code_block": "log--code",
    "markdown.block_quote": "log--quote",
    "markdown.item.bullet": "log--bullet",
    "markdown.item.number": "log--bullet",
    "markdown.hr": "log--quote",
    "markdown.link": "log--link",
    "markdown.link_url": "log--address",
    "markdown.table.border": "log--quote",
    "markdown.table.header": "log--strong",
    "markdown.strong": "log--strong",
}
_LINES: Final = frozenset(
    {
        "event--text",
        "event--user",
        "event--output",
        "event--call",
        "event--result",
        "event--failure",
        "event--note",
        "event--file",
    }
)
STYLES: Final = (
    status.STYLES
    | _LINES
    | set(_MARKDOWN.values())
    | {"log--cursor", "log--match", "log--found", "log--faint"}
)
GUTTER: Final = 2

Span = tuple[int, int, Style]
"""Characters of a row, from and to, with a style to lay over theirs."""


class Palette:
    """The styles of one widget, looked up once for each theme."""

    def __init__(self, widget: Widget) -> None:
        self._widget = widget
        self._inks: dict[str, Style] = {}
        self._of_markdown: dict[str, Style] = {}

    def forget(self) -> bool:
        """Look the styles up again; whether those of Markdown are others now."""
        self._inks.clear()
        before, self._of_markdown = (
            self._of_markdown,
            {name: self.ink(component) for name, component in _MARKDOWN.items()},
        )
        return before != self._of_markdown

    def ink(self, name: str) -> Style:
        found = self._inks.get(name)
        if found is None:
            found = self._inks[name] = foreground_style(self._widget, name)
        return found

    def base(self) -> Style:
        """The widget's own style."""
        found = self._inks.get("")
        if found is None:
            found = self._inks[""] = self._widget.rich_style
        return found

    def paper(self, name: str) -> Style:
        """The component class with its background."""
        key = f"{name} paper"
        found = self._inks.get(key)
        if found is None:
            style = self._widget.get_component_rich_style(name)
            found = self._inks[key] = Style(
                color=style.color, bgcolor=style.bgcolor, bold=style.bold
            )
        return found

    def markdown(self) -> Renderer:
        from tui.log.render.markdown import Renderer  # here, because importing it costs

        return Renderer(self._of_markdown)

    def segments(self, row: Row, base: Style, over: Sequence[Span], faint: bool) -> list[Segment]:
        """A row without its gutter."""
        whole = base + self.ink("log--faint" if faint else row.style)
        if row.spans is None:
            parts: list[tuple[str, Style]] = [(row.text, whole)]
        else:
            parts = [
                (text, whole + (self.ink(style) if isinstance(style, str) else style))
                for text, style in row.spans
            ]
        for start, end, style in over:
            parts = list(_laid_over(parts, start, end, style))
        return [Segment(text, style) for text, style in parts if text]


def _laid_over(
    parts: Iterable[tuple[str, Style]], start: int, end: int, style: Style
) -> Iterable[tuple[str, Style]]:
    at = 0
    for text, own in parts:
        first = min(max(start - at, 0), len(text))
        last = min(max(end - at, 0), len(text))
        if first < last:
            yield text[:first], own
            yield text[first:last], own + style
            yield text[last:], own
        else:
            yield text, own
        at += len(text)
