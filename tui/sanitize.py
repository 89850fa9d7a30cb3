"""Conversion of external text to values that are safe to display.

Text from a server, a task or a file passes through this module before a widget shows it. The
result is ``Content`` or rich ``Text`` without control characters; Textual never interprets
either as markup.
"""

from __future__ import annotations

from typing import Any, Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.content import Content

from beray.exceptions import APIError, BeRayException
from beray.sanitize import one_line, printable
from beray.transfers.local_names import on_disk

LINE_LIMIT: Final = 500
BLOCK_LIMIT: Final = 4000
_NOT_IN_NAMES: Final = '\\/:*?"<>|'


def line(text: str, limit: int = LINE_LIMIT, style: str = "") -> Content:
    """Return ``text`` as one line of at most ``limit`` characters."""
    return Content.styled(one_line(text, limit), style) if style else Content(one_line(text, limit))


def block(text: str, limit: int = BLOCK_LIMIT) -> Content:
    """Return ``text`` with its line breaks, cut at ``limit`` characters."""
    shown = printable(text[:limit])
    return Content(shown + "…" if len(text) > limit else shown)


def rich_line(text: str, limit: int = LINE_LIMIT, style: str = "") -> Text:
    """Return the same as ``line``, for widgets that require rich ``Text``."""
    return Text(one_line(text, limit), style=style, no_wrap=True, end="")


def fitted(text: str, cells: int) -> str:
    """Return ``text`` as one line, cut with an ellipsis or padded to exactly ``cells`` cells."""
    if cells <= 0:
        return ""
    flat = one_line(text, cells + 1)
    if cell_len(flat) <= cells:
        return set_cell_size(flat, cells)
    return set_cell_size(set_cell_size(flat, cells - 1) + "…", cells)


def cells(text: str) -> int:
    """Return the number of cells of ``text``, which must be sanitized already."""
    return cell_len(text)


def error_text(error: BaseException) -> str:
    """Return a one-line message for the user; the server's message is preferred."""
    if isinstance(error, APIError):
        text = _detail(error.error_detail) or str(error)
    elif isinstance(error, BeRayException):
        text = error.reason  # does not name the request ("GET /tasks"), unlike the message
    else:
        text = str(error)
    return one_line(text) or type(error).__name__


def _detail(detail: Any) -> str:
    if isinstance(detail, str):
        return detail
    if isinstance(detail, list):
        message = [item.get("msg") for item in detail[:5] if isinstance(item, dict)]
        return "; ".join(str(message) for message in message if message)
    return ""


def invalid_field(error: BaseException) -> str | None:
    """Return the name of the field that a server's validation error refers to, or None."""
    detail = error.error_detail if isinstance(error, APIError) else None
    for item in detail if isinstance(detail, list) else ():
        location = item.get("loc") if isinstance(item, dict) else None
        if isinstance(location, list) and location and isinstance(location[-1], str):
            return location[-1]
    return None


def local_name(path: str) -> str:
    """Return a suggested local name for a file of the server: printable, without a directory."""
    name = one_line(path.rpartition("/")[2], 120)
    name = "".join("_" if letter in _NOT_IN_NAMES else letter for letter in name)
    return on_disk(name) if name.strip(". ") else "download"
