"""Reader for HTML pages. It uses lxml as a stream parser, so deep nesting builds no tree."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, cast

from lxml import etree

from document import Document, ExtractOptions, TextPart, clean, metadata_line
from html_blocks import Blocks

_CHUNK_CHARACTERS = 1 << 16
_IGNORED = (
    {"noscript", "script", "style", "template"}
    | {"button", "datalist", "dialog", "select", "textarea"}
    | {"audio", "canvas", "embed", "iframe", "math", "object", "svg", "video"}
)
_NAVIGATION = {"nav", "aside", "footer"}
_NAVIGATION_ROLES = {"navigation", "complementary", "contentinfo", "search", "banner"}
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input"} | {
    "link",
    "meta",
    "source",
    "track",
    "wbr",
}
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden")
_IGNORED_LINKS = ("javascript:", "data:", "vbscript:", "#")


def open_html(text: str, options: ExtractOptions, problems: list[str]) -> Document:
    """Read a page completely, because its title may be anywhere in it."""
    text = clean(text)
    page = _read(text, options, options.keep_navigation)
    if not page.text and not options.keep_navigation:
        page = _read(text, options, navigation=True)
        if page.text:
            problems.append("all text of the page is in navigation elements; it was kept")
    document = Document("html", _parts(page.text), problems=problems)
    document.title = metadata_line("".join(page.title))
    document.author = metadata_line(page.author)
    return document


def _parts(text: str) -> Iterator[TextPart]:
    for start in range(0, len(text), _CHUNK_CHARACTERS):
        yield TextPart(
            text[start : start + _CHUNK_CHARACTERS],
            fraction=min(1.0, (start + _CHUNK_CHARACTERS) / len(text)),
        )


def _read(text: str, options: ExtractOptions, navigation: bool) -> _Page:
    page = _Page(options, navigation)
    # The stubs of lxml type a parser target for either str or bytes; it is called with str here.
    parser = etree.HTMLParser(target=cast(Any, page), recover=True)
    for start in range(0, len(text), _CHUNK_CHARACTERS):
        parser.feed(text[start : start + _CHUNK_CHARACTERS])
    with suppress(etree.XMLSyntaxError):  # raised for a page without content
        parser.close()
    page.text = page.blocks.text()
    return page


class _Page:
    """Target of lxml's parser, which calls the public methods (lxml: parser target interface)."""

    def __init__(self, options: ExtractOptions, navigation: bool) -> None:
        self.blocks = Blocks(markdown=options.markdown)
        self.title: list[str] = []
        self.author: str | None = None
        self.text = ""
        self._options = options
        self._navigation = navigation
        self._depth = 0
        self._ignored_depth: int | None = None
        """Depth of the element whose content is being ignored; None outside of such elements."""
        self._in_title = False
        self._links: list[str | None] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Handle the start of an element."""
        self._depth += 1
        if self._ignored_depth is not None:
            return
        if tag == "title":
            self._in_title = not self.title
        elif tag == "meta" and attributes.get("name", "").lower() == "author":
            self.author = attributes.get("content")
        elif tag not in _VOID and self._is_ignored(tag, attributes):
            self._ignored_depth = self._depth
        elif tag == "a":
            self._links.append(self._target(attributes))
            if self._links[-1] and self._options.markdown:
                self.blocks.add_text("[")
        elif tag == "img":
            self.blocks.add_text(attributes.get("alt", ""))
        else:
            self.blocks.start(tag)

    def end(self, tag: str) -> None:
        """Handle the end of an element."""
        depth = self._depth
        self._depth -= 1
        if self._ignored_depth is not None:
            if depth <= self._ignored_depth:
                self._ignored_depth = None
        elif tag == "title":
            self._in_title = False
        elif tag == "a":
            target = self._links.pop() if self._links else None
            if target:
                self.blocks.add_text(f"]({target})" if self._options.markdown else f" ({target})")
        else:
            self.blocks.end(tag)

    def data(self, text: str) -> None:
        """Handle text."""
        if self._ignored_depth is not None:
            return
        if self._in_title:
            self.title.append(text)
        else:
            self.blocks.add_text(text)

    def comment(self, text: str) -> None:
        """Ignore a comment."""

    def pi(self, target: str, data: str | None = None) -> None:
        """Ignore a processing instruction."""

    def close(self) -> None:
        """Handle the end of the page."""

    def _is_ignored(self, tag: str, attributes: Mapping[str, str]) -> bool:
        if tag in _IGNORED or "hidden" in attributes:
            return True
        if _HIDDEN.search(attributes.get("style", "").lower()):
            return True
        if self._navigation:
            return False
        return tag in _NAVIGATION or attributes.get("role", "").lower() in _NAVIGATION_ROLES

    def _target(self, attributes: Mapping[str, str]) -> str | None:
        target = attributes.get("href", "").strip()
        if not self._options.keep_links or not target or target.lower().startswith(_IGNORED_LINKS):
            return None
        return re.sub(r"\s", "%20", clean(target)).replace(")", "%29")
