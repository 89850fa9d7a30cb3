"""Rendering of Markdown that arrives in chunks, on a terminal.

Complete blocks are printed once. The incomplete last block is drawn again while it grows. The
text is sanitized before it is parsed, and again afterwards, because the parser decodes entities
and percent-encoded characters.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment
from rich.text import Text

from beray.cli import output
from beray.sanitize import one_line, overwritten, printable, printable_output

MAX_REDRAWN_CHARS: Final = 5_000
"""Length of an incomplete block, in characters, at which it is printed as if it was complete."""
_REFRESH_SECONDS: Final = 0.1
_GROWTH: Final = 1.1
"""Factor by which an incomplete block grows before it is parsed again."""


class MarkdownWriter(output.TextWriter):
    """``TextWriter`` that renders Markdown, and plain text while it is ``literal``."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
        self._literal = False
        self._open = ""
        """Text of the incomplete block."""
        self._follows_block = False
        """True if a block precedes the incomplete one, so that a blank line separates them."""
        self._parse_at_length = 0.0
        self._marked: tuple[int, bool] | None = None
        """Terminal width and ``_follows_block`` at ``mark``; None if nothing can be erased."""
        self._printed = 0
        """Number of rows printed since ``mark``, without the incomplete block."""
        self._live: Live | None = None
        self._live_ended = threading.Event()
        self._needs_refresh = False
        # Concurrent output would move the cursor away from the block that is drawn again.
        self._write_lock = threading.RLock()

    def mark(self) -> None:
        """Save the current position. ``erase`` removes the text after it."""
        self._end_block()
        self._printed = 0
        self._marked = (self._console.width, self._follows_block)

    def erase(self) -> bool:
        """Remove the text written since ``mark``; return False if that is impossible."""
        marked, self._marked = self._marked, None
        width, height = self._console.size
        # A row that has scrolled off the screen cannot be removed.
        if marked is None or marked[0] != width or self._printed >= height - 1:
            return False
        with self._write_lock:
            self._held = self._open = ""
            self._close()
            if self._printed:
                self._console.file.write(f"\r\x1b[{self._printed}A\x1b[J")
                self._console.file.flush()
            self._follows_block = marked[1]
        return True

    def literal(self, is_literal: bool) -> None:
        """Show the text that follows as plain text, or as Markdown."""
        if is_literal != self._literal:
            self.end_line()
            self._literal = is_literal

    def busy(self, text: str) -> None:
        """Show a line about the current activity until other output follows."""
        self.end_line()
        label = one_line(text, max(self._console.width - 1, 1))
        with self._write_lock:
            self._show(Text(label, style="dim", no_wrap=True, overflow="crop")).refresh()

    def note(self, text: str) -> None:
        """Write one line to stderr, after the text so far."""
        self._end_block()
        if output.is_terminal(sys.stderr):
            self._marked = None
        super().note(text)

    def end_line(self) -> None:
        """Print the incomplete block, and end the current line if it is not empty."""
        self._end_block()
        super().end_line()

    @property
    def redrawn_chars(self) -> int:
        """Length of the incomplete block, which each write draws again."""
        return len(self._open)

    def finish(self) -> None:
        """Print the rest, and end the current line."""
        self._end_block()
        super().finish()

    def _write(self, text: str) -> None:
        if self._literal:
            if text:
                self._marked = None
                self._close()
            super()._write(text)
        elif text:
            self._open = overwritten(self._open + printable_output(text))
            with self._write_lock:
                self._draw(self._take_complete_blocks())

    def _take_complete_blocks(self) -> str:
        """Remove and return the blocks that further text cannot change."""
        if len(self._open) < self._parse_at_length:
            return ""
        whole = self._open[: self._open.rfind("\n") + 1]
        tokens = _outliner().parse(whole)
        blocks = [token for token in tokens if token.level == 0 and token.nesting >= 0]
        end, reopening = 0, ""
        if len(self._open) > MAX_REDRAWN_CHARS:
            end = len(whole) or len(self._open)
            reopening = _reopening_fence(blocks, whole)
        elif len(blocks) > 1 and blocks[-1].map:
            end = sum(len(line) + 1 for line in whole.split("\n")[: blocks[-1].map[0]])
        complete, self._open = self._open[:end], reopening + self._open[end:]
        self._parse_at_length = min(len(self._open) * _GROWTH, MAX_REDRAWN_CHARS + 1)
        return complete

    def _draw(self, complete: str) -> None:
        gap, self._follows_block = (
            self._follows_block,
            self._follows_block or bool(complete.strip()),
        )
        self._show(_MarkdownBlock(self._open, gap=self._follows_block, last_lines=True))
        if complete.strip():
            # Printing also draws the incomplete block below it.
            self._print(_MarkdownBlock(complete, gap=gap))

    def _print(self, block: _MarkdownBlock) -> None:
        self._console.print(block, end="")
        self._printed += block.rows

    def _show(self, content: _MarkdownBlock | Text) -> Live:
        """Replace the incomplete block by ``content``. The thread draws it at its next refresh."""
        if self._live is None:
            self._live = Live(
                content,
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
            self._live_ended = threading.Event()
            threading.Thread(
                target=self._refresh_live,
                args=(self._live, self._live_ended),
                name="refresh",
                daemon=True,
            ).start()
        self._live.update(content)
        self._needs_refresh = True
        return self._live

    def _refresh_live(self, live: Live, ended: threading.Event) -> None:
        while not ended.wait(_REFRESH_SECONDS):
            with self._write_lock:
                if self._needs_refresh and not ended.is_set():
                    self._needs_refresh = False
                    live.refresh()

    def _end_block(self) -> None:
        self._release()
        self._close()

    def _close(self) -> None:
        """Print the incomplete block as complete, and stop drawing."""
        with self._write_lock:
            self._live_ended.set()
            live, self._live = self._live, None
            rest, self._open = self._open, ""
            self._parse_at_length = 0.0
            if live is not None:
                live.update(_MarkdownBlock("", gap=False))
                live.stop()
            if rest.strip():
                self._print(_MarkdownBlock(rest, gap=self._follows_block))
            self._follows_block = False


class _MarkdownBlock:
    """Renderable of Markdown as sanitized lines."""

    def __init__(self, text: str, *, gap: bool, last_lines: bool = False) -> None:
        self._text = text
        self._gap = gap
        self._last_lines = last_lines
        self._rendered_size: tuple[int, int] | None = None
        self._lines: list[list[Segment]] = []

    @property
    def rows(self) -> int:
        """Number of rows at the last rendering."""
        return len(self._lines)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        size = (options.max_width, options.size.height)
        if size != self._rendered_size:
            self._rendered_size, self._lines = size, self._render(console, options)
        for line in self._lines:
            yield from line
            yield Segment.line()

    def _render(self, console: Console, options: ConsoleOptions) -> list[list[Segment]]:
        if not self._text.strip():
            return []
        markdown = Markdown("", code_theme="ansi_dark", hyperlinks=False)
        markdown.parsed = _parsed(self._text)
        rendered = console.render_lines(markdown, options.update(height=None), pad=False)
        lines = [list(_sanitized_segments(line)) for line in rendered]
        if self._gap:
            lines.insert(0, [])
        if self._last_lines:
            # Rows that have scrolled off the screen cannot be drawn again.
            lines = lines[-max(options.size.height - 2, 1) :]
        return lines


def _sanitized_segments(line: Sequence[Segment]) -> Iterator[Segment]:
    for segment in line:
        if not segment.control:
            style = segment.style.update_link(None) if segment.style else None
            yield Segment(printable(segment.text).replace("\n", " "), style)


@cache
def _parser() -> MarkdownIt:
    # HTML would not be rendered, so it is treated as text.
    return MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])


@cache
def _outliner() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
    parser.core.ruler.disable("inline")
    return parser


def _parsed(text: str) -> list[Token]:
    return [_sanitized_token(token) for token in _parser().parse(text)]


def _sanitized_token(token: Token) -> Token:
    token.content = printable(token.content)
    token.info = printable(token.info)
    for name, value in token.attrs.items():
        if isinstance(value, str):
            token.attrs[name] = printable(value)
    token.children = [_sanitized_token(child) for child in token.children or ()] or token.children
    return token


def _reopening_fence(blocks: Sequence[Token], text: str) -> str:
    """Return the opening fence of the code block that ``text`` leaves open, "" if there is none."""
    if not blocks or blocks[-1].type != "fence":
        return ""
    fence = blocks[-1]
    *_, last = text.rstrip("\n").split("\n")
    closed = last.strip().startswith(fence.markup)
    return "" if closed else f"{fence.markup}{fence.info}\n"
