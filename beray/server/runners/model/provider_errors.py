"""Errors of a model's provider in a few words: its own message, the address, the proxy.

Providers and the proxies before them report errors in many forms. Whatever they send is shortened,
without control characters and without credentials in URLs.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    UnexpectedModelBehavior,
)
from pydantic_ai.models import Model

from beray.sanitize import one_line

MAX_CHARACTERS: Final = 400
"""Length of a description."""
_MAX_BODY: Final = 64 * 1024
_MAX_DEPTH: Final = 6
_MAX_ITEMS: Final = 3
_KEYS: Final = (
    "message", "detail", "details", "error_description", "error_message", "errorMessage",
    "errors", "error", "msg", "title", "reason", "code", "type", "status",
)  # fmt: skip
"""Keys of an error object, the most informative first."""
_TITLE: Final = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<[^>]*>")
_URL: Final = re.compile(r"(?<=://)[^/\s@]+@")
"""Credentials in a URL."""


def described(error: Exception) -> str:
    """Return what happened, in a few words on one line."""
    if isinstance(error, ModelHTTPError):
        said = message_of(error.body)
        phrase = f" ({_phrase(error.status_code)})" if not said else ""
        text = f"HTTP {error.status_code}{phrase}" + (f": {said}" if said else "")
    elif isinstance(error, ModelConnectionError):
        text = _cause(error)
    elif isinstance(error, ModelAPIError):
        text = message_of(error.body) or error.message
    elif isinstance(error, UnexpectedModelBehavior):
        # Without its body, which is all that was received.
        text = ": ".join(filter(None, (error.message, message_of(error.body))))
    else:
        text = str(error)
    return _shown(text).rstrip(".") or type(error).__name__


def place(model: Model) -> str:
    """Return where the requests of a model go: " at URL (through the proxy URL)", or ""."""
    url = model.base_url
    parts = urlsplit(url or "")
    if not url or not parts.hostname:
        return ""
    shown = _shown(_without_credentials(url))
    proxy = _proxy(parts.scheme, parts.hostname)
    return f" at {shown}" + (f" (through the proxy {_shown(proxy)})" if proxy else "")


def message_of(body: object, depth: int = 0) -> str:
    """Return the message in the body of an error: JSON of any form, HTML or plain text."""
    if depth > _MAX_DEPTH:
        return ""
    match body:
        case bytes():
            return message_of(body[:_MAX_BODY].decode("utf-8", "replace"), depth)
        case str():
            return _of_text(body[:_MAX_BODY].strip("\ufeff \t\r\n"), depth)
        case dict():
            return _of_object(body, depth)
        case list() | tuple():
            found = [message_of(item, depth + 1) for item in body[:_MAX_ITEMS]]
            return "; ".join(dict.fromkeys(filter(None, found)))
        case bool() | None:
            return ""
        case int() | float():
            return str(body) if depth else ""
    return ""


def _of_text(text: str, depth: int) -> str:
    if text[:1] in ("{", "["):
        try:
            decoded = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return message_of(decoded, depth + 1) or text
    if text[:1] == "<":
        titles = [_plain(found[2]) for found in _TITLE.finditer(text)]
        return next(filter(None, titles), "") or _plain(text)
    return text


def _of_object(body: dict[Any, Any], depth: int) -> str:
    nested = body.get("error")
    if isinstance(nested, dict | list) and (found := message_of(nested, depth + 1)):
        return found
    said = next(filter(None, (message_of(body.get(key), depth + 1) for key in _KEYS)), "")
    # An item of a validation error names the field.
    if said and isinstance(body.get("msg"), str) and isinstance(body.get("loc"), list | tuple):
        said = f"{'.'.join(map(str, body['loc']))}: {said}"
    # A router passes on the answer of the provider that it has called.
    metadata = body.get("metadata")
    raw = message_of(metadata.get("raw"), depth + 1) if isinstance(metadata, dict) else ""
    return ": ".join(dict.fromkeys(filter(None, (said, raw))))


def _cause(error: BaseException) -> str:
    """Return the reason of a failed connection: that of the operating system, if there is one."""
    chain = list(_chain(error))
    for one in reversed(chain):
        if isinstance(one, OSError) and one.strerror:
            return f"{_shown(str(error)).rstrip('.')}: {one.strerror}"
    texts = [str(one).strip() for one in chain if str(one).strip()]
    return ": ".join(dict.fromkeys([texts[0].rstrip("."), texts[-1]])) if texts else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(20):
        if error is None:
            return
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield error.exceptions[0]
        error = error.__cause__ or error.__context__


def _proxy(scheme: str, host: str) -> str:
    """Return the proxy that the environment names for a host, or ""."""
    if proxy_bypass(host):
        return ""
    proxies = getproxies()
    found = proxies.get(scheme) or proxies.get("all") or ""
    return _without_credentials(found if "://" in found or not found else f"http://{found}")


def _without_credentials(url: str) -> str:
    """Return a URL without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "without a message"


def _plain(markup: str) -> str:
    return " ".join(html.unescape(_TAG.sub(" ", markup)).split())


def _shown(text: str) -> str:
    return one_line(_URL.sub("", text), MAX_CHARACTERS)
