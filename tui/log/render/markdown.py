"""Rendering of Markdown as rows of segments, in the colours of the theme.

The Markdown comes from an agent and is not trusted. HTML is shown as text, a link is shown as
its text and address, and control characters are removed after parsing, because character
references can produce them.
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

SegmentRow = tuple[Segment, ...]

_MIN_WIDTH: Final = 24
_MAX_NESTING: Final = 12
"""Maximum nesting of quotes and lists; each level reduces the available width."""
_PLAIN: Final = re.compile(r"(?![ \t]|[-+]|\d+[.)])[^*_`\[\]<>#|&\\~!=\n]*\n*")
"""One line without any Markdown syntax."""
_RENDERING_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors that the renderer may raise for unusual input."""


def is_plain_text(text: str) -> bool:
    """Return True if ``text`` looks the same as Markdown and as plain text."""
    return _PLAIN.fullmatch(text) is not None


class _Heading(markdown.Heading):
    LEVEL_ALIGN: ClassVar[dict[str, Any]] = {}


class _Code(markdown.CodeBlock):
    """Code block without syntax highlighting, because lexers can be slow on hostile input."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        style = console.get_style("markdown.code_block")
        bar = Segment("▏ ", console.get_style("markdown.block_quote"))
        text = Text(str(self.text).rstrip("\n").expandtabs(4), style)
        inner = options.update(width=max(_MIN_WIDTH, options.max_width - 2))
        for line in console.render_lines(text, inner, pad=False):
            yield bar
            yield from line
            yield Segment.line()


class _Quote(markdown.BlockQuote):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from super().__rich_console__(console, _reserve(options, 4))


class _Item(markdown.ListItem):
    def render_bullet(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from super().render_bullet(console, _reserve(options, 3))

    def render_number(
        self, console: Console, options: ConsoleOptions, number: int, last_number: int
    ) -> RenderResult:
        reserving = _reserve(options, len(str(last_number)) + 2)
        yield from super().render_number(console, reserving, number, last_number)


class _Rule(markdown.HorizontalRule):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment("─" * min(24, options.max_width), console.get_style("markdown.hr"))
        yield Segment.line()


class _Image(markdown.TextElement):
    """Alternative text and address of an image."""

    new_line = False

    @classmethod
    def create(cls, markdown: markdown.Markdown, token: Token) -> _Image:
        return cls(str(token.attrs.get("src", "")))

    def __init__(self, source: str) -> None:
        self.source = source

    def on_leave(self, context: markdown.MarkdownContext) -> None:
        super().on_leave(context)
        description = Text.assemble(self.text, (f" ({self.source})", "markdown.link_url"))
        if context.stack:
            context.stack.top.on_text(context, description)


class _Table(markdown.TableElement):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, border_style="markdown.table.border")
        for column in self.header.row.cells if self.header and self.header.row else ():
            heading = column.content.copy()
            heading.stylize("markdown.table.header")
            table.add_column(heading, overflow="fold", justify=_justification(column.justify))
        for row in self.body.rows if self.body else ():
            table.add_row(*(cell.content for cell in row.cells))
        yield table


def _justification(justify: Any) -> Any:
    return "left" if justify == "default" else justify


def _reserve(options: ConsoleOptions, reserved: int) -> ConsoleOptions:
    return options.update(width=max(options.max_width, _MIN_WIDTH + reserved))


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
        # The base class would create a parser for each text.
        self.parsed = tokens
        self.markup, self.code_theme, self.style = "", "", "none"
        self.justify, self.hyperlinks = None, False
        self.inline_code_lexer, self.inline_code_theme = None, ""


class MarkdownRenderer:
    """Renderer of Markdown.

    Args:
        styles: Styles by the names of rich's Markdown theme, such as ``markdown.h1``.
    """

    def __init__(self, styles: Mapping[str, Style]) -> None:
        self._console = Console(
            width=80, color_system="truecolor", force_terminal=True, theme=Theme(dict(styles)),
            legacy_windows=False, _environ={},
        )  # fmt: skip
        options = {"html": False, "maxNesting": _MAX_NESTING}
        self._parser = MarkdownIt("commonmark", options).enable("strikethrough").enable("table")

    def rows(self, text: str, width: int, fence: str = "") -> list[SegmentRow] | None:
        """Render ``text`` as rows of about ``width`` cells.

        Args:
            text: Sanitized Markdown.
            width: Width of the rows, in cells.
            fence: Line that opened the code block in which the text starts, or "".

        Returns:
            The rows, or ``None`` if the text cannot be rendered.
        """
        source = f"{fence}\n{text}" if fence else text
        try:
            tokens = self._parser.parse(source)
            if any(token.level >= _MAX_NESTING - 1 for token in tokens):
                return None  # the parser omits deeper levels
            options = self._console.options.update(width=max(_MIN_WIDTH, width), height=None)
            segments = list(self._console.render(_Markdown(tokens), options))
        except _RENDERING_ERRORS:
            return None
        rows = [_sanitize_row(row) for row in Segment.split_lines(segments)]
        while rows and not rows[-1]:
            rows.pop()
        begin = next((index for index, row in enumerate(rows) if row), 0)
        return rows[begin:]


def _sanitize_row(row: Iterable[Segment]) -> SegmentRow:
    segments = [
        Segment(printable(segment.text).replace("\n", " ").replace("\t", " "), segment.style)
        for segment in row
        if segment.text and not segment.control
    ]
    # Padding must not be selectable.
    while segments and not segments[-1].text.strip():
        segments.pop()
    if segments:
        text, style, _ = segments[-1]
        segments[-1] = Segment(text.rstrip(), style)
    return tuple(segments)
