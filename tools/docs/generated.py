"""Generated parts of pages.

A paragraph that begins with a comment such as ``<!-- generated: settings -->`` is replaced on the
site. In the repository, the page has this paragraph and its hand-written parts. The names in the
paragraph select the content of some generators.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from tools.docs import (
    api_page,
    command_page,
    errors_page,
    events_page,
    http_api_page,
    settings_page,
)

_GENERATORS: Final[dict[str, Callable[[str], str]]] = {
    "api": api_page.generate,
    "command": lambda _: command_page.generate(),
    "errors": errors_page.generate,
    "events": lambda _: events_page.generate(),
    "http-api": lambda _: http_api_page.generate(),
    "settings": settings_page.generate,
}
_PARAGRAPH: Final = re.compile(r"^<!-- generated: ([a-z-]+) -->\n((?:.+\n)*)", re.M)


def fill_in(markdown: str) -> str:
    """Return ``markdown`` with its generated parts.

    Raises:
        KeyError: No generator has this name.
    """
    return _PARAGRAPH.sub(lambda match: _GENERATORS[match[1]](match[2]), markdown)
