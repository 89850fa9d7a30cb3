"""Progress bars of transfers. They are shown only if stderr is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from beray.cli import output
from beray.sanitize import one_line
from beray.transfers.transfer import Transfer

StartBar = Callable[[str], Transfer]
"""Start a bar with this name, and return the transfer handle that advances it."""


@contextmanager
def progress_bars() -> Iterator[StartBar]:
    """Return a function that starts a bar. At the end, the bar is removed."""
    if not output.is_terminal(sys.stderr):
        yield lambda name: Transfer()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    # Results may be written to stdout at the same time, so stdout is not redirected.
    console = Console(stderr=True)
    shown: list[TaskID] = []
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:

        def start_bar(name: str) -> Transfer:
            while shown:
                progress.remove_task(shown.pop())
            bar = progress.add_task(one_line(name, 40), total=None)
            shown.append(bar)
            return Transfer(lambda done, total: progress.update(bar, completed=done, total=total))

        yield start_bar
