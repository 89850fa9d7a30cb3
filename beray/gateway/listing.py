"""Result of a listing of files: a page as a dictionary, and all URLs as a sequence.

Source: the Gateway wire page. One published document returns a page as a dictionary, the other
the list of all URLs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, SupportsIndex, overload

from beray.gateway.exceptions import InvalidAnswer
from beray.gateway.schema import FileEntry, FilePage

_SCHEME = "s3://"


class FileListing(dict[str, Any]):
    """One page of files by its keys, and the URLs of all files by position.

    With strings it is the dictionary of the page: ``listing["files"]``, ``"next_token" in
    listing``, ``listing.get("next_token")``, ``keys()``, ``==``, JSON. ``next_token`` is missing
    on the last page, also if the gateway sends null.

    As a sequence it has the ``s3://`` URLs of this page and of all that follow it: ``for url in
    listing``, ``len(listing)``, ``listing[0]``, ``listing[:10]``, ``url in listing``, ``index``,
    ``count``, and ``+`` and ``==`` with a list. Further pages are requested when they are needed,
    and raise a ``GatewayError`` like the first one.
    """

    def __init__(self, page: FilePage, next_page: Callable[[str], FilePage]) -> None:
        """
        Args:
            page: The first page.
            next_page: Returns the page of a continuation token.
        """
        super().__init__(page)
        if self.get("files") is None:
            self["files"] = []
        if self.get("next_token") is None:
            self.pop("next_token", None)
        self._next_page = next_page
        self._urls = [entry["s3_url"] for entry in self["files"]]
        self._next_token: str | None = self.get("next_token") or None
        self._tokens: set[str] = set()

    @overload
    def __getitem__(self, key: Literal["files"], /) -> list[FileEntry]: ...

    @overload
    def __getitem__(self, key: Literal["next_token"], /) -> str: ...

    @overload
    def __getitem__(self, key: str, /) -> Any: ...

    @overload
    def __getitem__(self, key: SupportsIndex, /) -> str: ...

    @overload
    def __getitem__(self, key: slice, /) -> list[str]: ...

    def __getitem__(self, key: str | SupportsIndex | slice, /) -> Any:
        if isinstance(key, str):
            return super().__getitem__(key)
        return self._all()[key]

    def __contains__(self, key: object, /) -> bool:
        if isinstance(key, str) and key.startswith(_SCHEME):
            return any(url == key for url in self)
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        position = 0
        while True:
            while position < len(self._urls):
                yield self._urls[position]
                position += 1
            if not self._read_on():
                return

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __eq__(self, other: object) -> bool:
        return self._all() == other if isinstance(other, list) else super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __add__(self, other: Sequence[str]) -> list[str]:
        return [*self, *other]

    def __radd__(self, other: Sequence[str]) -> list[str]:
        return [*other, *self]

    def index(self, url: str, start: int = 0, stop: int = sys.maxsize) -> int:
        """Return the position of a URL.

        Raises:
            ValueError: It is not in the listing.
        """
        return self._all().index(url, start, stop)

    def count(self, url: str) -> int:
        """Return the number of times that a URL is in the listing: 0 or 1."""
        return self._all().count(url)

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy or a pickle is the page alone: the rest needs the client and its credentials.
        return dict, (dict(self.items()),)

    def _all(self) -> list[str]:
        while self._read_on():
            pass
        return self._urls

    def _read_on(self) -> bool:
        """Request the next page; return False after the last one.

        Raises:
            InvalidAnswer: The gateway repeats a page.
        """
        token = self._next_token
        if token is None:
            return False
        if token in self._tokens:
            raise InvalidAnswer("the pages of a listing repeat themselves")
        page = self._next_page(token)
        self._tokens.add(token)
        self._urls += [entry["s3_url"] for entry in page.get("files") or ()]
        self._next_token = page.get("next_token") or None
        return True
