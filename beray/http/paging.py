"""Lists that a server gives in pages: the ``Link`` to the next one.

Source: RFC 8288 (Web Linking), RFC 3986, 5 (relative references).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests
from requests.utils import parse_header_links

from beray.exceptions import InvalidResponseError

_MAX_LINK_CHARACTERS: Final = 32 * 1024
# A path of 4 KiB in a query is three times as long, and a position in it comes on top.


def next_query(response: requests.Response, path: str) -> dict[str, str] | None:
    """Return the query of the next page of the list that ``response`` is a page of.

    Returns:
        None after the last page.

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
    here = urlsplit(response.url)
    try:
        there = urlsplit(urljoin(response.url, target))
    except ValueError:
        there = urlsplit("")
    # A proxy may serve the list under a longer path than the server knows of.
    is_here = there.path == here.path or (there.path and here.path.endswith(there.path))
    if (there.scheme, there.netloc) != (here.scheme, here.netloc) or not is_here:
        raise InvalidResponseError(
            f"GET {path}: the Link to the next page leads to {target[:200]!r}, which is not "
            f"{here.path} on the same server",
            body="",
            method="GET",
            path=path,
            status_code=response.status_code,
        )
    return dict(parse_qsl(there.query))
