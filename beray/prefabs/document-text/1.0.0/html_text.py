"""HTML, by lxml's parser as a stream of tags: no tree, so depth costs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, cast

from lxml import etree

from document import Document, Part, Wishes, clean, label
from html_blocks import Blocks

_STEP = 1 << 16
_SILENT = (
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
_NO_LINKS = ("javascript:", "data:", "vbscript:", "#")


def open_html(text: str, wishes: Wishes, problems: list[str]) -> Document:
    """A page. Its text is read at once, for its title stands anywhere in it."""
    text = clean(text)
    page = _read(text, wishes, wishes.keep_navigation)
    if not page.text and not wishes.keep_navigation:
        page = _read(text, wishes, navigation=True)
        if page.text:
            problems.append("all of its text is marked as navigation")
    document = Document("html", _parts(page.text), problems=problems)
    document.title = label("".join(page.title))
    document.author = label(page.author)
    return document


def _parts(text: str) -> Iterator[Part]:
    for start in range(0, len(text), _STEP):
        yield Part(text[start : start + _STEP], fraction=min(1.0, (start + _STEP) / len(text)))


def _read(text: str, wishes: Wishes, navigation: bool) -> _Page:
    page = _Page(wishes, navigation)
    # By the stubs, a target is of text or of bytes as it comes; lxml gives text.
    parser = etree.HTMLParser(target=cast(Any, page), recover=True)
    for start in range(0, len(text), _STEP):
        parser.feed(text[start : start + _STEP])
    with suppress(etree.XMLSyntaxError):  # there was nothing in it, as an empty page says too
        parser.close()
    page.text = page.blocks.text()
    return page


class _Page:
    """What the parser tells of a page. Its methods have the names that lxml calls."""

    def __init__(self, wishes: Wishes, navigation: bool) -> None:
        self.blocks = Blocks(markdown=wishes.markdown)
        self.title: list[str] = []
        self.author: str | None = None
        self.text = ""
        self._wishes = wishes
        self._navigation = navigation
        self._depth = 0
        self._silent_from: int | None = None
        """The depth of the element whose content is left out."""
        self._in_title = False
        self._links: list[str | None] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._depth += 1
        if self._silent_from is not None:
            return
        if tag == "title":
            self._in_title = not self.title
        elif tag == "meta" and attributes.get("name", "").lower() == "author":
            self.author = attributes.get("content")
        elif tag not in _VOID and self._is_silent(tag, attributes):
            self._silent_from = self._depth
        elif tag == "a":
            self._links.append(self._target(attributes))
            if self._links[-1] and self._wishes.markdown:
                self.blocks.say("[")
        elif tag == "img":
            self.blocks.say(attributes.get("alt", ""))
        else:
            self.blocks.start(tag)

    def end(self, tag: str) -> None:
        depth = self._depth
        self._depth -= 1
        if self._silent_from is not None:
            if depth <= self._silent_from:
                self._silent_from = None
        elif tag == "title":
            self._in_title = False
        elif tag == "a":
            target = self._links.pop() if self._links else None
            if target:
                self.blocks.say(f"]({target})" if self._wishes.markdown else f" ({target})")
        else:
            self.blocks.end(tag)

    def data(self, text: str) -> None:
        if self._silent_from is not None:
            return
        if self._in_title:
            self.title.append(text)
        else:
            self.blocks.say(text)

    def comment(self, text: str) -> None:
        """A comment says nothing."""

    def pi(self, target: str, data: str | None = None) -> None:
        """An instruction says nothing."""

    def close(self) -> None:
        """All of it has come."""

    def _is_silent(self, tag: str, attributes: Mapping[str, str]) -> bool:
        if tag in _SILENT or "hidden" in attributes:
            return True
        if _HIDDEN.search(attributes.get("style", "").lower()):
            return True
        if self._navigation:
            return False
        return tag in _NAVIGATION or attributes.get("role", "").lower() in _NAVIGATION_ROLES

    def _target(self, attributes: Mapping[str, str]) -> str | None:
        target = attributes.get("href", "").strip()
        if not self._wishes.keep_links or not target or target.lower().startswith(_NO_LINKS):
            return None
        return re.sub(r"\s", "%20", clean(target)).replace(")", "%29")
