"""Markdown as rows of segments, in the colours of the theme.

What an agent writes is Markdown and nothing more: HTML in it is shown as it is, a link
is its words and its address, and no row leaves here with a character that a terminal
obeys, though an entity of the text may have stood for one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich import box, markdown
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from beray.sanitize import printable

Row = tuple[Segment, ...]

_NARROWEST: Final = 24
_NESTING: Final = 12
"""How deep quotes and lists are followed: each level takes from the width."""
_PLAIN: Final = re.compile(r"(?![ \t]|[-+]|\d+[.)])[^*_`\[\]<>#|&\\~!=\n]*\n*")
"""One line in which nothing means anything but itself."""
_MISTAKES: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the renderer may stumble over in a text that nobody has foreseen."""


def is_plain(text: str) -> bool:
    """Whether ``text`` looks the same as Markdown and as what it is."""
    return _PLAIN.fullmatch(text) is not None


class _Heading(markdown.Heading):
    LEVEL_ALIGN: ClassVar[dict[str, Any]] = {}


class _Code(markdown.CodeBlock):
    """Code as it is; a lexer would decide how long a hostile one takes."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        style = console.get_style("markdown.code_block")
        bar = Segment("▏ ", console.get_style("markdown.block_quote"))
        text = Text(str(self.text).rstrip("\n").expandtabs(4), style)
        inner = options.update(width=max(_NARROWEST, options.max_width - 2))
        for line in console.render_lines(text, inner, pad=False):
            yield bar
            yield from line
            yield Segment.line()


class _Quote(markdown.BlockQuote):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from super().__rich_console__(console, _with_room(options, 4))


class _Item(markdown.ListItem):
    def render_bullet(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from super().render_bullet(console, _with_room(options, 3))

    def render_number(
        self, console: Console, options: ConsoleOptions, number: int, last_number: int
    ) -> RenderResult:
        room = _with_room(options, len(str(last_number)) + 2)
        yield from super().render_number(console, room, number, last_number)


class _Rule(markdown.HorizontalRule):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment("─" * min(24, options.max_width), console.get_style("markdown.hr"))
        yield Segment.line()


class _Image(markdown.TextElement):
    """An image's words, and where it would be found."""

    new_line = False

    @classmethod
    def create(cls, markdown: markdown.Markdown, token: Token) -> _Image:
        return cls(str(token.attrs.get("src", "")))

    def __init__(self, source: str) -> None:
        self.source = source

    def on_leave(self, context: markdown.MarkdownContext) -> None:
        super().on_leave(context)
        words = Text.assemble(self.text, (f" ({self.source})", "markdown.link_url"))
        if context.stack:
            context.stack.top.on_text(context, words)


class _Table(markdown.TableElement):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, border_style="markdown.table.border")
        for column in self.header.row.cells if self.header and self.header.row else ():
            heading = column.content.copy()
            heading.stylize("markdown.table.header")
            table.add_column(heading, overflow="fold", justify=_justified(column.justify))
        for row in self.body.rows if self.body else ():
            table.add_row(*(cell.content for cell in row.cells))
        yield table


def _justified(justify: Any) -> Any:
    return "left" if justify == "default" else justify


def _with_room(options: ConsoleOptions, taken: int) -> ConsoleOptions:
    return options.update(width=max(options.max_width, _NARROWEST + taken))


class _Markdown(markdown.Markdown):
    elements: ClassVar[dict[str, type[markdown.MarkdownElement]]] = {
        **markdown.Markdown.elements,
        "heading_open": _Heading,
        "fence": _Code,
        "code_block": _Code,
        "blockquote_open": _Quote,
        "list_item_open": _Item,
        "hr": _Rule,
        "image": _Image,
        "table_open": _Table,
    }

    def __init__(self, tokens: list[Token]) -> None:
        # Not by rich's own, which makes a parser for each text.
        self.parsed = tokens
        self.markup, self.code_theme, self.style = "", "", "none"
        self.justify, self.hyperlinks = None, False
        self.inline_code_lexer, self.inline_code_theme = None, ""


class Renderer:
    """Renders pieces of Markdown.

    Args:
        styles: for the names of rich's Markdown theme, such as ``markdown.h1``.
    """

    def __init__(self, styles: Mapping[str, Style]) -> None:
        self._console = Console(
            width=80, color_system="truecolor", force_terminal=True, theme=Theme(dict(styles)),
            legacy_windows=False, _environ={},
        )  # fmt: skip
        options = {"html": False, "maxNesting": _NESTING}
        self._parser = MarkdownIt("commonmark", options).enable("strikethrough").enable("table")

    def rows(self, text: str, width: int, fence: str = "") -> list[Row] | None:
        """``text``, which is printable, as rows of about ``width`` cells.

        Args:
            fence: the line that opened the code block which the text begins in.

        Returns:
            ``None`` where it cannot be rendered.
        """
        source = f"{fence}\n{text}" if fence else text
        try:
            tokens = self._parser.parse(source)
            if any(token.level >= _NESTING - 1 for token in tokens):
                return None  # what is nested deeper has been left out
            options = self._console.options.update(width=max(_NARROWEST, width), height=None)
            segments = list(self._console.render(_Markdown(tokens), options))
        except _MISTAKES:
            return None
        rows = [_safe(row) for row in Segment.split_lines(segments)]
        while rows and not rows[-1]:
            rows.pop()
        begin = next((index for index, row in enumerate(rows) if row), 0)
        return rows[begin:]


def _safe(row: Iterable[Segment]) -> Row:
    made = [
        Segment(printable(segment.text).replace("\n", " ").replace("\t", " "), segment.style)
        for segment in row
        if segment.text and not segment.control
    ]
    # What fills a row to its width is nothing to select.
    while made and not made[-1].text.strip():
        made.pop()
    if made:
        text, style, _ = made[-1]
        made[-1] = Segment(text.rstrip(), style)
    return tuple(made)
