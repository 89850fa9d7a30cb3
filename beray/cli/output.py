"""What the command writes: the one place that touches stdout and stderr.

Results go to stdout, everything else to stderr. Text from outside passes
``beray.sanitize`` here; there is no other way from it to a terminal.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TextIO

from beray.sanitize import UNFINISHED_OUTPUT, one_line, printable, printable_output
from beray.transfers import wire_names

LONGEST_NOTE: Final = 2000
"""Characters of a line on stderr."""

_BREAKS_A_CELL = {ord("\t"): "\u2409", ord("\n"): "\u240a"}


class _Closed(io.TextIOBase):
    """In the place of a stdout that was closed before the program began."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "stdout is closed")


def prepare() -> None:
    """Make stdout and stderr usable.

    No character ends the program because the terminal's encoding lacks it. Python has
    nothing for a stream that is closed: what goes to such a stderr is lost, what goes to
    such a stdout is an ``OSError``.
    """
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody sits behind ``stream``; a closed or missing one is nobody."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def is_dumb(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the terminal has no control sequences, as far as ``TERM`` says."""
    return environ.get("TERM") in ("dumb", "unknown")


def can_ask() -> bool:
    """Whether a question on stderr can be answered on stdin."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def line(text: str) -> None:
    """Write a line of a result; its newlines stay."""
    sys.stdout.write(printable(text) + "\n")


def row(cells: Iterable[str]) -> None:
    """Write cells with tabs between them, for a program to read."""
    sys.stdout.write("\t".join(cell(text) for text in cells) + "\n")


def json_line(value: Any) -> None:
    """Write one JSON object on a line. It is ASCII, so nothing in it acts on a terminal."""
    sys.stdout.write(json.dumps(value, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def path_text(path: str | os.PathLike[str]) -> str:
    """Return a local path for JSON, in which undecodable bytes are escaped as on the wire."""
    return wire_names.encode(os.fsencode(path))


def note(text: str) -> None:
    """Say something on stderr, in one line."""
    sys.stderr.write(one_line(text, LONGEST_NOTE) + "\n")
    sys.stderr.flush()


def quotation(text: str) -> None:
    """Give lines of somebody else's on stderr, with the blanks that they begin with."""
    for part in printable(text).rstrip().split("\n"):
        sys.stderr.write(f"| {part[:LONGEST_NOTE].expandtabs()}".rstrip() + "\n")
    sys.stderr.flush()


def problem(text: str) -> None:
    """Say on stderr, in one line, why the command does not do what was asked."""
    note(f"beray: {text}")


def prompt(text: str) -> None:
    """Write a question to stderr and leave the cursor behind it."""
    sys.stderr.write(one_line(text, LONGEST_NOTE) + " ")
    sys.stderr.flush()


def cell(text: str) -> str:
    """Return ``text`` printable, and free of what separates cells and lines."""
    return printable(text).translate(_BREAKS_A_CELL)


def table(rows: Sequence[Sequence[str]]) -> None:
    """Write aligned columns; the last is cut to the width of the terminal."""
    from rich.cells import cell_len, set_cell_size

    cells = [[cell(text) for text in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    last = max(shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * len(widths[:-1]), 10)
    for line_cells in cells:
        padded = [
            set_cell_size(text, width) for text, width in zip(line_cells, widths[:-1], strict=False)
        ]
        rest = line_cells[-1]
        if cell_len(rest) > last:
            rest = set_cell_size(rest, last - 1) + "\u2026"
        sys.stdout.write("  ".join([*padded, rest]).rstrip() + "\n")


def raw(blocks: Iterable[bytes]) -> None:
    """Write bytes to stdout as they are. Not for a terminal."""
    sys.stdout.write("")  # a closed one says so
    sys.stdout.flush()
    for block in blocks:
        sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()


class Flow:
    """Text that arrives in pieces, written to stdout as it comes.

    A colour sequence or CRLF that is cut in two is put together again before it is
    made printable. ``note`` writes to stderr without landing in the middle of a line.

    Args:
        redraws: whether a carriage return writes over its line, as in the output of a program;
            otherwise, and on a terminal that cannot erase, it begins a new line.
    """

    def __init__(self, *, redraws: bool = True) -> None:
        self._held = ""
        self._redraws = redraws and not (is_terminal(sys.stdout) and is_dumb())
        self._in_line = False
        self._since: list[str] | None = None
        """What was written since ``mark``; None if it cannot be erased."""
        self._columns = 0

    def mark(self) -> None:
        """Remember this place, in order to ``erase`` what follows."""
        self._release()
        can_erase = is_terminal(sys.stdout) and not is_dumb()
        self._since = [] if can_erase and not self._in_line else None
        self._columns = shutil.get_terminal_size().columns

    def erase(self) -> bool:
        """Remove what was written since ``mark`` from the terminal.

        Returns False, and changes nothing, if stdout is no terminal, or if not all of it is on
        the screen below the mark.
        """
        written, self._since = self._since, None
        size = shutil.get_terminal_size()
        if written is None or size.columns != self._columns:
            return False
        rows = _rows_above("".join(written), size.columns)
        if rows is None or rows >= size.lines:
            return False
        self._held = ""
        sys.stdout.write("\r" + (f"\x1b[{rows}A" if rows else "") + "\x1b[J")
        sys.stdout.flush()
        self._in_line = False
        return True

    def write(self, text: str) -> None:
        text = self._held + text
        unfinished = UNFINISHED_OUTPUT.search(text)
        end = unfinished.start() if unfinished else len(text)
        self._held = text[end:]
        self._write(text[:end])

    def note(self, text: str) -> None:
        self._release()
        if self._in_line and is_terminal(sys.stdout) and is_terminal(sys.stderr):
            self._write("\n")
        if is_terminal(sys.stderr):
            self._since = None
        note(text)

    def end_line(self) -> None:
        """Begin a new line where one has been begun."""
        self._release()
        if self._in_line:
            self._write("\n")

    def finish(self) -> None:
        """Give what was held back; leave a terminal's cursor at the start of a line."""
        self._release()
        if self._in_line and is_terminal(sys.stdout):
            self._write("\n")

    def _release(self) -> None:
        held, self._held = self._held, ""
        # Nothing follows that would write over the line: it stays.
        self._write(held.rstrip("\r") if is_terminal(sys.stdout) else held)

    def _write(self, text: str) -> None:
        if text:
            shown = printable_output(text) if self._redraws else printable(text)
            if "\r" in shown and is_terminal(sys.stdout):
                shown = shown.replace("\r", "\r\x1b[K")
            sys.stdout.write(shown)
            sys.stdout.flush()
            if shown:
                self._in_line = not shown.endswith("\n")
            if self._since is not None:
                self._since.append(shown)


def _rows_above(text: str, columns: int) -> int | None:
    """Return how many rows above the cursor ``text`` begins; None if that is unknown."""
    from rich.cells import cell_len

    if "\r" in text or "\x1b" in text or ("\t" in text and not text.isascii()):
        return None
    *lines, last = (cell_len(line.expandtabs()) for line in text.split("\n"))
    above = sum(max(1, -(-cells // columns)) for cells in lines)
    return above + max(0, -(-last // columns) - 1)


def discard_stdout() -> None:
    """Forget what is still unwritten, so that nobody complains about it at exit."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
