"""Segments of rows, in the colours of a widget's component classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from rich.segment import Segment
from rich.style import Style
from textual.widget import Widget

from tui import status
from tui.log.render.layout import LogRow
from tui.widgets.drawing import foreground_style

if TYPE_CHECKING:
    from tui.log.render.markdown import MarkdownRenderer

_MARKDOWN_COMPONENTS: Final = {
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
_EVENT_STYLES: Final = frozenset(
    {
        "event--text",
        "event--user",
        "event--output",
        "event--call",
        "event--result",
        "event--failure",
        "event--note",
        "event--warning",
        "event--added",
        "event--deleted",
        "event--file",
    }
)
COMPONENT_STYLES: Final = (
    status.STYLES
    | _EVENT_STYLES
    | set(_MARKDOWN_COMPONENTS.values())
    | {"log--cursor", "log--match", "log--found", "log--faint"}
)
GUTTER_WIDTH: Final = 2
"""Width of the gutter, in cells."""

StyleSpan = tuple[int, int, Style]
"""Range of columns of a row, with a style to add to theirs."""


class Palette:
    """Styles of a widget's component classes, cached until the theme changes."""

    def __init__(self, widget: Widget) -> None:
        self._widget = widget
        self._styles: dict[str, Style] = {}
        self._markdown_styles: dict[str, Style] = {}

    def clear(self) -> None:
        """Discard cached styles, except those of Markdown."""
        self._styles.clear()

    def reload(self) -> bool:
        """Discard cached styles; return True if the styles of Markdown have changed."""
        self.clear()
        before, self._markdown_styles = (
            self._markdown_styles,
            {name: self.foreground(component) for name, component in _MARKDOWN_COMPONENTS.items()},
        )
        return before != self._markdown_styles

    def foreground(self, name: str) -> Style:
        """Return the style of a component class without its background."""
        style = self._styles.get(name)
        if style is None:
            style = self._styles[name] = foreground_style(self._widget, name)
        return style

    def base(self) -> Style:
        """Return the style of the widget itself."""
        style = self._styles.get("")
        if style is None:
            style = self._styles[""] = self._widget.rich_style
        return style

    def background(self, name: str) -> Style:
        """Return the style of a component class with its background."""
        key = f"{name} background"
        style = self._styles.get(key)
        if style is None:
            style = self._widget.get_component_rich_style(name)
            style = self._styles[key] = Style(
                color=style.color, bgcolor=style.bgcolor, bold=style.bold
            )
        return style

    def markdown(self) -> MarkdownRenderer:
        """Return a Markdown renderer with the current styles."""
        from tui.log.render.markdown import MarkdownRenderer  # the import is slow

        return MarkdownRenderer(self._markdown_styles)

    def segments(
        self, row: LogRow, base: Style, overlays: Sequence[StyleSpan], faint: bool
    ) -> list[Segment]:
        """Return the segments of a row without its gutter."""
        whole = base + self.foreground("log--faint" if faint else row.style)
        if row.spans is None:
            parts: list[tuple[str, Style]] = [(row.text, whole)]
        else:
            parts = [
                (text, whole + (self.foreground(style) if isinstance(style, str) else style))
                for text, style in row.spans
            ]
        for start, end, style in overlays:
            parts = list(_overlay(parts, start, end, style))
        return [Segment(text, style) for text, style in parts if text]


def _overlay(
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
