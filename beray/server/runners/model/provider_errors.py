"""One-line descriptions of errors of a model's provider, and of its address.

Providers and proxies report errors in many forms. Descriptions are limited in length and contain
neither control characters nor credentials in URLs.
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
"""Maximum length of a description."""
_MAX_BODY: Final = 64 * 1024
_MAX_DEPTH: Final = 6
_MAX_ITEMS: Final = 3
_KEYS: Final = (
    "message", "detail", "details", "error_description", "error_message", "errorMessage",
    "errors", "error", "msg", "title", "reason", "code", "type", "status",
)  # fmt: skip
"""Keys of an error object that can contain its message, the most informative first."""
_TITLE: Final = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<[^>]*>")
_URL: Final = re.compile(r"(?<=://)[^/\s@]+@")
"""Credentials in a URL."""


def describe(error: Exception) -> str:
    """Return a description of an error on one line."""
    if isinstance(error, ModelHTTPError):
        message = extract_message(error.body)
        phrase = f" ({_phrase(error.status_code)})" if not message else ""
        text = f"HTTP {error.status_code}{phrase}" + (f": {message}" if message else "")
    elif isinstance(error, ModelConnectionError):
        text = _cause(error)
    elif isinstance(error, ModelAPIError):
        text = extract_message(error.body) or error.message
    elif isinstance(error, UnexpectedModelBehavior):
        # str(error) would include the whole response body.
        text = ": ".join(filter(None, (error.message, extract_message(error.body))))
    else:
        text = str(error)
    return _shown(text).rstrip(".") or type(error).__name__


def endpoint(model: Model) -> str:
    """Return the address of a model's provider as " at URL (through the proxy URL)", or ""."""
    url = model.base_url
    parts = urlsplit(url or "")
    if not url or not parts.hostname:
        return ""
    shown = _shown(_without_credentials(url))
    proxy = _proxy(parts.scheme, parts.hostname)
    return f" at {shown}" + (f" (through the proxy {_shown(proxy)})" if proxy else "")


def extract_message(body: object, depth: int = 0) -> str:
    """Return the message in an error body: JSON of any form, HTML or plain text.

    Args:
        body: The body, or a part of it.
        depth: Nesting depth of that part.
    """
    if depth > _MAX_DEPTH:
        return ""
    match body:
        case bytes():
            return extract_message(body[:_MAX_BODY].decode("utf-8", "replace"), depth)
        case str():
            return _extract_from_text(body[:_MAX_BODY].strip("\ufeff \t\r\n"), depth)
        case dict():
            return _extract_from_object(body, depth)
        case list() | tuple():
            messages = [extract_message(item, depth + 1) for item in body[:_MAX_ITEMS]]
            return "; ".join(dict.fromkeys(filter(None, messages)))
        case bool() | None:
            return ""
        case int() | float():
            return str(body) if depth else ""
    return ""


def _extract_from_text(text: str, depth: int) -> str:
    if text[:1] in ("{", "["):
        try:
            decoded = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return extract_message(decoded, depth + 1) or text
    if text[:1] == "<":
        titles = [_plain(found[2]) for found in _TITLE.finditer(text)]
        return next(filter(None, titles), "") or _plain(text)
    return text


def _extract_from_object(body: dict[Any, Any], depth: int) -> str:
    nested = body.get("error")
    if isinstance(nested, dict | list) and (message := extract_message(nested, depth + 1)):
        return message
    message = next(filter(None, (extract_message(body.get(key), depth + 1) for key in _KEYS)), "")
    # An item of a validation error names the field.
    if message and isinstance(body.get("msg"), str) and isinstance(body.get("loc"), list | tuple):
        message = f"{'.'.join(map(str, body['loc']))}: {message}"
    # A router adds the response of the provider that it called.
    metadata = body.get("metadata")
    raw = extract_message(metadata.get("raw"), depth + 1) if isinstance(metadata, dict) else ""
    return ": ".join(dict.fromkeys(filter(None, (message, raw))))


def _cause(error: BaseException) -> str:
    """Return the reason of a failed connection, that of the operating system if available."""
    chain = list(_chain(error))
    for cause in reversed(chain):
        if isinstance(cause, OSError) and cause.strerror:
            return f"{_shown(str(error)).rstrip('.')}: {cause.strerror}"
    messages = [str(cause).strip() for cause in chain if str(cause).strip()]
    return ": ".join(dict.fromkeys([messages[0].rstrip("."), messages[-1]])) if messages else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(20):
        if error is None:
            return
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield error.exceptions[0]
        error = error.__cause__ or error.__context__


def _proxy(scheme: str, host: str) -> str:
    """Return the proxy that the environment configures for a host, or ""."""
    if proxy_bypass(host):
        return ""
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all") or ""
    return _without_credentials(proxy if "://" in proxy or not proxy else f"http://{proxy}")


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
