"""Dialog that downloads a file and shows the progress."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Checkbox, Input, ProgressBar, Static

from beray.exceptions import TransferCancelled
from beray.sanitize import one_line
from beray.transfers import wire_names
from beray.transfers.local_names import on_disk
from beray.transfers.transfer import Transfer
from tui import messages, sanitize, status
from tui.composer.dropped import dropped_paths
from tui.controllers.interfaces import Download
from tui.io import background
from tui.widgets.field import Field

_STEP_BYTES = 256 * 1024


class SaveScreen(ModalScreen[Path | None]):
    """Dialog that returns the path of the complete file, or None if the user cancelled.

    Args:
        title: Description of the file, already sanitized.
        suggested: Initial value of the path.
        download: Downloads the file. Called in a thread.
    """

    AUTO_FOCUS = "#target Input"
    CSS_PATH = "save.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, title: Content, suggested: Path, download: Download) -> None:
        super().__init__()
        self._title = title
        self._suggested = suggested
        self._download = download
        self._transfer: Transfer | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Save"
            dialog.border_subtitle = "enter saves · esc cancels"
            yield Static(self._title, classes="subject", markup=False)
            yield Field("To", id="target", value=_shown(self._suggested), whole=_dropped_path)
            yield Checkbox("Overwrite an existing file", id="overwrite", compact=True)
            with Vertical(id="progress") as progress:
                progress.display = False
                yield ProgressBar(id="transfer", show_eta=False)
                yield Static(id="amount", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Save", variant="primary", id="save")
                yield Button("Cancel", id="cancel")

    def on_unmount(self) -> None:
        if self._transfer is not None:
            self._transfer.cancel()

    @on(Input.Submitted)
    @on(Button.Pressed, "#save")
    def _save(self) -> None:
        field = self.query_one("#target", Field)
        name = field.value.strip()
        if self._transfer is not None:
            return
        if not name:
            field.show_problem("Enter a path.")
            return
        target = Path(os.path.expanduser(on_disk(name)))  # noqa: PTH111 - does not raise
        overwrite = self.query_one("#overwrite", Checkbox).value
        transfer = Transfer(self._progress())
        self._transfer = transfer
        field.clear_problem()
        self._show_progress(True)
        self.app.transfers.append(  # type: ignore[attr-defined]
            background.run(
                self,
                lambda: messages.TransferDone(self._download(target, overwrite, transfer)),
                messages.TransferFailed,
            )
        )

    def _progress(self) -> Callable[[int, int | None], None]:
        """Return a progress callback that posts one message per ``_STEP_BYTES``."""
        told = -_STEP_BYTES

        def advanced(done: int, total: int | None) -> None:
            nonlocal told
            if done - told >= _STEP_BYTES or done == total:
                told = done
                background.deliver(self, messages.TransferAdvanced(done, total))

        return advanced

    def on_transfer_advanced(self, message: messages.TransferAdvanced) -> None:
        message.stop()
        self.query_one(ProgressBar).update(total=message.total, progress=message.done)
        amount = status.size(message.done)
        if message.total is not None:
            amount = f"{amount} of {status.size(message.total)}"
        self.query_one("#amount", Static).update(Content(amount))

    def on_transfer_done(self, message: messages.TransferDone) -> None:
        message.stop()
        self._transfer = None
        self.dismiss(message.path)

    def on_transfer_failed(self, message: messages.TransferFailed) -> None:
        message.stop()
        self._transfer = None
        if isinstance(message.error, TransferCancelled):
            return
        self._show_progress(False)
        error = message.error
        if isinstance(error, FileExistsError):
            text = "The file exists. Tick the box to overwrite it."
        elif isinstance(error, OSError) and error.strerror:
            text = error.strerror
        else:
            text = sanitize.error_text(error)
        self.query_one("#target", Field).show_problem(text)

    @on(Button.Pressed, "#cancel")
    def action_cancel(self) -> None:
        self.dismiss(None)

    def _show_progress(self, running: bool) -> None:
        self.query_one("#progress").display = running
        self.query_one("#overwrite").disabled = running
        self.query_one("#save", Button).disabled = running


def _dropped_path(pasted: str) -> str | None:
    """Return the path of a file that was dropped on the terminal; None for other text."""
    paths = dropped_paths(pasted)
    return one_line(_shown(paths[0]), 4096) if paths else None


def _shown(path: Path) -> str:
    """Return a local path in an editable form, without undecodable bytes."""
    return wire_names.encode(os.fsencode(path))
