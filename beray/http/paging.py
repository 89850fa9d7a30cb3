"""Pagination of lists by the ``Link`` header.

Source: RFC 8288 (Web Linking), RFC 3986, 5 (relative references).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests
from requests.utils import parse_header_links

from beray.exceptions import InvalidResponseError

T = TypeVar("T")
# A path of 4 KiB is three times as long in a query, plus the position in the list.
_MAX_LINK_CHARACTERS: Final = 32 * 1024


def iter_pages(
    fetch: Callable[[Mapping[str, Any] | None], tuple[list[T], dict[str, str] | None]],
    path: str,
    params: Mapping[str, Any] | None,
) -> Iterator[list[T]]:
    """Yield the pages of a list.

    Args:
        fetch: Returns the page of a query, and the query of the next page or ``None``.
        path: Path of the list, for messages.
        params: Query of the first page.

    Raises:
        InvalidResponseError: A page links to a page that was read before.
    """
    seen: set[frozenset[tuple[str, str]]] = set()
    query = params
    while True:
        page, query = fetch(query)
        if query is not None:
            key = frozenset(query.items())
            if key in seen:
                reason = f"the Link to the next page leads back to {dict(query)}"
                raise InvalidResponseError.for_request("GET", path, reason, body="")
            seen.add(key)
        yield page
        if query is None:
            return


def next_query(response: requests.Response, path: str) -> dict[str, str] | None:
    """Return the query of the page after ``response``; ``None`` if it is the last page.

    Raises:
        InvalidResponseError: The link leads to another server or another list.
    """
    header = response.headers.get("Link")
    if not header or len(header) > _MAX_LINK_CHARACTERS:
        return None
    links = parse_header_links(header)
    target = next((link["url"] for link in links if "next" in link.get("rel", "").split()), None)
    if target is None:
        return None
    current = urlsplit(response.url)
    try:
        following = urlsplit(urljoin(response.url, target))
    except ValueError:
        following = urlsplit("")
    # A proxy may serve the list below a prefix that the server does not know.
    same_path = following.path == current.path or (
        following.path and current.path.endswith(following.path)
    )
    if (following.scheme, following.netloc) != (current.scheme, current.netloc) or not same_path:
        raise InvalidResponseError.for_request(
            "GET",
            path,
            f"the Link to the next page leads to {target[:200]!r}, which is not "
            f"{current.path} on the same server",
            body="",
            status_code=response.status_code,
        )
    return dict(parse_qsl(following.query))
