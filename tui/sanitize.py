"""The dashboard's one gate for text from outside.

Everything that a server, a task or a file says goes through here on its way to a
widget, and comes out as ``Content`` or rich ``Text``: plain, without a character
that a terminal obeys, and in a type that Textual never reads as markup.
"""

from __future__ import annotations

import re
from typing import Any, Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.content import Content

from beray.exceptions import APIError
from beray.sanitize import one_line, printable

LINE_LIMIT: Final = 500
BLOCK_LIMIT: Final = 4000
_CALL = re.compile(r"^(?:[A-Z]+ )?/\S*: ")
"""The call that a failure of the transport is about; a reader did not make it by name."""


def line(text: str, limit: int = LINE_LIMIT, style: str = "") -> Content:
    """``text`` on a single line of at most ``limit`` characters, for a widget to show."""
    return Content.styled(one_line(text, limit), style) if style else Content(one_line(text, limit))


def block(text: str, limit: int = BLOCK_LIMIT) -> Content:
    """``text`` with its line breaks, cut at ``limit`` characters, for a widget to show."""
    shown = printable(text[:limit])
    return Content(shown + "…" if len(text) > limit else shown)


def rich_line(text: str, limit: int = LINE_LIMIT, style: str = "") -> Text:
    """Like ``line``, for the widgets that take rich ``Text``."""
    return Text(one_line(text, limit), style=style, no_wrap=True, end="")


def fitted(text: str, cells: int) -> str:
    """``text`` on one line, cut with an ellipsis or padded to exactly ``cells`` cells."""
    if cells <= 0:
        return ""
    flat = one_line(text, cells + 1)
    if cell_len(flat) <= cells:
        return set_cell_size(flat, cells)
    return set_cell_size(set_cell_size(flat, cells - 1) + "…", cells)


def cells(text: str) -> int:
    """How many cells ``text`` takes, which has passed this gate."""
    return cell_len(text)


def words(error: BaseException) -> str:
    """What to tell a user about ``error``, on one line: the server's own words where it spoke."""
    if isinstance(error, APIError):
        said = _detail(error.error_detail)
        if said:
            return one_line(said)
    return one_line(_CALL.sub("", str(error)[: LINE_LIMIT * 4])) or type(error).__name__


def _detail(detail: Any) -> str:
    if isinstance(detail, str):
        return detail
    if isinstance(detail, list):
        said = [item.get("msg") for item in detail[:5] if isinstance(item, dict)]
        return "; ".join(str(message) for message in said if message)
    return ""


def refused_field(error: BaseException) -> str | None:
    """The name of the field that a validation error of the server is about, if it says."""
    detail = error.error_detail if isinstance(error, APIError) else None
    for item in detail if isinstance(detail, list) else ():
        place = item.get("loc") if isinstance(item, dict) else None
        if isinstance(place, list) and place and isinstance(place[-1], str):
            return place[-1]
    return None
