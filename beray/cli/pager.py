"""Pager for long output, chosen like that of git."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from beray.cli import output

_DEFAULT: Final = ("less", "-FRX")
_DEFAULT_OPTIONS: Final = {"LESS": "FRX", "LV": "-c"}
"""Options of pagers that the user's environment does not set: show colours and short output."""


def show(lines: Iterable[Iterable[output.Span]], *, use_pager: bool = True) -> None:
    """Write lines to stdout, through a pager if stdout is a terminal.

    The pager is ``PAGER``, or ``less`` if it is installed. An empty ``PAGER``, ``cat`` and a
    terminal without control sequences need none.

    Args:
        lines: Lines as spans, which are sanitized.
        use_pager: False writes them directly.
    """
    command = pager_command() if use_pager and output.is_terminal(sys.stdout) else None
    process = None if command is None else _start(command)
    if process is None:
        for line in lines:
            output.styled_line(line)
        return
    assert process.stdin is not None
    with _ignored_interrupts():
        try:
            # The user may leave the pager before the end.
            with suppress(BrokenPipeError):
                for line in lines:
                    output.styled_line(line, process.stdin)
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()


def pager_command(environ: Mapping[str, str] = os.environ) -> list[str] | None:
    """Return the command line of the pager, or None if there is none."""
    if output.is_dumb_terminal(environ):
        return None
    chosen = environ.get("PAGER")
    if chosen is None:
        return list(_DEFAULT) if shutil.which(_DEFAULT[0]) else None
    try:
        command = shlex.split(chosen, posix=os.name == "posix")
    except ValueError:
        output.note(f"-- PAGER is not a valid command line and is not used: {chosen[:100]!r}")
        return None
    return None if command in ([], ["cat"]) else command


def _start(command: list[str]) -> subprocess.Popen[str] | None:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            env=_DEFAULT_OPTIONS | os.environ,
            encoding=sys.stdout.encoding,
            errors="backslashreplace",
        )
    except OSError as error:
        output.note(f"-- the pager {command[0]!r} cannot be started: {error.strerror or error}")
        return None


@contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C, which is meant for the pager."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
