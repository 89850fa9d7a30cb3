"""A terminal in memory."""

from __future__ import annotations

import io
import re


class Screen(io.StringIO):
    """Terminal that records its output and renders it.

    Attributes:
        columns: Width in cells; None for lines of any length.
    """

    columns: int | None = None

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Return the rows that a terminal would show, without colours."""
        lines, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\n|\r|[^\x1b\n\r]", self.getvalue()):
            if part == "\r":
                column = 0
            elif part.endswith("A") and part[0] == "\x1b":
                row -= int(part[2:-1] or 1)
                assert row >= 0, "above the first line"
            elif part == "\x1b[2K":
                lines[row] = ""
            elif part == "\x1b[J":
                lines[row:] = [lines[row][:column]]
            elif part[0] != "\x1b":
                if part == "\n" or column == self.columns:
                    row, column = row + 1, 0
                    lines += [""] * (row + 1 - len(lines))
                if part != "\n":
                    lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + 1 :]
                    column += 1
        return [line.rstrip() for line in lines]
