"""Progress of transfers: bars on a terminal, nothing in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from beray.cli import output
from beray.sanitize import one_line
from beray.transfers.transfer import Transfer

Bars = Callable[[str], Transfer]
"""Called with what is transferred next; gives the handle that moves its bar."""


@contextmanager
def bars() -> Iterator[Bars]:
    """Give a function that begins a bar. The bars vanish at the end."""
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
    # A result may go to stdout at the same time; it is none of the bars' business.
    console = Console(stderr=True)
    shown: list[TaskID] = []
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:

        def begin(name: str) -> Transfer:
            while shown:
                progress.remove_task(shown.pop())
            bar = progress.add_task(one_line(name, 40), total=None)
            shown.append(bar)
            return Transfer(lambda done, total: progress.update(bar, completed=done, total=total))

        yield begin
