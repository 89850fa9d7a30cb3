"""Lines of text out of the tags of a page: paragraphs, headings, lists, tables."""

from __future__ import annotations

import re

_SPACES = re.compile(r"[ \t\n]+")
_PARAGRAPHS = (
    {"address", "article", "aside", "body", "details", "div", "figcaption", "figure", "footer"}
    | {"header", "hr", "legend", "main", "nav", "p", "section", "summary"}
    | {"blockquote", "dl", "fieldset", "form", "ol", "pre", "table", "ul"}
    | {"h1", "h2", "h3", "h4", "h5", "h6"}
)
_LINES = {"li", "dt", "dd", "tr", "caption"}
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_DEEPEST_LIST = 8


class Blocks:
    """Collects text; whitespace is folded as a browser does it.

    A table becomes a line for each row, its cells apart by tabs, or a Markdown table. One that
    stands in a table is taken for layout: its cells become lines.
    """

    def __init__(self, *, markdown: bool) -> None:
        self._markdown = markdown
        self._out: list[str] = []
        self._line: list[str] = []
        self._empty = True
        """Nothing but whitespace is in the line."""
        self._breaks = 0
        """Line ends that come before the next text."""
        self._prefix = ""
        self._lists: list[int | None] = []
        """Of each list that is open: the number of its last item, or none."""
        self._verbatim = 0
        self._tables = 0
        self._cells: list[list[str]] = []
        self._rows = 0

    def text(self) -> str:
        """All of it, with a line end."""
        self._end_line(1)
        text = "".join(self._out).strip("\n")
        return text + "\n" if text else ""

    def say(self, text: str) -> None:
        """Text that stands in the page."""
        if text:
            self._line.append(text)
            self._empty = self._empty and not text.strip()

    def start(self, tag: str) -> None:
        """A tag begins."""
        if tag == "br":
            if self._verbatim:
                self._line.append("\n")
            else:
                self._end_line(1)
            return
        if tag in ("td", "th") and self._tables == 1:
            self._end_line(1)
            self._cells.append([])
            return
        if tag in ("ul", "ol"):
            self._end_line(1 if self._lists else 2)
            self._lists.append(0 if tag == "ol" else None)
            return
        if tag in _PARAGRAPHS:
            self._end_line(2)
        elif tag in _LINES:
            self._end_line(1)
        if tag == "table":
            self._tables += 1
            if self._tables == 1:
                self._rows = 0
        elif tag == "tr" and self._tables == 1:
            self._end_row()
        elif tag == "pre":
            self._verbatim += 1
            if self._markdown and self._verbatim == 1:
                self._fence()
        elif tag == "li":
            self._prefix = self._bullet()
        elif tag in _HEADINGS and self._markdown:
            self._prefix = _HEADINGS[tag]
        elif tag == "hr" and self._markdown and not self._in_cell():
            self.say("---")
            self._end_line(2)

    def end(self, tag: str) -> None:
        """A tag ends."""
        if tag in ("td", "th") and self._tables == 1:
            self._end_line(1)
            return
        if tag in ("ul", "ol"):
            if self._lists:
                self._lists.pop()
            self._end_line(1 if self._lists else 2)
            return
        if tag == "pre" and self._verbatim:
            self._end_line(1)
            self._verbatim -= 1
            if self._markdown and not self._verbatim:
                self._fence()
        if tag in _PARAGRAPHS:
            self._end_line(2)
        elif tag in _LINES:
            self._end_line(1)
        if tag == "tr" and self._tables == 1:
            self._end_row()
        elif tag == "table" and self._tables:
            if self._tables == 1:
                self._end_row()
                self._breaks = max(self._breaks, 2)
            self._tables -= 1

    def _in_cell(self) -> bool:
        return bool(self._cells)

    def _bullet(self) -> str:
        if not self._lists:
            return "- "
        indent = "  " * min(len(self._lists) - 1, _DEEPEST_LIST)
        number = self._lists[-1]
        if number is None:
            return f"{indent}- "
        self._lists[-1] = number + 1
        return f"{indent}{number + 1}. "

    def _fence(self) -> None:
        if not self._in_cell():
            self._write("```", 1)
            self._breaks = 1

    def _end_line(self, breaks: int) -> None:
        """What was said becomes a line, or a part of the cell that is open."""
        if not self._empty:
            text = "".join(self._line)
            if not self._verbatim or self._in_cell():
                text = _SPACES.sub(" ", text).strip(" ")
            else:
                text = text.strip("\n")
            if self._in_cell():
                self._cells[-1].append(text)
            else:
                self._write(self._prefix + text, 1)
                self._breaks = 1
            self._prefix = ""
        self._line.clear()
        self._empty = True
        self._breaks = max(self._breaks, breaks)

    def _end_row(self) -> None:
        cells = [" ".join(cell) for cell in self._cells]
        self._cells.clear()
        if not any(cells):
            return
        if self._markdown:
            self._write("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |", 1)
            if self._rows == 0:
                self._out.append("\n|" + " --- |" * len(cells))
        else:
            self._write("\t".join(cells).rstrip(), 1)
        self._rows += 1
        self._breaks = 1

    def _write(self, line: str, least: int) -> None:
        self._out.append("\n" * max(self._breaks, least) + line)
        self._breaks = 0
