"""Colours of component classes, for widgets that draw their own lines."""

from __future__ import annotations

from rich.style import Style
from textual.widget import Widget


def ink(widget: Widget, name: str) -> Style:
    """The foreground of a component class, blended as the stylesheet says, on any background."""
    style = widget.get_component_rich_style(name)
    return Style(color=style.color, bold=style.bold, italic=style.italic)


def paper(widget: Widget, name: str) -> Style:
    """The background of a component class, and whether it is bold."""
    style = widget.get_component_rich_style(name)
    return Style(bgcolor=style.bgcolor, bold=style.bold)
