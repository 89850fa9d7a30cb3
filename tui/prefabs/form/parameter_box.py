"""Form control for one parameter."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Checkbox, Input, Select, Static, TextArea
from textual.widgets.text_area import Edit, EditResult

from beray.sanitize import printable
from tui import sanitize
from tui.composer.attachment_list import MUTED
from tui.composer.sanitized_input import SanitizedInput
from tui.prefabs.form.field_widget import FormControl
from tui.prefabs.form.schema import FieldKind, ParameterField, as_json, display_value
from tui.widgets.field import FieldInput

_ALL = "all parameters"
_FURTHER = "further parameters"
_LONG = frozenset({FieldKind.LONG_TEXT, FieldKind.LIST, FieldKind.JSON})
_YES_OR_NO = (("yes", "true"), ("no", "false"))


class LongText(TextArea):
    """Text area that makes all text printable, so that what is displayed is what is sent."""

    def edit(self, edit: Edit) -> EditResult:
        edit.text = printable(edit.text)
        return super().edit(edit)


class ParameterBox(FormControl):
    """Form control for one parameter. Posts ``Changed``."""

    class Changed(Message):
        """The text of the control has changed."""

    def __init__(self, field: ParameterField, text: str, *, id: str) -> None:
        super().__init__(id=id)
        self.field = field
        self._initial = text

    def compose(self) -> ComposeResult:
        field = self.field
        box = self._box()
        box.add_class("box")
        if not isinstance(box, Checkbox):
            box.border_title = self._title()
        yield box
        words = " ".join(field.description.split())
        about = [sanitize.line(words, 400)] if words else []
        if field.hint:
            about.append(sanitize.line(field.hint, 200, MUTED))
        label = Static(Content("  ").join(about), classes="about", markup=False)
        label.display = bool(about)
        yield label
        yield Static(classes="problem", markup=False)

    def _title(self) -> Content:
        name = self.field.name
        if not name:
            name = _ALL if "properties" in self.field.schema or self.field.required else _FURTHER
        return sanitize.line(f"{name} *" if self.field.required else name, 60)

    def _box(self) -> Widget:
        field, text = self.field, self._initial
        if field.kind is FieldKind.CHOICE:
            choices = [(display_value(one), as_json(one)) for one in field.choices]
            return _select(choices, text, required=field.required)
        if field.kind is FieldKind.FLAG:
            if field.initial:
                return Checkbox(self._title(), text == "true", compact=True)
            return _select(_YES_OR_NO, text, required=field.required)
        if field.kind in _LONG:
            area = LongText(printable(text), highlight_cursor_line=False, tab_behavior="focus")
            area.set_class(field.kind is FieldKind.LIST, "short")
            return area
        if field.secret:
            return FieldInput(text, True, None)
        return SanitizedInput(text, select_on_focus=False)

    @property
    def box(self) -> Widget:
        """Widget that contains the value."""
        return self.query_one(".box")

    @property
    def text(self) -> str:
        """Current text of the control."""
        box = self.box
        if isinstance(box, Select):
            return "" if box.value is Select.NULL else str(box.value)
        if isinstance(box, Checkbox):
            return as_json(box.value)
        assert isinstance(box, (Input, TextArea))
        return box.value if isinstance(box, Input) else box.text

    @on(Input.Changed)
    @on(TextArea.Changed)
    @on(Checkbox.Changed)
    @on(Select.Changed)
    def _changed(self, event: Message) -> None:
        event.stop()
        self.clear_problem()
        self.post_message(self.Changed())


def _select(
    choices: list[tuple[str, str]] | tuple[tuple[str, str], ...], text: str, *, required: bool
) -> Select[str]:
    known = any(text == value for _, value in choices)
    # Rich text, because the select widget searches it for typed characters.
    options = [(sanitize.rich_line(shown, 200), value) for shown, value in choices]
    return Select(
        options,
        prompt="choose" if required else "none",
        allow_blank=not (required and known),
        value=text if known else Select.NULL,
        compact=False,
    )
