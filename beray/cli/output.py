"""Output of the command. No other module writes to stdout or stderr.

Results go to stdout, everything else to stderr. External text is sanitized here by
``beray.sanitize`` before it reaches a terminal.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, TextIO

from beray.sanitize import one_line, printable, printable_output, split_unfinished
from beray.transfers import wire_names

MAX_NOTE_CHARS: Final = 2000
"""Maximum length of a line on stderr, in characters."""

_CELL_SEPARATORS = {ord("\t"): "\u2409", ord("\n"): "\u240a"}
# In a line of a file, these are shown as well. ``printable`` would remove or break lines at them.
_LINE_CONTROLS = {ord("\r"): "\u240d", ord("\x1b"): "\u241b", ord("\n"): "\u240a"}
_SGR: Final = {
    "": "", "bold": "\x1b[1m", "red": "\x1b[31m", "green": "\x1b[32m", "yellow": "\x1b[33m",
    "cyan": "\x1b[36m",
}  # fmt: skip
_SGR_RESET: Final = "\x1b[m"

Span = tuple[str, str]
"""Text and its style: "", "bold", or the name of a colour."""


class _ClosedStdout(io.TextIOBase):
    """Replacement of a stdout that was closed before the program started."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "stdout is closed")


def prepare() -> None:
    """Make stdout and stderr usable.

    Characters that the terminal's encoding lacks are escaped. Python sets a closed stream to
    None: output to a closed stderr is discarded, output to a closed stdout raises ``OSError``.
    """
    if sys.stdout is None:
        sys.stdout = _ClosedStdout()
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - stays open until exit
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def is_terminal(stream: TextIO) -> bool:
    """Return True if ``stream`` is a terminal, False if it is not, or is closed or None."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def is_dumb_terminal(environ: Mapping[str, str] = os.environ) -> bool:
    """Return True if ``TERM`` names a terminal without control sequences."""
    return environ.get("TERM") in ("dumb", "unknown")


def has_colours(environ: Mapping[str, str] = os.environ) -> bool:
    """Return True if stdout is a terminal with control sequences, and ``NO_COLOR`` is not set."""
    plain = is_dumb_terminal(environ) or bool(environ.get("NO_COLOR"))
    return is_terminal(sys.stdout) and not plain


def can_prompt() -> bool:
    """Return True if stdin and stderr are terminals, so that the user can answer a question."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def line(text: str) -> None:
    """Write a line of a result to stdout. Newlines in it are kept."""
    sys.stdout.write(printable(text) + "\n")


def row(cells: Iterable[str]) -> None:
    """Write tab-separated cells, to be read by a program."""
    sys.stdout.write("\t".join(cell(text) for text in cells) + "\n")


def json_line(value: Any) -> None:
    """Write one JSON object on a line, in ASCII, so that it has no control characters."""
    sys.stdout.write(json.dumps(value, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def path_text(path: str | os.PathLike[str]) -> str:
    """Return a local path for JSON, with undecodable bytes escaped as in wire names."""
    return wire_names.encode(os.fsencode(path))


def note(text: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(one_line(text, MAX_NOTE_CHARS) + "\n")
    sys.stderr.flush()


def quote(text: str) -> None:
    """Write lines of external text to stderr, each with a ``|``. Indentation is kept."""
    for part in printable(text).rstrip().split("\n"):
        sys.stderr.write(f"| {part[:MAX_NOTE_CHARS].expandtabs()}".rstrip() + "\n")
    sys.stderr.flush()


def error(text: str) -> None:
    """Write one line to stderr about the reason why the command failed."""
    note(f"beray: {text}")


def prompt(text: str) -> None:
    """Write a question to stderr, without a newline."""
    sys.stderr.write(one_line(text, MAX_NOTE_CHARS) + " ")
    sys.stderr.flush()


def cell(text: str) -> str:
    """Return ``text`` sanitized, with symbols in place of tabs and newlines."""
    return printable(text).translate(_CELL_SEPARATORS)


def file_line(text: str) -> str:
    """Return a line of a file sanitized, with symbols in place of control characters."""
    return printable(text.translate(_LINE_CONTROLS)).replace("\n", "\u240a")


def styled_line(spans: Iterable[Span], stream: IO[str] | None = None) -> None:
    """Write a line of spans to stdout, or to a pager in its place; each is sanitized.

    The line has colours if stdout is a terminal that supports them.
    """
    colours = has_colours()
    parts: list[str] = []
    for text, style in spans:
        shown = file_line(text)
        sgr = _SGR[style] if colours and shown else ""
        parts.append(f"{sgr}{shown}{_SGR_RESET}" if sgr else shown)
    (stream or sys.stdout).write("".join(parts) + "\n")


def table(rows: Sequence[Sequence[str]]) -> None:
    """Write aligned columns. The last column is truncated to the width of the terminal."""
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


def write_bytes(blocks: Iterable[bytes]) -> None:
    """Write bytes to stdout unchanged. Not for a terminal."""
    sys.stdout.write("")  # raises if stdout is closed
    sys.stdout.flush()
    for block in blocks:
        sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()


class TextWriter:
    """Writer for text that arrives in chunks and is written to stdout at once.

    A colour sequence or CRLF that is split between chunks is joined before it is sanitized.
    ``note`` starts a new line if stdout and stderr are the same terminal.

    Args:
        redraws: Whether a carriage return overwrites its line, as in the output of a program.
            Otherwise, and on a terminal without control sequences, it starts a new line.
    """

    def __init__(self, *, redraws: bool = True) -> None:
        self._held = ""
        self._redraws = redraws and not (is_terminal(sys.stdout) and is_dumb_terminal())
        self._in_line = False
        self._since: list[str] | None = None
        """Text written since ``mark``; None if it cannot be erased."""
        self._columns = 0

    def mark(self) -> None:
        """Save the current position. ``erase`` removes the text after it."""
        self._release()
        can_erase = is_terminal(sys.stdout) and not is_dumb_terminal()
        self._since = [] if can_erase and not self._in_line else None
        self._columns = shutil.get_terminal_size().columns

    def erase(self) -> bool:
        """Remove the text written since ``mark`` from the terminal.

        Returns:
            False, without any change, if stdout is not a terminal, or if a part of the text has
            left the screen or cannot be measured.
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
        """Write a chunk. An incomplete control sequence at its end waits for the next chunk."""
        complete, self._held = split_unfinished(self._held + text)
        self._write(complete)

    def note(self, text: str) -> None:
        """Write one line to stderr, after the text so far."""
        self._release()
        if self._in_line and is_terminal(sys.stdout) and is_terminal(sys.stderr):
            self._write("\n")
        if is_terminal(sys.stderr):
            self._since = None
        note(text)

    def end_line(self) -> None:
        """End the current line if it is not empty."""
        self._release()
        if self._in_line:
            self._write("\n")

    def finish(self) -> None:
        """Write the rest. On a terminal, end the current line."""
        self._release()
        if self._in_line and is_terminal(sys.stdout):
            self._write("\n")

    def _release(self) -> None:
        held, self._held = self._held, ""
        # After a trailing carriage return, no text follows that would overwrite the line.
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
    """Return the number of rows between the start of ``text`` and the cursor; None if unknown."""
    from rich.cells import cell_len

    if "\r" in text or "\x1b" in text or ("\t" in text and not text.isascii()):
        return None
    *lines, last = (cell_len(line.expandtabs()) for line in text.split("\n"))
    above = sum(max(1, -(-cells // columns)) for cells in lines)
    return above + max(0, -(-last // columns) - 1)


def discard_stdout() -> None:
    """Redirect stdout to the null device, so that Python's flush at exit does not fail."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
