"""Results of file calls that support both published forms.

One published document returns the response to an upload as a dictionary, the other its
``s3_url``. One returns a page of a listing as a dictionary, the other the list of all URLs.

Source: the Gateway wire page.
"""

from __future__ import annotations

import sys
from collections.abc import (
    Callable,
    ItemsView,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from typing import Any, Literal, Self, SupportsIndex, overload

from beray.gateway.exceptions import InvalidAnswer
from beray.gateway.schema import FileEntry, FilePage

_SCHEME = "s3://"


class UploadResult(str):
    """The ``s3://`` URL of an uploaded file, which also has the keys of the response.

    It is a string everywhere, such as in ``files`` of a run and in JSON. Only indexing with a
    key, ``in`` with the name of a key, ``get``, ``keys``, ``values``, ``items`` and ``dict()``
    use the response. Its keys are ``s3_url``, ``filename``, ``size`` (bytes) and ``success``.
    """

    _response: dict[str, Any]

    def __new__(cls, s3_url: str, answer: Mapping[str, Any] | None = None) -> Self:
        """Create a string with the keys of ``answer``.

        Args:
            s3_url: URL of the file.
            answer: Response of the gateway; ``s3_url`` takes precedence over the key in it.
        """
        result = super().__new__(cls, s3_url)
        result._response = {"success": True, **(answer or {}), "s3_url": str(s3_url)}
        return result

    @overload
    def __getitem__(self, key: SupportsIndex | slice, /) -> str: ...

    @overload
    def __getitem__(self, key: Literal["s3_url", "filename"], /) -> str: ...

    @overload
    def __getitem__(self, key: Literal["size"], /) -> int: ...

    @overload
    def __getitem__(self, key: Literal["success"], /) -> bool: ...

    @overload
    def __getitem__(self, key: str, /) -> Any: ...

    def __getitem__(self, key: SupportsIndex | slice | str, /) -> Any:
        return self._response[key] if isinstance(key, str) else super().__getitem__(key)

    def __contains__(self, key: object, /) -> bool:
        return key in self._response or (isinstance(key, str) and super().__contains__(key))

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key of the response, or ``default`` if it is missing."""
        return self._response.get(key, default)

    def keys(self) -> KeysView[str]:
        """Return the keys of the response."""
        return self._response.keys()

    def values(self) -> ValuesView[Any]:
        """Return the values of the response."""
        return self._response.values()

    def items(self) -> ItemsView[str, Any]:
        """Return the keys of the response with their values."""
        return self._response.items()


class FileListing(dict[str, Any]):
    """Page of a file listing by its keys, and the URLs of all files by position.

    Indexed with strings, it is the dictionary of the page: ``listing["files"]``, ``"next_token" in
    listing``, ``listing.get("next_token")``, ``keys()``, ``==``, JSON. ``next_token`` is missing
    on the last page, also if the gateway sends null.

    As a sequence it has the ``s3://`` URLs of this page and of all that follow it: ``for url in
    listing``, ``len(listing)``, ``listing[0]``, ``listing[:10]``, ``url in listing``, ``index``,
    ``count``, and ``+`` and ``==`` with a list. Further pages are requested when they are needed,
    and raise a ``GatewayError`` like the first one.

    Args:
        page: The first page.
        next_page: Requests the page of a continuation token.
    """

    def __init__(self, page: FilePage, next_page: Callable[[str], FilePage]) -> None:
        super().__init__(page)
        if self.get("files") is None:
            self["files"] = []
        if self.get("next_token") is None:
            self.pop("next_token", None)
        self._next_page = next_page
        self._urls = [entry["s3_url"] for entry in self["files"]]
        self._next_token: str | None = self.get("next_token") or None
        self._used_tokens: set[str] = set()

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
        return self._load_all()[key]

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
            if not self._load_next_page():
                return

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._load_all())

    def __len__(self) -> int:
        return len(self._load_all())

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __eq__(self, other: object) -> bool:
        return self._load_all() == other if isinstance(other, list) else super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __add__(self, other: Sequence[str]) -> list[str]:
        return [*self, *other]

    def __radd__(self, other: Sequence[str]) -> list[str]:
        return [*other, *self]

    def index(self, url: str, start: int = 0, stop: int = sys.maxsize) -> int:
        """Return the position of a URL from ``start`` to before ``stop``.

        Raises:
            ValueError: The URL is not in this range.
        """
        return self._load_all().index(url, start, stop)

    def count(self, url: str) -> int:
        """Return the number of occurrences of a URL: 0 or 1."""
        return self._load_all().count(url)

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy or pickle contains this page only: further pages need the client's credentials.
        return dict, (dict(self.items()),)

    def _load_all(self) -> list[str]:
        while self._load_next_page():
            pass
        return self._urls

    def _load_next_page(self) -> bool:
        """Request the next page; return False after the last one.

        Raises:
            InvalidAnswer: The gateway returned the same continuation token twice.
        """
        token = self._next_token
        if token is None:
            return False
        if token in self._used_tokens:
            raise InvalidAnswer("the gateway returned the same continuation token twice")
        page = self._next_page(token)
        self._used_tokens.add(token)
        self._urls += [entry["s3_url"] for entry in page.get("files") or ()]
        self._next_token = page.get("next_token") or None
        return True
