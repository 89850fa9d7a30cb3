"""Dialog with fields that are sent to the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from beray.exceptions import APIError, BeRayException
from tui import messages, sanitize
from tui.io import background
from tui.state.current_server import CurrentServer
from tui.widgets.field import Field

_UNAUTHENTICATED: Final = 401


class FormScreen(ModalScreen[bool]):
    """Dialog that sends its fields and stays open until the server accepts them.

    The result is True if the server accepted them, and None if the user cancelled.

    Args:
        server: Account in use. Its client is read when the form is sent.
    """

    HEADING: ClassVar[str]
    SUBMIT: ClassVar[str]
    """Label of the button that sends the form."""
    VERB: ClassVar[str] = "continues"
    """Effect of enter in the last field, for the border."""
    FIELDS: ClassVar[dict[str, str]] = {}
    """Widget ids by the names of the fields in a validation error of the server."""
    DESTRUCTIVE: ClassVar[bool] = False
    """True if the action cannot be undone."""

    CSS_PATH = "form_screen.tcss"
    AUTO_FOCUS = "Field Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        # Priority, so that it takes effect before the keys typed after it are dispatched.
        Binding("enter", "next_field", show=False, priority=True),
        Binding("escape", "cancel", "Cancel"),
    ]

    def __init__(self, server: CurrentServer) -> None:
        super().__init__()
        self._server = server
        self._busy = False

    def compose_fields(self) -> ComposeResult:
        """Yield the widgets between the title and the buttons."""
        raise NotImplementedError

    def submit(self) -> None:
        """Check the fields and send them."""
        raise NotImplementedError

    def place_of(self, error: Exception) -> str:
        """Return the id of the field that a rejection without a field refers to."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog form") as dialog:
            dialog.border_title = self.HEADING
            dialog.border_subtitle = f"enter {self.VERB} · esc {self.cancel_verb}"
            yield from self.compose_fields()
            yield Static(classes="progress", markup=False)
            with Horizontal(classes="buttons"):
                variant = "error" if self.DESTRUCTIVE else "primary"
                yield Button(self.SUBMIT, variant=variant, id="submit")  # type: ignore[arg-type]
                yield Button(self.cancel_label, id="cancel")

    @property
    def cancel_label(self) -> str:
        """Label of the button that closes the dialog."""
        return "Cancel"

    @property
    def cancel_verb(self) -> str:
        """Effect of escape, for the border."""
        return "cancels"

    # Fields

    def field(self, name: str) -> Field:
        """Return the field with an id."""
        return self.query_one(f"#{name}", Field)

    @property
    def _following(self) -> Field | None:
        """Visible field after the focused one."""
        shown = [field for field in self.query(Field) if field.display and not field.disabled]
        # The footer and the help also call this before the inputs are mounted.
        at = next(
            (
                place
                for place, field in enumerate(shown)
                if self.focused is not None and self.focused in list(field.query(Input))
            ),
            len(shown),
        )
        return shown[at + 1] if at + 1 < len(shown) else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "next_field" or self._following is not None

    def action_next_field(self) -> None:
        following = self._following
        if following is not None:
            following.focus_input()

    # Requests

    @on(Input.Submitted)
    @on(Button.Pressed, "#submit")
    def _submitted(self) -> None:
        if not self._busy:
            self.submit()

    def send(self, progress: str, action: str, work: Callable[[], Message]) -> None:
        """Run ``work`` in a thread and post its message to this screen.

        Args:
            progress: Shown until the result arrives.
            action: Completes the sentence "Could not …".
            work: Sends the request. Blocks.
        """
        self.wait(progress)
        background.run(self, work, lambda error: messages.OperationFailed(action, error))

    def wait(self, progress: str) -> None:
        """Show ``progress`` and disable the form; "" enables it again."""
        self._busy = bool(progress)
        self.show_progress(progress)
        self.query_one("#submit", Button).disabled = self._busy

    def show_progress(self, text: str) -> None:
        """Show a progress message or a result above the buttons."""
        shown = self.query_one(".progress", Static)
        shown.update(sanitize.line(text) if text else Content(""))
        shown.display = bool(text)

    def on_operation_failed(self, message: messages.OperationFailed) -> None:
        message.stop()
        self.wait("")
        error = message.error
        if isinstance(error, APIError) and error.status_code == _UNAUTHENTICATED:
            self.post_message(messages.SessionEnded(sanitize.error_text(error)))
            return
        named = self.FIELDS.get(sanitize.invalid_field(error) or "")
        if named is None and isinstance(error, (BeRayException, OSError)):
            named = self.place_of(error)
        self.field(named or self.query(Field).first().id or "").show_problem(
            sanitize.error_text(error)
        )

    @on(Button.Pressed, "#cancel")
    async def _cancel_pressed(self) -> None:
        await self.action_cancel()

    async def action_cancel(self) -> None:
        self.dismiss(None)
