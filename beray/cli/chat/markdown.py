"""Markdown that arrives in pieces, on a terminal.

What is finished is printed for good; the block that is still open is painted again as it
grows. The text is made printable before it is parsed, and again behind the parser, which
makes characters of entities and of percent signs.
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

LONGEST_BLOCK: Final = 5_000
"""Characters of a block that is painted again and again; behind them it is printed for good."""
_PAINT_SECONDS: Final = 0.1
_GROWTH: Final = 1.1
"""How much an open block grows until its outline is looked at again."""


class MarkdownFlow(output.Flow):
    """A ``Flow`` whose text is Markdown, except while it is ``literal``."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
        self._literal = False
        self._open = ""
        self._begun = False
        """Whether something stands above the open block, which a gap sets it apart from."""
        self._look_at = 0.0
        self._marked: tuple[int, bool] | None = None
        """Width of the terminal and ``_begun`` at ``mark``; None if there is nothing to erase."""
        self._printed = 0
        """Rows that were printed for good since ``mark``."""
        self._live: Live | None = None
        self._left = threading.Event()
        self._unpainted = False
        # Of two that write at once, one would move the cursor for what the other has painted.
        self._writing = threading.RLock()

    def mark(self) -> None:
        self._end_block()
        self._printed = 0
        self._marked = (self._console.width, self._begun)

    def erase(self) -> bool:
        marked, self._marked = self._marked, None
        width, height = self._console.size
        # A row that has left the screen cannot be removed.
        if marked is None or marked[0] != width or self._printed >= height - 1:
            return False
        with self._writing:
            self._held = self._open = ""
            self._close()
            if self._printed:
                self._console.file.write(f"\r\x1b[{self._printed}A\x1b[J")
                self._console.file.flush()
            self._begun = marked[1]
        return True

    def literal(self, wanted: bool) -> None:
        """Show what follows as it is, or as Markdown."""
        if wanted != self._literal:
            self.end_line()
            self._literal = wanted

    def busy(self, text: str) -> None:
        """Say what is going on, until there is something else to show."""
        self.end_line()
        words = one_line(text, max(self._console.width - 1, 1))
        with self._writing:
            self._show(Text(words, style="dim", no_wrap=True, overflow="crop")).refresh()

    def note(self, text: str) -> None:
        self._end_block()
        if output.is_terminal(sys.stderr):
            self._marked = None
        super().note(text)

    def end_line(self) -> None:
        self._end_block()
        super().end_line()

    def finish(self) -> None:
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
            with self._writing:
                self._paint(self._cut())

    def _cut(self) -> str:
        """Take off the blocks that nothing can change any more."""
        if len(self._open) < self._look_at:
            return ""
        whole = self._open[: self._open.rfind("\n") + 1]
        tokens = _outliner().parse(whole)
        blocks = [token for token in tokens if token.level == 0 and token.nesting >= 0]
        end, again = 0, ""
        if len(self._open) > LONGEST_BLOCK:
            end = len(whole) or len(self._open)
            again = _reopened(blocks, whole)
        elif len(blocks) > 1 and blocks[-1].map:
            end = sum(len(line) + 1 for line in whole.split("\n")[: blocks[-1].map[0]])
        finished, self._open = self._open[:end], again + self._open[end:]
        self._look_at = min(len(self._open) * _GROWTH, LONGEST_BLOCK + 1)
        return finished

    def _paint(self, finished: str) -> None:
        gap, self._begun = self._begun, self._begun or bool(finished.strip())
        self._show(_Block(self._open, gap=self._begun, last_lines=True))
        if finished.strip():
            # Printing paints what is open below it, too.
            self._print(_Block(finished, gap=gap))

    def _print(self, block: _Block) -> None:
        self._console.print(block, end="")
        self._printed += block.rows

    def _show(self, shown: _Block | Text) -> Live:
        """Have ``shown`` at the end, in the place of what was there, before long."""
        if self._live is None:
            self._live = Live(
                shown,
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
            self._left = threading.Event()
            painting = (self._live, self._left)
            threading.Thread(
                target=self._keep_painting, args=painting, name="paint", daemon=True
            ).start()
        self._live.update(shown)
        self._unpainted = True
        return self._live

    def _keep_painting(self, live: Live, left: threading.Event) -> None:
        while not left.wait(_PAINT_SECONDS):
            with self._writing:
                if self._unpainted and not left.is_set():
                    self._unpainted = False
                    live.refresh()

    def _end_block(self) -> None:
        self._release()
        self._close()

    def _close(self) -> None:
        """Print what is open for good."""
        with self._writing:
            self._left.set()
            live, self._live = self._live, None
            rest, self._open = self._open, ""
            self._look_at = 0.0
            if live is not None:
                live.update(_Block("", gap=False))
                live.stop()
            if rest.strip():
                self._print(_Block(rest, gap=self._begun))
            self._begun = False


class _Block:
    """Markdown as safe lines."""

    def __init__(self, text: str, *, gap: bool, last_lines: bool = False) -> None:
        self._text = text
        self._gap = gap
        self._last_lines = last_lines
        self._for: tuple[int, int] | None = None
        self._lines: list[list[Segment]] = []

    @property
    def rows(self) -> int:
        """Rows that it had when it was printed."""
        return len(self._lines)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        size = (options.max_width, options.size.height)
        if size != self._for:
            self._for, self._lines = size, self._rendered(console, options)
        for line in self._lines:
            yield from line
            yield Segment.line()

    def _rendered(self, console: Console, options: ConsoleOptions) -> list[list[Segment]]:
        if not self._text.strip():
            return []
        markdown = Markdown("", code_theme="ansi_dark", hyperlinks=False)
        markdown.parsed = _parsed(self._text)
        found = console.render_lines(markdown, options.update(height=None), pad=False)
        lines = [list(_safe(line)) for line in found]
        if self._gap:
            lines.insert(0, [])
        if self._last_lines:
            # What has left the screen above cannot be painted again.
            lines = lines[-max(options.size.height - 2, 1) :]
        return lines


def _safe(line: Sequence[Segment]) -> Iterator[Segment]:
    for segment in line:
        if not segment.control:
            style = segment.style.update_link(None) if segment.style else None
            yield Segment(printable(segment.text).replace("\n", " "), style)


@cache
def _parser() -> MarkdownIt:
    # HTML would vanish; so it is shown as it is.
    return MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])


@cache
def _outliner() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
    parser.core.ruler.disable("inline")
    return parser


def _parsed(text: str) -> list[Token]:
    return [_printable(token) for token in _parser().parse(text)]


def _printable(token: Token) -> Token:
    token.content = printable(token.content)
    token.info = printable(token.info)
    for name, value in token.attrs.items():
        if isinstance(value, str):
            token.attrs[name] = printable(value)
    token.children = [_printable(child) for child in token.children or ()] or token.children
    return token


def _reopened(blocks: Sequence[Token], text: str) -> str:
    """What begins the block anew that ``text`` leaves open, where that is a block of code."""
    if not blocks or blocks[-1].type != "fence":
        return ""
    fence = blocks[-1]
    *_, last = text.rstrip("\n").split("\n")
    closed = last.strip().startswith(fence.markup)
    return "" if closed else f"{fence.markup}{fence.info}\n"
