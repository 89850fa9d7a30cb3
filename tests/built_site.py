"""Checks of the built documentation site: links, anchors, and loads from other hosts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

LOADING: Final = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "iframe": ("src", "srcdoc"),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "object": ("data",),
    "embed": ("src",),
    "use": ("href", "xlink:href"),
    "form": ("action",),
}
"""Attributes by which a page loads or sends something without a click on a link."""
_NOT_LOADED: Final = {"canonical", "author", "license"}
"""Values of ``rel`` with which a browser does not load a link."""
_OTHER_HOST: Final = re.compile(r"(?:https?:)?//[\w.-]+\.\w+", re.IGNORECASE)
_CSS_LOAD: Final = re.compile(
    r"(?:@import\s+(?:url\()?|url\()\s*['\"]?((?:https?:)?//[^'\")\s]+)", re.IGNORECASE
)
_UNUSED_LOADS: Final = {
    "https://unpkg.com/mermaid@11/dist/mermaid.min.js": 'class="mermaid"',
    "https://unpkg.com/resize-observer-polyfill": None,
    "https://api.github.com/repos/": 'data-md-component="source"',
    "https://api.github.com/users/": 'data-md-component="source"',
    "https://bit.ly/2s3ChXG": None,
}
"""Addresses in the theme's scripts that are loaded only for a page with this text. None: never; one
is in a message of the search, one for browsers without ``ResizeObserver``, older than 2020."""


class Load(NamedTuple):
    """A load from another host."""

    file: str
    address: str


class Document(HTMLParser):
    """Ids, links and loads of one HTML page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self._in_style = False
        self._in_script = False
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        self.loads += _CSS_LOAD.findall(values.get("style", ""))
        if tag == "style":
            self._in_style = True
        if tag == "script":
            self._in_script = "src" not in values
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in _NOT_LOADED:
            return
        for name in LOADING.get(tag, ()):
            if name in values:
                self.links.append(values[name])
                self.loads += _OTHER_HOST.findall(values[name])

    def handle_endtag(self, tag: str) -> None:
        self._in_style = self._in_style and tag != "style"
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loads += _CSS_LOAD.findall(data)
        if self._in_script:
            self.loads += _OTHER_HOST.findall(data)


class BuiltSite:
    """The pages of a built site."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pages = {
            path: Document(path.read_text("utf-8")) for path in sorted(directory.rglob("*.html"))
        }

    def broken_links(self) -> Iterator[tuple[str, str]]:
        """Yield the page and the target of each link without a target in the site."""
        for path, page in self.pages.items():
            for link in page.links:
                if not self._leads_to_a_target(path, link):
                    yield str(path.relative_to(self.directory)), link

    def _leads_to_a_target(self, path: Path, link: str) -> bool:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            return parts.scheme != "file"
        target = path
        if parts.path:
            # Pages for unknown addresses refer to the root of the server.
            start = self.directory if parts.path.startswith("/") else path.parent
            target = (start / unquote(parts.path).lstrip("/")).resolve()
        if target.is_dir():
            target = target / "index.html"
        if not target.is_file() or not target.is_relative_to(self.directory.resolve()):
            return False
        if not parts.fragment or target.suffix != ".html":
            return True
        page = self.pages[self.directory / target.relative_to(self.directory.resolve())]
        return unquote(parts.fragment) in page.ids

    def loads_from_other_hosts(self) -> Iterator[Load]:
        """Yield the loads of pages, style sheets and scripts from other hosts."""
        for path, page in self.pages.items():
            yield from (Load(self._name(path), address) for address in page.loads)
        for path in sorted(self.directory.rglob("*.css")):
            for address in _CSS_LOAD.findall(path.read_text("utf-8")):
                yield Load(self._name(path), address)
        for path in sorted(self.directory.rglob("*.js")):
            if {"lunr", "search"} & set(path.parts):
                continue  # languages that the search does not load; the text of the pages
            for address in re.findall(r"https?://[\w@./-]+", path.read_text("utf-8")):
                if address not in _UNUSED_LOADS and not _is_comment(path, address):
                    yield Load(self._name(path), address)
        texts = [path.read_text("utf-8") for path in self.pages]
        for address, condition in _UNUSED_LOADS.items():
            if condition is not None and any(condition in text for text in texts):
                yield Load("a page", address)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.directory))


def _is_comment(path: Path, address: str) -> bool:
    """Return True if all occurrences of an address are in comments that keep a licence."""
    text = path.read_text("utf-8")
    comments: list[str] = re.findall(r"/\*[!*].*?\*/|^ ?\*.*$", text, re.S | re.M)
    return sum(comment.count(address) for comment in comments) >= text.count(address)
