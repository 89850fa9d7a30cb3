"""Colour themes of the dashboard and the choice between them."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Final

from textual.theme import Theme

SETTING: Final = "theme"
"""Name of the setting that stores the user's choice."""

DARK: Final = Theme(
    name="beray",
    primary="#6fb1fc",
    secondary="#9aa7bd",
    accent="#c4a7f5",
    success="#7fd6a4",
    warning="#eac36b",
    error="#f28b82",
    foreground="#d6dde8",
    background="#10141b",
    surface="#151a23",
    panel="#1c232e",
    dark=True,
    variables={
        "footer-key-foreground": "#6fb1fc",
        "block-cursor-text-style": "none",
        "scrollbar": "#2c3645",
        "scrollbar-hover": "#3d4a5e",
        "scrollbar-active": "#6fb1fc",
        "scrollbar-background": "#151a23",
        "scrollbar-background-hover": "#151a23",
        "scrollbar-background-active": "#151a23",
    },
)
LIGHT: Final = Theme(
    name="beray-light",
    primary="#1f6fc4",
    secondary="#5b6878",
    accent="#7a4cc2",
    success="#1c7f4b",
    warning="#93650a",
    error="#b3362c",
    foreground="#1f2630",
    background="#f7f8fa",
    surface="#ffffff",
    panel="#e9edf2",
    dark=False,
    variables={
        "footer-key-foreground": "#1f6fc4",
        "block-cursor-text-style": "none",
        "scrollbar": "#c5cdd8",
        "scrollbar-hover": "#aab4c2",
        "scrollbar-active": "#1f6fc4",
        "scrollbar-background": "#ffffff",
        "scrollbar-background-hover": "#ffffff",
        "scrollbar-background-active": "#ffffff",
    },
)


def initial_theme(remembered: str, known: Container[str], environ: Mapping[str, str]) -> str:
    """Return the name of the initial theme: the saved one, or one that suits the terminal."""
    if remembered in known:
        return remembered
    return LIGHT.name if has_light_background(environ) else DARK.name


def has_light_background(environ: Mapping[str, str]) -> bool:
    """Return True if ``COLORFGBG`` ("text;background") names a light background colour."""
    background = environ.get("COLORFGBG", "").rpartition(";")[2]
    return background in ("7", "9", "10", "11", "12", "13", "14", "15")
