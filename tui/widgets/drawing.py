"""Drawing helpers for widgets: styles of component classes and labels that rarely change."""

from __future__ import annotations

from rich.style import Style
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static


def foreground_style(widget: Widget, name: str) -> Style:
    """Return foreground, bold and italic of a component class, on any background."""
    style = widget.get_component_rich_style(name)
    return Style(color=style.color, bold=style.bold, italic=style.italic)


def background_style(widget: Widget, name: str) -> Style:
    """Return the background of a component class, and whether it is bold."""
    style = widget.get_component_rich_style(name)
    return Style(bgcolor=style.bgcolor, bold=style.bold)


def update_label(label: Static, text: Content, style: str = "") -> None:
    """Set the text of a one-line label, redrawing it only if necessary.

    The layout is updated only if the width changes.

    Args:
        label: Label to update.
        text: New text.
        style: Style class that replaces the label's classes, or "".
    """
    before = label.content
    if text != before:
        same = isinstance(before, Content) and before.cell_length == text.cell_length
        label.update(text, layout=not same)
    if style and label.classes != {style}:
        label.set_classes(style)
