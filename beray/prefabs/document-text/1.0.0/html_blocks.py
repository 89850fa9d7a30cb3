"""Conversion of HTML tags to lines of text: paragraphs, headings, lists and tables."""

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
_MAX_LIST_DEPTH = 8


class Blocks:
    """Collector of the text of a page. Whitespace is collapsed as in a browser.

    A table becomes one line for each row with tab-separated cells, or a Markdown table. A table
    within a table is treated as layout: its cells become lines.
    """

    def __init__(self, *, markdown: bool) -> None:
        self._markdown = markdown
        self._out: list[str] = []
        self._line: list[str] = []
        self._empty = True
        """True while the current line contains only whitespace."""
        self._breaks = 0
        """Number of newlines to write before the next text."""
        self._prefix = ""
        self._lists: list[int | None] = []
        """Number of the last item of each open list; None for a bulleted list."""
        self._verbatim = 0
        self._tables = 0
        self._cells: list[list[str]] = []
        self._rows = 0

    def text(self) -> str:
        """Return the whole text with a newline at its end; an empty page returns ``""``."""
        self._end_line(1)
        text = "".join(self._out).strip("\n")
        return text + "\n" if text else ""

    def add_text(self, text: str) -> None:
        """Add text to the current line."""
        if text:
            self._line.append(text)
            self._empty = self._empty and not text.strip()

    def start(self, tag: str) -> None:
        """Handle the start of an element."""
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
            self.add_text("---")
            self._end_line(2)

    def end(self, tag: str) -> None:
        """Handle the end of an element."""
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
        indent = "  " * min(len(self._lists) - 1, _MAX_LIST_DEPTH)
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
        """Write the collected text as a line, or add it to the open table cell."""
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

    def _write(self, line: str, min_breaks: int) -> None:
        self._out.append("\n" * max(self._breaks, min_breaks) + line)
        self._breaks = 0
