"""Progress dialog for a task or message with attachments."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, ProgressBar, Static

from beray.transfers.transfer import Transfer
from tui import sanitize, status
from tui.composer import messages
from tui.composer.sending import SubmitResult
from tui.io import background
from tui.messages import TransferAdvanced

_STEP_BYTES = 256 * 1024
"""Number of bytes between two updates of the progress."""


class SendingScreen(ModalScreen[SubmitResult | Exception]):
    """Dialog that sends a task or message and returns the result or the exception.

    If the user cancels, it returns ``TransferCancelled``.

    Args:
        subject: Goal or message, shown as the subject.
        work: Sends everything; called in a background thread.
    """

    CSS_PATH = "picker.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, subject: str, work: Callable[[Transfer], SubmitResult]) -> None:
        super().__init__()
        self._subject = subject
        self._work = work
        self._transfer = Transfer(self._progress())

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Sending"
            dialog.border_subtitle = "esc cancels"
            yield Static(sanitize.line(self._subject, 200), classes="subject", markup=False)
            yield ProgressBar(show_eta=False)
            yield Static("Inspecting the files …", id="amount", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel")

    def on_mount(self) -> None:
        work, transfer = self._work, self._transfer
        self.app.transfers.append(  # type: ignore[attr-defined]
            background.run(
                self,
                lambda: messages.SendCompleted(work(transfer)),
                messages.SendFailed,
            )
        )

    def on_unmount(self) -> None:
        self._transfer.cancel()

    def _progress(self) -> Callable[[int, int | None], None]:
        reported = -_STEP_BYTES

        def advanced(done: int, total: int | None) -> None:
            nonlocal reported
            if done - reported >= _STEP_BYTES or done == total:
                reported = done
                background.deliver(self, TransferAdvanced(done, total))

        return advanced

    def on_transfer_advanced(self, message: TransferAdvanced) -> None:
        message.stop()
        self.query_one(ProgressBar).update(total=message.total, progress=message.done)
        amount = f"{status.size(message.done)} of {status.size(message.total or 0)}"
        self.query_one("#amount", Static).update(Content(amount))

    def on_send_completed(self, message: messages.SendCompleted) -> None:
        message.stop()
        self.dismiss(message.sent)

    def on_send_failed(self, message: messages.SendFailed) -> None:
        message.stop()
        self.dismiss(message.error)

    def action_cancel(self) -> None:
        # The dialog closes when the incomplete task has been deleted.
        self._transfer.cancel()
        self.query_one("#amount", Static).update(Content("Cancelling …"))
        self.query_one("#cancel", Button).disabled = True

    def on_button_pressed(self) -> None:
        self.action_cancel()
